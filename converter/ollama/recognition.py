"""The pattern of a chat template, found by rendering it and proved by rendering it again.

Whatever its source looks like, a template is a function of conversations. Rendered for a few of them with words that
occur nowhere else, it shows what it puts before, between and after the messages; a pattern read off so is kept only if
it gives the same prompts as the template for other conversations, longer and with other contents.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from converter.ollama.chat_format import ChatFormat, Message
from converter.ollama.jinja import MEMORY, SECONDS
from converter.runtime import IsolatedFailure, run_isolated

_ROLES = {"s": "system", "u": "user", "a": "assistant", "t": "assistant"}
_SYSTEM, _FIRST, _ANSWER, _SECOND, _THOUGHT = "systemwordqz", "firstwordqz", "answerwordqz", "secondwordqz", "thoughtqz"
_PROOF = {
    "s": "Answer in one sentence.\nQuote \"{{ names }}\" with 'care'.",
    "u": "Which of the two is the larger: 9.11 or 9.9?\n\n\tSay <why>.",
    "a": "9.9 is {larger}; 9.90 > 9.11.",
    "t": "Compare 0.90 with 0.11.",
}
_TOOL = {
    "type": "function",
    "function": {
        "name": "larger",
        "description": "The larger of two.",
        "parameters": {"type": "object", "properties": {"a": {"type": "number", "description": "One."}}},
    },
}
#: Conversations by the initials of their roles that a pattern must render as the template does.
_PROVED = ("u", "uau", "uauau", "uauauau", "su", "suau", "suauau")


@dataclass(frozen=True)
class Recognition:
    """What became of a chat template.

    Attributes:
        chat: the pattern, proved; None where the template follows none.
        reason: one clause, why there is none.
        remarks: what a user should know about it, one sentence each.
    """

    chat: ChatFormat | None
    reason: str = ""
    remarks: tuple[str, ...] = ()


def recognise(template: str, special: dict[str, str], added: str) -> Recognition:
    """Find the pattern of a chat template.

    Args:
        template: Jinja's source.
        special: names to texts of the special tokens, such as ``bos_token``.
        added: text of the token that the tokenizer puts before every prompt, else empty.
    """
    jobs = _Jobs()
    shapes = {
        "u": jobs.add(_probe("u")), "su": jobs.add(_probe("su")),
        "uau": jobs.add(_probe("uau")), "suau": jobs.add(_probe("suau")),
        "u.": jobs.add(_probe("u"), False), "ua.": jobs.add(_probe("ua"), False), "ut.": jobs.add(_probe("ut"), False),
        "silent": jobs.add(_probe("u"), enable_thinking=False), "tools": jobs.add(_probe("u"), tools=[_TOOL]),
        "dropped": jobs.add([*_probe("u"), _said("a", f"{_THOUGHT}</think>{_ANSWER}"), _said("u", _SECOND)]),
    }  # fmt: skip
    proofs = {shape: jobs.add(_conversation(shape)) for shape in _PROVED}
    silent = jobs.add(_conversation("uauau"), enable_thinking=False)
    try:
        result = run_isolated("converter.ollama.jinja:render", template=template, variables=special, jobs=jobs.jobs)
    except IsolatedFailure:
        return Recognition(None, f"it does not render within {SECONDS} seconds and {MEMORY >> 30} GB")
    if result["error"]:
        return Recognition(None, result["error"])
    texts = [text and text.removeprefix(added) for text in result["texts"]]
    probed = {name: texts[job] for name, job in shapes.items()}
    if _SYSTEM not in (probed["su"] or ""):
        probed["su"] = None  # refused or passed over
    chat = _read(probed)
    if chat is None:
        return Recognition(None, "its prompts do not follow one pattern of turns")
    if chat.unthinking is not None and chat.render(_conversation("uauau"), think=False) != texts[silent]:
        chat = replace(chat, unthinking=None)
    for shape, job in proofs.items():
        if "s" in shape and probed["su"] is None:
            continue
        if chat.render(_conversation(shape)) != texts[job]:
            roles = ", ".join(_ROLES[letter] for letter in shape)
            return Recognition(None, f"its prompts do not follow one pattern of turns: it differs for {roles}")
    remarks = []
    if probed["su"] is None:
        remarks.append("The model's chat template takes no system message; one is put before the first user's.")
    if probed["tools"] not in (None, probed["u"]):
        remarks.append(
            "The model's chat template knows tools, which TEMPLATE leaves out: for them Ollama uses the former, in "
            "the GGUF itself, from version 0.30 on."
        )
    if result["dated"]:
        remarks.append("The model's chat template writes the day's date; here it is the day this was made.")
    return Recognition(chat, remarks=tuple(remarks))


class _Jobs:
    def __init__(self) -> None:
        self.jobs: list[dict[str, Any]] = []

    def add(self, messages: list[Message], generate: bool = True, **options: Any) -> int:
        self.jobs.append({"messages": messages, "add_generation_prompt": generate, **options})
        return len(self.jobs) - 1


def _said(role: str, content: str) -> Message:
    return {"role": _ROLES[role], "content": content}


def _probe(shape: str) -> list[Message]:
    """A conversation whose contents are found again in the prompt."""
    words = iter((_FIRST, _SECOND))
    contents = {"s": _SYSTEM, "a": _ANSWER, "t": _ANSWER}
    messages = [_said(role, next(words) if role == "u" else contents[role]) for role in shape]
    if shape.endswith("t"):
        messages[-1]["reasoning_content"] = _THOUGHT
    return messages


def _conversation(shape: str) -> list[Message]:
    return [_said(role, f"{_PROOF[role]} ({number})") for number, role in enumerate(shape)]


def _read(texts: dict[str, str | None]) -> ChatFormat | None:
    """The pattern that the probes show; None where they show none."""
    alone, talk = _cut(texts["u"], _FIRST), _cut(texts["uau"], _FIRST, _ANSWER, _SECOND)
    if alone is None or talk is None or talk[0] != alone[0] or talk[3] != alone[1]:
        return None
    head, tail = alone
    # Without a generation prompt a text ends where a turn does; templates that have none end there anyway.
    unanswered, answered = _cut(texts["u."], _FIRST), _cut(texts["ua."], _FIRST, _ANSWER)
    user_after = _common_prefix(talk[1], tail, unanswered[1] if unanswered else tail)
    assistant_after = _common_prefix(talk[2], answered[2] if answered else "")
    user_before = talk[2].removeprefix(assistant_after)
    first_user = _common_suffix(head, user_before)
    plain = ChatFormat(
        place="turn",
        system_before="",
        system_after="",
        no_system=head.removesuffix(first_user),
        first_user=first_user,
        user_before=user_before,
        user_after=user_after,
        assistant_before=talk[1].removeprefix(user_after),
        assistant_after=assistant_after,
        generation=tail.removeprefix(user_after),
    )
    chat = _with_system(plain, head, texts)
    return chat and _with_thinking(chat, texts)


def _with_system(chat: ChatFormat, head: str, texts: dict[str, str | None]) -> ChatFormat | None:
    if texts["su"] is None:
        return replace(chat, place="first", system_before=head, system_after="\n\n")
    told, talk = _cut(texts["su"], _SYSTEM, _FIRST), _cut(texts["suau"], _SYSTEM, _FIRST, _ANSWER, _SECOND)
    if told is None:
        return None
    if talk is None:
        late = _cut(texts["suau"], _FIRST, _ANSWER, _SYSTEM, _SECOND)
        if late is None or not told[0].startswith(head):
            return None
        return replace(chat, place="last", system_before=told[0].removeprefix(head), system_after=told[1])
    if chat.first_user and told[1].endswith(chat.first_user):
        return replace(chat, system_before=told[0], system_after=told[1].removesuffix(chat.first_user))
    return replace(chat, place="first", system_before=told[0], system_after=told[1])


def _with_thinking(chat: ChatFormat, texts: dict[str, str | None]) -> ChatFormat:
    """With the marks around thoughts: those the template writes, or those of the answers whose thoughts it drops."""
    silent = _cut(texts["silent"], _FIRST)
    after = silent[1].removeprefix(chat.user_after) if silent else chat.generation
    if after != chat.generation:
        chat = replace(chat, unthinking=after)
    thoughts = _cut(texts["ut."], _FIRST, _THOUGHT, _ANSWER)
    begins = chat.user_after + chat.assistant_before
    if thoughts is not None and thoughts[1].startswith(begins) and thoughts[3] == chat.assistant_after:
        marks = (thoughts[1].removeprefix(begins), thoughts[2])
        return replace(chat, thinking=marks) if marks[0].strip() and marks[1].strip() else chat
    drops = texts["dropped"] is not None and _THOUGHT not in texts["dropped"]
    if drops or "<think>" in f"{chat.generation}{chat.unthinking}":
        return replace(chat, thinking=("<think>\n", "\n</think>\n\n"))
    return chat


def _cut(text: str | None, *words: str) -> list[str] | None:
    """What stands around the words, each of which must be there once and in this order."""
    parts: list[str] = []
    if text is None or any(text.count(word) != 1 for word in words):
        return None
    for word in words:
        before, found, text = text.partition(word)
        if not found:
            return None
        parts.append(before)
    return [*parts, text]


def _common_prefix(*texts: str) -> str:
    length = 0
    while all(len(text) > length for text in texts) and len({text[length] for text in texts}) == 1:
        length += 1
    return texts[0][:length]


def _common_suffix(one: str, other: str) -> str:
    return _common_prefix(one[::-1], other[::-1])[::-1]
