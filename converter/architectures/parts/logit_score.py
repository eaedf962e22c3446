"""Decoders that rank texts by how likely they answer yes, as Qwen3-Reranker does.

sentence-transformers writes the two answers' tokens into the configuration of a ``LogitScore`` module. Qwen's own
checkpoints hold no such file: their model card's title says what they are, and their tokenizer which tokens these are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.architectures.parts.pooling import MODULES, configuration, kind_of, rank_key_values, read_modules
from converter.architectures.target import Operation, Piece, TargetTensor, row_run
from converter.errors import CheckpointError
from converter.gguf.key_values import KeyValue, string
from converter.sources.source_file import SourceFile, quoted, read_json_object

CARD = "README.md"
TITLE = re.compile(rb"^# Qwen3-Reranker\b", re.MULTILINE | re.IGNORECASE)
ANSWERS = ("yes", "no")

#: The prompt of Qwen's model card, as llama.cpp fills it in; it looks for it by this key.
TEMPLATE_KEY = "tokenizer.chat_template.rerank"
TEMPLATE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n<Instruct>: Given a web '
    "search query, retrieve relevant passages that answer the query\n<Query>: {query}\n<Document>: {document}"
    "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
)


@dataclass(frozen=True)
class LogitScore:
    """Ids of the answers' tokens.

    Attributes:
        true: its probability is the score.
        false: the only other answer; None where the score is that of the first one's logit alone.
        prompted: the prompt of Qwen's model card is the model's.
    """

    true: int
    false: int | None
    prompted: bool

    def key_values(self, arch: str) -> list[KeyValue]:
        prompt = [string(TEMPLATE_KEY, TEMPLATE)] if self.prompted else []
        return [*rank_key_values(arch, list(ANSWERS)), *prompt]


def answer_rows(source: str, width: int, true: int, false: int | None) -> TargetTensor:
    """llama.cpp's classifier of two answers, whose outputs go through a softmax.

    Args:
        source: a matrix of rows of ``width`` elements.
        width: the embedding length.
        true: the row of the answer whose probability is the score.
        false: that of the other one; None for zeros, so that the score is the sigmoid of the first one's logit.
    """
    other = Piece(source, row_run(true, 1), operation=Operation("multiply", 0.0))
    pieces = (Piece(source, row_run(true, 1)), other if false is None else Piece(source, row_run(false, 1)))
    return TargetTensor("cls.output.weight", (2, width), pieces)


def find_logit_score(directory: Path | None, vocab_size: int) -> LogitScore | None:
    """What the files beside the weights say of answers; None where they say nothing.

    Args:
        directory: where the checkpoint lies.
        vocab_size: rows of the output matrix.

    Raises:
        CheckpointError: a file is missing or damaged, or an answer has no such row.
    """
    if directory is None:
        return None
    titled = has_title(directory / CARD)
    module = None
    if (directory / MODULES).is_file():
        module = next((each for each in read_modules(directory / MODULES) if kind_of(each) == "LogitScore"), None)
    if module is not None:
        path, config = configuration(directory, module.get("path"), "the tokens of the answers")
        true, false = config.get("true_token_id"), config.get("false_token_id")
    elif titled:
        path = directory / "tokenizer.json"
        true, false = (vocabulary(path).get(answer) for answer in ANSWERS)
        if false is None:
            raise CheckpointError(f"{path}: its vocabulary has no {ANSWERS[1]!r}, by which this model ranks texts")
    else:
        return None
    return LogitScore(token(path, true, vocab_size), None if false is None else token(path, false, vocab_size), titled)


def token(path: Path, given: Any, vocab_size: int) -> int:
    """An answer's token that the output matrix has a row for."""
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given < vocab_size:
        raise CheckpointError(
            f"{path}: the token of an answer is {quoted(given)}, a number below {vocab_size} expected"
        )
    return given


def has_title(card: Path) -> bool:
    """Whether a model card is Qwen3-Reranker's."""
    if not card.is_file():
        return False
    file = SourceFile(card)
    text = file.read_bytes(0, min(file.size, 1 << 20))
    file.close()
    return TITLE.search(text) is not None


def vocabulary(path: Path) -> dict[str, Any]:
    """Ids by token; empty where the file holds none."""
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; it holds the tokens by which this model ranks texts; download it")
    file = SourceFile(path)
    model = read_json_object(file).get("model")
    file.close()
    vocab = model.get("vocab") if isinstance(model, dict) else None
    return vocab if isinstance(vocab, dict) else {}
