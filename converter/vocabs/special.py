"""Special tokens and what is added around a text, as llama.cpp's converter reads them."""

from __future__ import annotations

from typing import Any

from converter.vocabs.files import TokenizerFiles, expect
from converter.vocabs.token_ids import ROLES, read_token_ids, text_of


def special_tokens(files: TokenizerFiles, vocab_size: int) -> tuple[dict[str, int], dict[str, bool]]:
    """Which token plays which part, and which of them are added around every text.

    The ids come from tokenizer_config.json (a text, looked up among the added tokens), else from config.json. What is
    added around a text is what the post-processor of tokenizer.json says; without tokenizer.json, what
    tokenizer_config.json says. This is what ``SpecialVocab`` of llama.cpp's gguf-py does, and what transformers obeys.

    Args:
        files: the tokenizer's files.
        vocab_size: ids from there on do not exist.

    Returns:
        Role (``bos``, ``eos``, …) to token id, and role to whether it is added (absent where the files do not say).
    """
    names = {role: name for role in ROLES if (name := text_of(files.settings.get(f"{role}_token")))}
    flags: dict[str, bool] = {}
    if files.tokenizer:
        names.setdefault("bos", names.get("cls", ""))
        names.setdefault("eos", names.get("sep", ""))
        for processor in _processors(files):
            if reader := _READERS.get(str(processor.get("type"))):
                reader(processor, names, flags)
        flags.setdefault("bos", False)
    for role in ROLES:
        if isinstance(given := files.settings.get(f"add_{role}_token"), bool):
            flags.setdefault(role, given and not (files.tokenizer and role in ("bos", "eos")))

    ids: dict[str, int] = {}
    by_text = {token.content: token.id for token in reversed(files.added_tokens)}
    configured = read_token_ids(files, vocab_size).roles
    for role in (*ROLES, *(extra for extra in ("eot", "eom") if extra in names)):
        named = by_text.get(names.get(role, ""), vocab_size)
        token_id = named if named < vocab_size else configured.get(role)
        if token_id is not None:
            ids[role] = token_id
    return ids, flags


def _processors(files: TokenizerFiles) -> list[dict[str, Any]]:
    where = f"{files.tokenizer_file}: post_processor"
    outer = expect(files.tokenizer.get("post_processor") or {}, dict, where)
    inner = expect(outer.get("processors", [outer]), list, f"{where}.processors")
    return [expect(processor, dict, where) for processor in inner]


def _adds_nothing(_: dict[str, Any], names: dict[str, str], flags: dict[str, bool]) -> None:
    flags.setdefault("bos", False)
    flags.setdefault("eos", False)


def _read_roberta(processor: dict[str, Any], names: dict[str, str], flags: dict[str, bool]) -> None:
    flags.update(bos=True, eos=True, sep=True)
    for role, place in (("cls", "bos"), ("sep", "eos")):
        pair = processor.get(role)
        if isinstance(pair, list) and pair and isinstance(pair[0], str):
            names.setdefault(role, pair[0])
            names[place] = names.get(place) or pair[0]


def _read_template(processor: dict[str, Any], names: dict[str, str], flags: dict[str, bool]) -> None:
    """``[bos] A [eos]`` for one text and ``[bos] A [sep] B [eos]`` for two; anything else shows in the proof."""
    single, pair = (_pieces(processor.get(key)) for key in ("single", "pair"))
    first = single[0][1] if len(single) > 1 and single[0][0] == "SpecialToken" else ""
    last = single[-1][1] if len(single) > 1 and single[-1][0] == "SpecialToken" else ""
    if first:
        if not names.get("bos"):
            names["bos"] = first
        flags["bos"] = first in (names["bos"], names.get("cls"))
    if last:
        if names.get("eos") and names["eos"] != last:
            # The text ends with another token than a turn does: the turn's end is kept beside it.
            names["eom" if "eot" in names else "eot"] = names["eos"]
        names["eos"] = last
        flags["eos"] = True

    stop = -1 if last and pair and pair[-1] == ("SpecialToken", last) else len(pair)
    pair = pair[1 if first and pair and pair[0] == ("SpecialToken", first) else 0 : stop]
    between = pair[1:-1]
    if between and pair[0] == ("Sequence", "A") and pair[-1] == ("Sequence", "B"):
        ends = (names.get("sep"), names.get("eos"))
        flags["sep"] = (not last and between[0][1] in ends) or (len(between) == 2 and between[1][1] in ends)
        if flags["sep"] and names.get("eos"):
            names.setdefault("sep", names["eos"])


def _pieces(template: Any) -> list[tuple[str, str]]:
    """Pieces of a template: ("SpecialToken", text) or ("Sequence", "A" or "B")."""
    pieces = []
    for piece in template if isinstance(template, list) else []:
        for kind, body in piece.items() if isinstance(piece, dict) else ():
            pieces.append((str(kind), str(body.get("id", "")) if isinstance(body, dict) else ""))
    return pieces


_READERS = {
    "ByteLevel": _adds_nothing,
    "RobertaProcessing": _read_roberta,
    "TemplateProcessing": _read_template,
}
