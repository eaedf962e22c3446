"""Adapters merged into a checkpoint's tensors while they are read.

``W + scale * B A`` for the rows and columns that are asked for, in float32: A, of a few rows, is read whole, B row by
row. What is added to which tensor follows from the adapter's tensors; its configuration says how strongly.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from converter.adapters.base_tensors import EMBEDDINGS, Names, Stacked, stacked_parameters, within_stack
from converter.adapters.files import Adapter, open_adapter
from converter.adapters.refusals import absent, check_rank, mismatch, pair
from converter.adapters.steps import WINDOW, Added, Dora, Factor, LowRank, Matrix, MergedTensor, NewRows, Step, whole
from converter.architectures import in_transformers
from converter.checkpoints import Checkpoint, SourceTensor
from converter.checkpoints.directory import adapter_beside
from converter.errors import CheckpointError
from converter.sources.source_file import SourceFile, quoted

#: Right matrices kept in memory, those used last.
KEPT = 8
#: Models without a family here whose projections are Conv1D modules, with weights of shape (in, out).
CONV1D_MODELS = ("openai-gpt", "imagegpt", "decision_transformer")
OUTPUT, OUTPUTS = "lm_head.weight", ("lm_head", "embed_out")
#: Ends of the names of classes that compute logits.
WITH_OUTPUT = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
#: An embedding that encoder, decoder and often the output share.
SHARED = "shared.weight"


@dataclass
class Change:
    """What is done to one tensor.

    Attributes:
        original: the tensor itself, or what stands in for it below the steps.
        steps: the changes, in order.
        by: the adapter that put another tensor in its place.
    """

    original: SourceTensor
    steps: list[Step] = field(default_factory=list)
    by: Adapter | None = None

    @property
    def result(self) -> SourceTensor:
        tensor = self.original
        return MergedTensor(tensor.name, "F32", tensor.shape, tensor, tuple(self.steps)) if self.steps else tensor


def adapt(
    checkpoint: Checkpoint, directories: Sequence[Path], elsewhere: Sequence[Mapping[str, SourceFile]] = ()
) -> Checkpoint:
    """The checkpoint with these PEFT adapters merged into its tensors while they are read.

    Several are merged one after the other, as PEFT merges several active adapters. An output matrix that the
    checkpoint ties to the embedding becomes one of its own where the adapters change only one of the two.

    Args:
        checkpoint: the base; the result closes it.
        directories: PEFT's directories (``adapter_config.json``, ``adapter_model.safetensors`` or ``.bin``).
        elsewhere: for each directory, files that belong to it and lie somewhere else; none by default.

    Returns:
        A checkpoint whose ``files`` list the adapters' files too, and whose ``config`` counts the rows that an
        adapter adds to the vocabulary.

    Raises:
        CheckpointError: an adapter is missing, damaged, of another model, or of a kind that cannot be merged.
    """
    remote = elsewhere or [{}] * len(directories)
    adapters = [open_adapter(directory, files) for directory, files in zip(directories, remote, strict=True)]
    merging = Merging(checkpoint)
    for adapter in adapters:
        if adapter.config.invocation_tokens:
            raise CheckpointError(
                f"{adapter.config.path}: 'alora_invocation_tokens' is set, so the adapter acts on a part of the text "
                "only and cannot be merged; write it as a file of its own with `convert adapter`"
            )
        check_base(adapter, checkpoint)
        merging.add(adapter)
    return merging.finished(adapters)


class Merging:
    """The changes that adapters make to a checkpoint, collected one adapter after the other."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.names = Names(checkpoint.tensors)
        self.changes: dict[str, Change] = {}
        self.kept: Callable[[Factor], Matrix] = lru_cache(KEPT)(Factor.whole)
        self.embedding = self._tied_embedding()
        self.aside = in_transformers(checkpoint.config.get("model_type")).transposed_experts

    def add(self, adapter: Adapter) -> None:
        """Add an adapter's changes; see :func:`adapt`."""
        for name, tensor in adapter.bases.items():
            self._replace(adapter, name, tensor, below=True)
        for name, tensor in adapter.replaced.items():
            self._replace(adapter, name, tensor, below=False)
        for module, parts in adapter.modules.items():
            if self._follows(adapter, f"{module}.weight"):
                continue
            container = re.sub(r"(\.base_layer)+$", "", module)
            if "trainable_tokens_delta" in parts:
                self._add_tokens(adapter, module, parts["trainable_tokens_delta"])
            elif stacks := self._stacks(adapter, container):
                self._add_stacked(adapter, container, parts, stacks)
            else:
                self._add_module(adapter, module, parts)

    def finished(self, adapters: Sequence[Adapter]) -> Checkpoint:
        """The checkpoint with all changes."""
        config = dict(self.checkpoint.config)
        if self.embedding in self.changes and OUTPUT in self.changes:
            if still_tied(self.changes[self.embedding], self.changes[OUTPUT]):
                del self.changes[OUTPUT]
            else:
                config = with_field(config, "tie_word_embeddings", False)
        for name, change in self.changes.items():
            before = self.checkpoint.tensors.get(name)
            if is_embedding(name) and before is not None and change.original.rows != before.rows:
                config = with_field(config, "vocab_size", change.original.rows)
        changed = {name: change.result for name, change in self.changes.items()}
        beside = adapter_beside(self.checkpoint.directory)
        here = any(adapter.directory.resolve() == self.checkpoint.directory.resolve() for adapter in adapters)
        return dataclasses.replace(
            self.checkpoint,
            config=config,
            notices=tuple(notice for notice in self.checkpoint.notices if notice != beside or not here),
            tensors=MappingProxyType({**self.checkpoint.tensors, **changed}),
            files=(*self.checkpoint.files, *(identity for adapter in adapters for identity in adapter.files)),
            nbytes=self.checkpoint.nbytes + sum(adapter.nbytes for adapter in adapters),
            _shards=(*self.checkpoint._shards, *(file for adapter in adapters for file in adapter.opened)),
        )

    def _tied_embedding(self) -> str | None:
        """The embedding that is the output matrix too, where the model's head has none of its own."""
        classes = self.checkpoint.config.get("architectures") or [""]
        if not str(classes[0]).endswith(WITH_OUTPUT) or self.names.find(OUTPUT, "config.json") is not None:
            return None
        found = [name for name in self.checkpoint.tensors if is_embedding(name)]
        return found[0] if len(found) == 1 else None

    def _change(self, name: str) -> Change:
        """The change of a tensor, begun where there is none yet: with the other one of a tied pair."""
        if name in (self.embedding, OUTPUT) and self.embedding is not None:
            tensor = self.checkpoint.tensors[self.embedding]
            self.changes.setdefault(OUTPUT, Change(dataclasses.replace(tensor, name=OUTPUT)))
            self.changes.setdefault(self.embedding, Change(tensor))
        elif name not in self.changes:
            self.changes[name] = Change(self.checkpoint.tensors[name])
        return self.changes[name]

    def _find(self, adapter: Adapter, name: str) -> str | None:
        """The base's name of a tensor of the adapter's model."""
        found = self.names.find(name, str(adapter.directory))
        if found == SHARED:
            raise CheckpointError(
                f"{adapter.directory}: adapts {name}, which encoder and decoder share, but not alike; merge the "
                "adapter with PEFT (merge_and_unload) first"
            )
        return OUTPUT if found is None and name == OUTPUT and self.embedding is not None else found

    def _follows(self, adapter: Adapter, name: str) -> bool:
        """Whether a tensor is the output matrix that the adapter keeps tied to the embedding."""
        return adapter.config.tied and self.embedding is not None and name == OUTPUT

    def _with_tied(self, adapter: Adapter, name: str, *, always: bool = False) -> list[Change]:
        """The changes that a change of a tensor belongs to: two, where the output matrix follows the embedding."""
        follows = name == self.embedding and (always or adapter.config.tied)
        return [self._change(one) for one in ((name, OUTPUT) if follows else (name,))]

    def _replace(self, adapter: Adapter, name: str, tensor: SourceTensor, *, below: bool) -> None:
        """Put a tensor of the adapter in the place of the base's."""
        if self._follows(adapter, name):
            return
        found = self._find(adapter, name)
        if found is None:
            raise absent(adapter, name)
        for change in self._with_tied(adapter, found):
            base = change.original
            grown = is_embedding(found) and len(tensor.shape) == 2 and tensor.row_length == base.row_length
            if tensor.shape != base.shape and not grown:
                raise mismatch(adapter, name, tensor.shape, found, base.shape)
            if not below and (change.by or change.steps):
                raise CheckpointError(
                    f"{adapter.directory}: replaces {found}, which another adapter has changed already; only one of "
                    "them can be merged"
                )
            change.original, change.by = dataclasses.replace(tensor, name=base.name), adapter

    def _add_module(self, adapter: Adapter, module: str, parts: Mapping[str, SourceTensor]) -> None:
        """A product for a linear module or an embedding; with DoRA's lengths and a bias where it has them."""
        embedding = "lora_embedding_A" in parts
        a, b = pair(adapter, module, parts, "lora_embedding_{}" if embedding else "lora_{}.weight")
        name, first = self._find(adapter, f"{module}.weight"), 0
        if name is not None:
            shape = self._change(name).original.shape
        else:
            within = None if self.aside else within_stack(self.names, module, str(adapter.directory))
            if within is None:
                raise absent(adapter, f"{module}.weight")
            name, first, shape = within
        check_rank(adapter, module, a, b)
        product = (a.row_length, b.rows) if embedding else (b.rows, a.row_length)
        swapped = not embedding and (shape != product or (shape == product[::-1] and self._is_conv1d(adapter)))
        if shape != (product[::-1] if swapped else product):
            raise mismatch(adapter, module, product, name, shape)
        aside = embedding or swapped
        left, right = (whole(a, transposed=True), whole(b, transposed=True)) if aside else (whole(b), whole(a))
        added = LowRank(left, right, adapter.config.scale(module), self.kept, first)
        step: Step = added
        changes = self._with_tied(adapter, name)
        if "lora_magnitude_vector" in parts:
            magnitude = parts["lora_magnitude_vector"]
            if shape != changes[0].original.shape:
                raise CheckpointError(
                    f"{adapter.directory}: adapts {module}, one of the experts that the base stacks in {name}, by "
                    "DoRA; convert the checkpoint that holds experts one by one"
                )
            if math.prod(magnitude.shape) != b.rows:
                raise mismatch(adapter, f"{module}.lora_magnitude_vector", magnitude.shape, name, shape)
            step = Dora(added, magnitude, changes[0].original, aside)
        for change in changes:
            change.steps.append(step)
        if "lora_B.bias" in parts:
            bias = self._find(adapter, f"{module}.bias")
            if bias is None:
                raise absent(adapter, f"{module}.bias")
            vector, base = parts["lora_B.bias"], self._change(bias)
            if vector.shape != base.original.shape:
                raise mismatch(adapter, f"{module}.lora_B.bias", vector.shape, bias, base.original.shape)
            base.steps.append(Added(vector, adapter.config.scale(module)))

    def _is_conv1d(self, adapter: Adapter) -> bool:
        """Whether square weights of a projection lie as (in, out), which their shape cannot tell."""
        kind = self.checkpoint.config.get("model_type")
        return adapter.config.conv1d or in_transformers(kind).transposed or kind in CONV1D_MODELS

    def _stacks(self, adapter: Adapter, container: str) -> list[Stacked]:
        """The stacked parameters of a module that has no weight of its own."""
        found = self._find(adapter, f"{container}.weight")
        return [] if found is not None else list(stacked_parameters(self.names, container, str(adapter.directory)))

    def _add_stacked(
        self, adapter: Adapter, container: str, parts: Mapping[str, SourceTensor], stacks: Sequence[Stacked]
    ) -> None:
        """A product for each expert's matrix in a parameter that stacks them: the one whose shape fits.

        PEFT's ``ParamWrapper``: rows ``e r`` to ``(e + 1) r`` of A and columns ``e, e + experts, …`` of B are of
        expert e.
        """
        a, b = pair(adapter, container, parts, "lora_{}.weight")
        for stack in stacks:
            experts, rows, columns = stack.shape
            swapped = self.aside and not stack.parts[0][0][0].endswith(".weight")
            if (b.rows, a.row_length) != ((columns, rows) if swapped else (rows, columns)):
                continue
            parameter = f"{container}.{stack.name}"
            check_rank(adapter, parameter, a, b, experts)
            rank, scale = adapter.config.rank(parameter), adapter.config.scale(parameter)
            for expert, matrices in enumerate(stack.parts):
                ranks, strided = range(expert * rank, (expert + 1) * rank), range(expert, experts * rank, experts)
                begin = 0
                for name, first, count in matrices:
                    if swapped:
                        left = Factor(a, ranks, range(rows), transposed=True)
                        right = Factor(b, range(columns), strided, transposed=True)
                    else:
                        left, right = Factor(b, range(begin, begin + count), strided), Factor(a, ranks, range(columns))
                    self._change(name).steps.append(LowRank(left, right, scale, self.kept, first))
                    begin += count
            return
        shapes = ", ".join(f"{stack.name} {list(stack.shape)}" for stack in stacks)
        raise CheckpointError(
            f"{adapter.directory}: the product of {container} is {b.rows} × {a.row_length} for each expert, but the "
            f"base holds {shapes}; is this adapter one of this model?"
        )

    def _add_tokens(self, adapter: Adapter, module: str, rows: SourceTensor) -> None:
        """Rows of an embedding that were trained alone."""
        indices = adapter.config.token_indices
        if isinstance(indices, Mapping):
            indices = next((found for key, found in indices.items() if f".{module}".endswith(f".{key}")), None)
        name = self._find(adapter, f"{module}.weight")
        if name is None:
            raise absent(adapter, f"{module}.weight")
        base = self._change(name).original
        if indices is None or len(indices) != rows.rows or rows.row_length != base.row_length:
            raise CheckpointError(
                f"{adapter.directory}: {module} has trained tokens {list(rows.shape)}, but trainable_token_indices "
                f"names {len(indices or ())} and the base's rows have {base.row_length} elements"
            )
        if max(indices, default=0) >= base.rows:
            raise CheckpointError(
                f"{adapter.config.path}: 'trainable_token_indices' names {max(indices)}, {name} has {base.rows} rows"
            )
        step = NewRows(np.array(indices, np.int64), rows)
        for change in self._with_tied(adapter, name, always=True):
            change.steps.append(step)


