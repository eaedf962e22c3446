"""The pattern of a chat: the text before, between and after its messages, apart from any template language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Message = dict[str, str]
"""``role`` (system, user, assistant), ``content`` and, with an answer, perhaps ``reasoning_content``."""

Place = Literal["turn", "first", "last"]


@dataclass(frozen=True)
class ChatFormat:
    """What surrounds the messages of a conversation. No text includes the token that the tokenizer adds by itself.

    Attributes:
        place: where the system message goes: a ``turn`` of its own, or into the ``first`` or the ``last`` user's.
        system_before: text before the system message. In the first user's turn, from the beginning of the prompt; in
            the last user's, after that turn's own beginning.
        system_after: text after it.
        no_system: what the prompt begins with, before the first turn, where there is no system message.
        first_user: before the first user's message.
        user_before: before any later one; the two differ where a conversation begins unlike it goes on.
        user_after: after a user's message.
        assistant_before: before an answer given.
        assistant_after: after it; left off where it is last, for the model to go on with it.
        generation: after the last user's message, for the model to answer.
        unthinking: the same when thinking is turned off; None where that changes nothing.
        thinking: text before and after the thoughts of an answer; None where the model has none.
    """

    place: Place
    system_before: str
    system_after: str
    no_system: str
    first_user: str
    user_before: str
    user_after: str
    assistant_before: str
    assistant_after: str
    generation: str
    unthinking: str | None = None
    thinking: tuple[str, str] | None = None

    def render(self, messages: Sequence[Message], *, think: bool = True) -> str:
        """The prompt of a conversation, ready for the model to answer or to go on with its last answer.

        System messages count as one, wherever they stand.
        """
        system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
        turns = [message for message in messages if message["role"] != "system"]
        begun = f"{self.system_before}{system}{self.system_after}" if system and self.place != "last" else None
        text = "" if self.place == "first" else begun or self.no_system
        first = True
        for message in turns:
            last = message is turns[-1]
            if message["role"] == "user":
                text += self._before_user(system, begun, first=first, last=last) + message["content"] + self.user_after
                first = False
            else:
                text += self.assistant_before
                if last and self.thinking is not None and "reasoning_content" in message:
                    text += message["reasoning_content"].join(self.thinking)
                text += message["content"] + ("" if last else self.assistant_after)
        if turns and turns[-1]["role"] == "user":
            text += self.generation if think or self.unthinking is None else self.unthinking
        return text

    def _before_user(self, system: str, begun: str | None, *, first: bool, last: bool) -> str:
        if self.place == "first" and first:
            return begun or self.no_system + self.first_user
        before = self.first_user if first else self.user_before
        if self.place == "last" and last and system:
            before += f"{self.system_before}{system}{self.system_after}"
        return before
