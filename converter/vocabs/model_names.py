"""Names of models by which llama.cpp looks for tokens, and does not load a file without them.

It gives tokens of Phi-3 marks of their own wherever ``general.name`` says so (``llama_vocab::impl::load``), and looks
them up unasked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

#: What a lower-cased name has, and the tokens that llama.cpp then looks for.
_NAME = re.compile(r"(phi)-?(3)", re.IGNORECASE)
_TOKENS = ("</s>", "<unk>", "<s>", "<|endoftext|>")


def name_that_loads(name: str, tokens: Callable[[], Iterable[str]]) -> tuple[str, str]:
    """``general.name`` as llama.cpp loads it, and a sentence about the change; the name itself and none where it does.

    Args:
        name: what the model is called.
        tokens: gives the texts of the vocabulary, where they matter.
    """
    if not _NAME.search(name):
        return name, ""
    known = set(tokens())
    missing = [text for text in _TOKENS if text not in known]
    if not missing:
        return name, ""
    other = _NAME.sub(r"\1 \2", name)
    return other, (
        f"general.name is {other!r}: under the name {name!r} llama.cpp looks for {', '.join(missing)}, which the "
        "vocabulary does not have, and does not load the file"
    )
