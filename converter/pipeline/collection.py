"""``collect``: the importance matrix of any model that can be converted."""

from __future__ import annotations

from functools import partial

from converter.pipeline.conversion import convert
from converter.pipeline.importance import collect_with

#: Run a model on texts and write its importance matrix; arguments of :func:`collect_with` after the first.
collect = partial(collect_with, convert)