def is_embedding(name: str) -> bool:
    """Whether a tensor has a row for each token."""
    return name.removesuffix(".weight").rpartition(".")[2] in (*EMBEDDINGS, *OUTPUTS)


def with_field(config: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
    """A configuration with a field set, in the part that describes the text model too."""
    text = config.get("text_config")
    inner = {"text_config": {**text, name: value}} if isinstance(text, dict) else {}
    return {**config, **inner, name: value}


def still_tied(embedding: Change, output: Change) -> bool:
    """Whether both tensors of a tied pair were changed alike."""
    if embedding.steps != output.steps or (embedding.by is None) != (output.by is None):
        return False
    return embedding.by is None or same_values(embedding.original, output.original)


def same_values(one: SourceTensor, other: SourceTensor) -> bool:
    """Whether two tensors hold the same numbers; read in pieces."""
    if one.shape != other.shape:
        return False
    step = max(1, WINDOW // one.row_length)
    return all(
        np.array_equal(
            one.read_rows(start, min(start + step, one.rows)), other.read_rows(start, min(start + step, one.rows))
        )
        for start in range(0, one.rows, step)
    )


def check_base(adapter: Adapter, checkpoint: Checkpoint) -> None:
    """Warn where the adapter names another base than this one."""
    wanted = adapter.config.base.rstrip("/").rpartition("/")[2]
    path = checkpoint.directory.resolve()
    known = {path.name, *(part.rpartition("--")[2] for part in path.parts if part.startswith("models--"))}
    if wanted and wanted not in known:
        logging.getLogger(__name__).warning(
            "%s: was trained on %s, the base here is %s", adapter.directory, quoted(adapter.config.base), path.name
        )
