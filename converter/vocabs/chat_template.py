"""The chat templates that transformers would use for the same files."""

from __future__ import annotations

from typing import Any

from converter.vocabs.files import TokenizerFiles, expect, read_object, read_text

DEFAULT = "default"


def chat_templates(files: TokenizerFiles) -> dict[str, str]:
    """Chat templates by name; ``default`` is the one used when none is asked for.

    Templates in files of their own (chat_template.jinja, additional_chat_templates/NAME.jinja) replace all of those in
    tokenizer_config.json, which are one text, a list of names and texts, or an object. That is the order of
    ``PreTrainedTokenizerBase`` in transformers; llama.cpp's own converter prefers tokenizer_config.json, which is older
    wherever both exist. chat_template.json is a processor's, and counts where the tokenizer has no template.

    Raises:
        VocabularyError: a template is no text.
    """
    own = _files_of_their_own(files)
    if own:
        return own
    if (given := files.settings.get("chat_template")) is not None:
        return _named(given, f"{files.directory / 'tokenizer_config.json'}: chat_template")
    path = files.directory / "chat_template.json"
    if (given := read_object(path).get("chat_template")) is not None:
        return _named(given, f"{path}: chat_template")
    return {}


def _files_of_their_own(files: TokenizerFiles) -> dict[str, str]:
    main = {DEFAULT: files.directory / "chat_template.jinja"}
    others = sorted((files.directory / "additional_chat_templates").glob("*.jinja"))
    texts = {name: read_text(path) for name, path in (main | {path.stem: path for path in others}).items()}
    return {name: text for name, text in texts.items() if text is not None}


def _named(given: Any, where: str) -> dict[str, str]:
    if isinstance(given, str):
        return {DEFAULT: given}
    if isinstance(given, dict):
        return {name: expect(text, str, f"{where}.{name}") for name, text in given.items()}
    templates = {}
    for number, entry in enumerate(expect(given, list, where)):
        named = expect(entry, dict, f"{where}[{number}]")
        name, text = (expect(named.get(key), str, f"{where}[{number}].{key}") for key in ("name", "template"))
        templates[name] = text
    return templates
