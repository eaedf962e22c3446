"""Wrong values in every field of every family's config.json: a refusal in one line, or a plan, and nothing else."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from encoder_builder import write_encoder
from gguf import GGUFValueType
from variation import MODULES, Variation

from converter.architectures import Family, check_all_used, find_family
from converter.architectures.hyperparameters import Hyperparameters
from converter.checkpoints import Checkpoint, open_checkpoint
from converter.errors import ConversionError
from converter.gguf.key_values import KeyValue

WRONG: dict[str, Any] = {
    "null": None,
    "true": True,
    "false": False,
    "text": "abc",
    "empty text": "",
    "digits": "7",
    "not printable": "\u202e\ud800\n\u0000ü",
    "long text": "x" * 5000,
    "zero": 0,
    "one": 1,
    "negative": -1,
    "beyond int32": 2**31,
    "beyond float64": 10**400,
    "fraction": 0.5,
    "whole float": 3.0,
    "negative fraction": -2.5,
    "tiny": 1e-320,
    "beyond float32": 1e308,
    "infinite": math.inf,
    "negative infinite": -math.inf,
    "not a number": math.nan,
    "list": [1, 2],
    "empty list": [],
    "nested list": [[1], [[2]]],
    "mixed list": [None, "a", {}],
    "long list": [1] * 5000,
    "object": {"a": 1},
    "empty object": {},
    "nested object": {"a": {"b": [1]}},
}

#: What is read before a family reads its fields.
OUTSIDE = ("architectures", "model_type", "text_config", "tie_word_embeddings", "vision_config")

#: What lists of variations are called in the modules of ``tests/families``.
KINDS = ("VARIATIONS", "ENCODERS", "ENCODER_DECODERS")

#: Longest message: a value is quoted, not recited.
LONGEST = 700

STRUCTURES = {GGUFValueType.UINT32: "<I", GGUFValueType.INT32: "<i", GGUFValueType.FLOAT32: "<f"}


def plan(config: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    """All that a family makes of a configuration, key-values as bytes too."""
    family: Family = find_family(config, checkpoint.tensors)(config, checkpoint.tensors)
    family.directory = checkpoint.directory
    for pair in family.key_values():
        assert_writable(pair)
    assert not any("\n" in warning for warning in family.warnings())
    check_all_used(family, list(family.tensors()))


def assert_writable(pair: KeyValue) -> None:
    kind = pair.type if pair.element is None else pair.element
    for value in [pair.value] if pair.element is None else pair.value:
        if kind in STRUCTURES:
            struct.pack(STRUCTURES[kind], value)
        elif kind == GGUFValueType.STRING:
            assert isinstance(value, bytes) or value.encode()


def fields_read(checkpoint: Checkpoint) -> list[str]:
    """Names of the fields that the family asks for, with the objects that they are in."""
    asked: dict[str, None] = dict.fromkeys(OUTSIDE)
    with pytest.MonkeyPatch.context() as patch:
        get, says_none = Hyperparameters._get, Hyperparameters.says_none

        def recording_get(self: Hyperparameters, name: str) -> Any:
            asked[f"{self._path}{name}"] = None
            return get(self, name)

        def recording_says_none(self: Hyperparameters, name: str) -> bool:
            asked[f"{self._path}{name}"] = None
            return says_none(self, name)

        patch.setattr(Hyperparameters, "_get", recording_get)
        patch.setattr(Hyperparameters, "says_none", recording_says_none)
        plan(checkpoint.config, checkpoint)
    return list(asked)


def changed(config: Any, path: list[str], value: Any) -> Any:
    """The configuration with another value at a path; a list there gets the value for its first entry too."""
    if not path:
        return value
    fields = dict(config) if isinstance(config, Mapping) else {}
    return {**fields, path[0]: changed(fields.get(path[0]), path[1:], value)}


def wrong_configurations(config: Mapping[str, Any], name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Kinds of wrong values with the configuration that has them in a field, or first in the list that the field is."""
    path = name.split(".")
    given: Any = config
    for part in path:
        given = given.get(part) if isinstance(given, Mapping) else None
    for kind, value in WRONG.items():
        yield kind, changed(config, path, value)
        if isinstance(given, list) and given:
            yield f"{kind} in a list", changed(config, path, [value, *given[1:]])


def variations(module: ModuleType) -> list[Variation]:
    return [variation for kind in KINDS for variation in getattr(module, kind, ())]


@pytest.mark.parametrize("module", [module for module in MODULES if variations(module)])
def test_every_field_of_every_family(module: ModuleType, tmp_path: Path) -> None:
    tried: set[tuple[type[Family], str]] = set()
    for variation in variations(module):
        checkpoint = open_checkpoint(write_encoder(tmp_path / variation.name, variation.name))
        family = find_family(checkpoint.config, checkpoint.tensors)
        for name in fields_read(checkpoint):
            if (family, name) not in tried:
                tried.add((family, name))
                for kind, config in wrong_configurations(checkpoint.config, name):
                    assert_refused_or_planned(config, checkpoint, f"{variation.name}: {name}: {kind}")
    assert len(tried) > 10


def assert_refused_or_planned(config: Mapping[str, Any], checkpoint: Checkpoint, what: str) -> None:
    try:
        plan(config, checkpoint)
    except ConversionError as refusal:
        message = str(refusal)
        assert message.isprintable(), f"{what}: {json.dumps(message)}"
        assert len(message) < LONGEST, f"{what}: {message}"
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
