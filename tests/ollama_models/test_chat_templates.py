"""Templates for Ollama give the prompts that transformers gives for the chat templates they come from."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ollama_models.chat_templates import FAMILIES, SPECIAL
from ollama_models.text_template import TODAY, render, values

from converter.ollama.go_template import go_template
from converter.ollama.recognition import recognise

SAMPLE = Path(__file__).parents[1] / "fixtures" / "sample"
Message = dict[str, str]
Prompt = Callable[..., str]

SYSTEM, *TALK = (
    {"role": role, "content": content}
    for role, content in (
        ("system", "You speak like {{ .Role }}.\n\nBriefly."),
        ("user", "What is 3 - 1?"),
        ("assistant", 'Two, or "2".'),
        ("user", "And {{- 2 -}} more?\n\nSay <|why|>."),
        ("assistant", "Four"),
        ("user", "Thanks ▁ 谢谢"),
    )
)
CONVERSATIONS = {
    "one question": TALK[:1],
    "a talk": TALK[:3],
    "a longer talk": TALK,
    "system, question": [SYSTEM, TALK[0]],
    "system, talk": [SYSTEM, *TALK[:3]],
    "system, longer talk": [SYSTEM, *TALK],
}
WITHOUT_SYSTEM = ("gemma", "mistral v0.1", "orion")


@pytest.fixture(scope="module")
def prompt() -> Prompt:
    """transformers' prompt of a conversation, less the token that the tokenizer adds by itself."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(SAMPLE)

    def apply(template: str, messages: list[Message], **options: Any) -> str:
        options = {"add_generation_prompt": "continue_final_message" not in options, **SPECIAL, **options}
        text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, **options)
        assert isinstance(text, str)
        return text.removeprefix("<s>")

    return apply


@cache
def templated(source: str) -> str:
    """The template for Ollama."""
    found = recognise(source, SPECIAL, SPECIAL["bos_token"])
    assert found.chat is not None, found.reason
    return go_template(found.chat)


@pytest.mark.parametrize("family", FAMILIES)
def test_family_renders_as_in_transformers(family: str, prompt: Prompt) -> None:
    source = FAMILIES[family]
    template = templated(source)
    for name, messages in CONVERSATIONS.items():
        if family in WITHOUT_SYSTEM and messages[0] is SYSTEM:
            continue
        expected = prompt(source, messages, **({"date_string": "26 Jul 2024"} if family == "llama3.2" else {}))
        expected = expected.replace(f"{datetime.now():%Y-%m-%d}", TODAY)
        assert render(template, values(messages)) == expected, name


@pytest.mark.parametrize("family", FAMILIES)
def test_answer_that_goes_on(family: str, prompt: Prompt) -> None:
    """A conversation that ends with an answer is left open, for the model to go on with it."""
    source = FAMILIES[family]
    expected = prompt(source, TALK[:4], continue_final_message=True, date_string="26 Jul 2024")
    expected = expected.replace(f"{datetime.now():%Y-%m-%d}", TODAY)
    assert render(templated(source), values(TALK[:4])) == expected


@pytest.mark.parametrize("family", WITHOUT_SYSTEM)
def test_system_message_that_the_model_does_not_know(family: str, prompt: Prompt) -> None:
    """It goes before the first question; the source refuses it, and a remark says so."""
    source = FAMILIES[family]
    folded = [{"role": "user", "content": f"{SYSTEM['content']}\n\n{TALK[0]['content']}"}, *TALK[1:]]
    assert render(templated(source), values([SYSTEM, *TALK])) == prompt(source, folded)
    (remark,) = recognise(source, SPECIAL, "<s>").remarks
    assert "takes no system message" in remark


