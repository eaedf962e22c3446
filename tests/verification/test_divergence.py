"""The figures against torch's own KL divergence and cross entropy, the windows against their definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from converter.errors import VerificationError
from converter.verification.divergence import Divergence
from converter.verification.windows import MAX_BYTES, MAX_POSITIONS, WINDOW, cut_windows


@pytest.mark.parametrize(
    ("windows", "length", "vocab_size", "noise"), [(1, 2, 7, 1.0), (3, 33, 100, 0.1), (2, 16, 999, 9.0)]
)
def test_figures_are_those_of_torch(windows: int, length: int, vocab_size: int, noise: float) -> None:
    random = np.random.default_rng(length)
    ids = random.integers(0, vocab_size, (windows, length))
    source = random.normal(0, 3, (windows, length, vocab_size)).astype(np.float32)
    file = source + random.normal(0, noise, source.shape).astype(np.float32)
    found = Divergence()
    for window in range(windows):
        found.add(ids[window], source[window], file[window])

    p, q = (log_softmax(torch.from_numpy(x).double().flatten(0, 1), -1) for x in (source, file))
    uniform = torch.full_like(p, -math.log(vocab_size))
    assert found.mean_kl == pytest.approx(kl_div(q, p, log_target=True, reduction="batchmean").item(), rel=1e-12)
    assert found.top1_agreement == (p.argmax(-1) == q.argmax(-1)).double().mean().item()
    known = kl_div(uniform, p, log_target=True, reduction="batchmean").item()
    assert found.lost_information == pytest.approx(found.mean_kl / known, rel=1e-12)
    following = torch.from_numpy(ids[:, 1:]).flatten()
    for logits, perplexity in ((source, found.source_perplexity), (file, found.file_perplexity)):
        predicting = torch.from_numpy(logits[:, :-1]).double().flatten(0, 1)
        assert perplexity == pytest.approx(math.exp(cross_entropy(predicting, following).item()), rel=1e-12)


def test_windows_cover_the_text_once_each_after_the_prefix() -> None:
    ids = list(range(100, 700))
    windows = cut_windows([1], ids, context_length=4096, row_length=1000)
    assert windows.shape == (600 // (WINDOW - 1), WINDOW)
    assert (windows[:, 0] == 1).all()
    assert windows[:, 1:].flatten().tolist() == ids[: windows[:, 1:].size]


def test_windows_are_as_long_as_text_and_context_allow() -> None:
    assert cut_windows([], list(range(50)), context_length=4096, row_length=1000).shape == (1, 50)
    assert cut_windows([1, 2], list(range(50)), context_length=12, row_length=1000).shape == (5, 12)


def test_windows_stay_within_the_bounds() -> None:
    ids = list(range(10_000))
    assert cut_windows([1], ids, context_length=4096, row_length=100).size <= MAX_POSITIONS
    large = cut_windows([1], ids, context_length=4096, row_length=262_144)
    assert large.size * 262_144 * 4 <= MAX_BYTES


def test_context_too_short_to_compare_is_refused() -> None:
    with pytest.raises(VerificationError, match="a context of 2 tokens is too short"):
        cut_windows([1], list(range(50)), context_length=2, row_length=1000)
