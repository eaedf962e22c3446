"""A result as the catalogue keeps it, and what it remembers as a result again."""

from __future__ import annotations

import dataclasses

from converter.catalogue import Facts, Record
from converter.result import Result
from converter.verification import Verification


def facts_of(result: Result, *, unverified: str = "") -> Facts:
    """What the catalogue keeps of a result.

    Args:
        result: what was made, its files under the names that they will have.
        unverified: why it could not be verified.
    """
    return Facts(
        source_bytes=result.source_bytes,
        bits_per_weight=result.bits_per_weight,
        weights=result.weights,
        seconds=result.seconds,
        tensor_types=result.tensor_types,
        tensor_shapes=result.tensor_shapes,
        files=result.files,
        warnings=result.warnings,
        verification=None if result.verification is None else dataclasses.asdict(result.verification),
        unverified=unverified,
    )


def known_result(record: Record) -> Result:
    """What ``convert`` returned then; the limits that figures were held against are not kept."""
    verification = None
    if record.verification is not None:
        names = {field.name for field in dataclasses.fields(Verification)} - {"thresholds"}
        facts = {name: record.verification[name] for name in names & set(record.verification)}
        verification = Verification(**facts | {"warnings": tuple(facts.get("warnings", ()))})
    return Result(
        output=record.first,
        method=record.method,
        source_bytes=record.source_bytes,
        output_bytes=record.output_bytes,
        weights=record.weights,
        bits_per_weight=record.bits_per_weight,
        tensor_types=dict(record.tensor_types),
        tensor_shapes={name: tuple(shape) for name, shape in record.tensor_shapes.items()},
        seconds=dict(record.seconds),
        output_format=record.format,
        files=record.files,
        known=True,
        warnings=record.warnings,
        verification=verification,
    )