def test_thinking_turned_off_and_taken_up(prompt: Prompt) -> None:
    source = FAMILIES["qwen3"]
    template = templated(source)
    assert render(template, values(TALK, think=False)) == prompt(source, TALK, enable_thinking=False)
    assert render(template, values(TALK, think=True)) == prompt(source, TALK, enable_thinking=True)
    thought = [TALK[0], {"role": "assistant", "content": "2", "reasoning_content": "3 - 1, so"}]
    assert render(template, values(thought)) == prompt(source, thought, continue_final_message=True)


def test_thoughts_are_told_apart_where_the_source_drops_them() -> None:
    assert "{{ if and $last .Thinking }}<think>\n{{ .Thinking }}\n</think>\n\n{{ end }}" in templated(
        FAMILIES["deepseek r1"]
    ).replace("{{- if", "{{ if")


def test_several_system_messages_and_one_in_the_middle(prompt: Prompt) -> None:
    """Ollama joins them; no message is lost and none said twice."""
    second = {"role": "system", "content": "Rhyme."}
    joined = {"role": "system", "content": f"{SYSTEM['content']}\n\nRhyme."}
    for family in ("chatml", "llama2", "mistral v3"):
        source = FAMILIES[family]
        expected = prompt(source, [joined, *TALK])
        assert render(templated(source), values([SYSTEM, second, *TALK])) == expected
        assert render(templated(source), values([SYSTEM, *TALK[:2], second, *TALK[2:]])) == expected


def test_date_of_the_day_in_another_form(prompt: Prompt) -> None:
    source = "{{ 'Today is ' + strftime_now('%d %B %Y') + '.\\n' }}" + FAMILIES["chatml"]
    found = recognise(source, SPECIAL, "")
    assert found.chat is not None
    assert render(go_template(found.chat), values(TALK)) == prompt(source, TALK)
    (remark,) = found.remarks
    assert "the day this was made" in remark


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{% for m in messages %}{{ m.content }}", "it is not valid Jinja: Unexpected end of template"),
        ("{{ raise_exception('No chat here') }}", "it renders nothing: No chat here"),
        ("Hello!", "do not follow one pattern of turns"),
        ("{{ messages[-1].content }}", "do not follow one pattern of turns"),
        ("{% for m in messages %}{{ loop.index ~ m.role ~ ': ' ~ m.content }}\n{% endfor %}", "one pattern of turns"),
        ("{% for m in messages %}{{ m.role ~ m.content | length ~ m.content }}{% endfor %}", "it differs for user"),
        ("{% for m in messages %}{{ m.role ~ (m.content | upper) }}{% endfor %}", "one pattern of turns"),
        ("{{ messages.__class__.__mro__ }}", "it renders nothing: access to attribute '__class__'"),
        ("{% for i in range(10**9) %}{% endfor %}", "it renders nothing: Range too big"),
        ("{{ 'x' * 10**10 }}", "it renders nothing: MemoryError"),
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "it does not render within 3 seconds and 2 GB",
        ),
        ("{{ raise_exception('Red \\x1b[31m') }}", "it renders nothing: Red  [31m"),
        ("{% include '/etc/passwd' %}", "it renders nothing"),
    ],
)
def test_template_without_a_pattern(source: str, reason: str) -> None:
    found = recognise(source, SPECIAL, "")
    assert found.chat is None
    assert reason in found.reason


def test_tools_are_left_to_the_chat_template() -> None:
    source = "{% if tools %}{{ tools | tojson(indent=2) }}{% endif %}" + FAMILIES["chatml"]
    (remark,) = recognise(source, SPECIAL, "").remarks
    assert "knows tools, which TEMPLATE leaves out" in remark
    assert not recognise(FAMILIES["chatml"], SPECIAL, "").remarks


def test_generation_blocks_and_loop_controls(prompt: Prompt) -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'tool' %}{% continue %}{% endif %}<{{ m.role }}>"
        "{% generation %}{{ m.content }}{% endgeneration %};{% endfor %}{{ '<assistant>' if add_generation_prompt }}"
    )
    assert render(templated(source), values([SYSTEM, *TALK])) == prompt(source, [SYSTEM, *TALK])
