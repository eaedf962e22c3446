"""Tokens that end a reply, and those that mark the parts of a text to be filled in.

llama.cpp has one token for the end of a text (eos), one for the end of a turn (eot) and one for the end of a message
(eom). Beside these it stops at tokens whose text it knows (``src/llama-vocab.cpp``); others it must be told.
"""

from __future__ import annotations

from collections.abc import Sequence

from converter.vocabs.vocabulary import Vocabulary

# fmt: off
END_OF_TURN = frozenset({
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<EOT>", "_<EOT>", "▁<EOT>", "[EOT]", "<end_of_utterance>",
    "<turn|>",
})
END_OF_MESSAGE = frozenset({"<|eom_id|>"})
# Where llama.cpp stops by itself; of the others above it does not know ``▁<EOT>``.
KNOWN_ENDS = (END_OF_TURN - {"▁<EOT>"}) | END_OF_MESSAGE | {
    "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<|endoftext|>", "</s>", "[EOS]", "<|end_of_text|>", "<eos>",
    "<|tool_response>", "<｜end▁of▁sentence｜>", "[e~[",
}
# A text is filled in between a prefix and a suffix: by role, how the tokens of the known vocabularies are spelled.
FILL_IN_THE_MIDDLE = {
    "fim_pre": ("<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>",
                "<|code_prefix|>", "<|prefix|>", "[PREFIX]"),
    "fim_suf": ("<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>",
                "<|code_suffix|>", "<|suffix|>", "[SUFFIX]"),
    "fim_mid": ("<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>",
                "<|code_middle|>", "<|middle|>", "[MIDDLE]"),
    "fim_pad": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>"),
    "fim_rep": ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<repo_name>", "<REPO>", "<reponame>"),
    "fim_sep": ("<|file_sep|>", "<file_sep>"),
}
# fmt: on
#: Texts that are special tokens for llama.cpp whatever the file calls them.
SPECIAL_BY_TEXT = KNOWN_ENDS | {text for spellings in FILL_IN_THE_MIDDLE.values() for text in spellings}


def fill_in_the_middle(vocabulary: Vocabulary) -> dict[str, int]:
    """Role to id, where the vocabulary has a prefix, a suffix and a middle."""
    texts = {text for spellings in FILL_IN_THE_MIDDLE.values() for text in spellings} | {"▁<EOT>"}
    places = {text: token_id for token_id, text in enumerate(vocabulary.tokens) if text in texts}
    ids = {}
    for role, spellings in FILL_IN_THE_MIDDLE.items():
        found = next((places[text] for text in spellings if text in places), None)
        if found is not None:
            ids[role] = found
    if not {"fim_pre", "fim_suf", "fim_mid"} <= set(ids):
        return {}
    # CodeLlama ends what it filled in with a token of its own.
    return ids | ({"eot": places["▁<EOT>"]} if "▁<EOT>" in places else {})


def end_tokens(ends: Sequence[int], vocabulary: Vocabulary) -> tuple[dict[str, int], list[str]]:
    """Places for the end tokens that generation_config.json, or else config.json, lists beside the first.

    Args:
        ends: ids of the tokens listed (``TokenIds.ends``).
        vocabulary: where some have a place already.

    Returns:
        Role (``eos``, ``eot``, ``eom``) to id, and a sentence for those that llama.cpp has no place for.
    """
    taken = dict(vocabulary.special_ids)
    new: dict[str, int] = {}
    if ends and "eos" not in taken:
        new["eos"] = ends[0]
    further = [token_id for token_id in ends if token_id not in (taken | new).values()]
    unplaced = []
    # Those with a role of their own first.
    for token_id in sorted(further, key=lambda token_id: vocabulary.tokens[token_id] not in KNOWN_ENDS):
        text = vocabulary.tokens[token_id]
        roles = ["eot"] * (text in END_OF_TURN) + ["eom"] * (text in END_OF_MESSAGE)
        free = [role for role in roles or ["eot", "eom"] if role not in taken | new]
        if roles or text not in KNOWN_ENDS:
            if free:
                new[free[0]] = token_id
            elif text not in KNOWN_ENDS:
                unplaced.append(text)
    named = ", ".join(map(repr, unplaced))
    return new, [f"llama.cpp has no place for so many end tokens: it does not stop at {named}"] if unplaced else []
