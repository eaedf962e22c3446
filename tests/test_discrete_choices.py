"""The distance of choices from a tie, on scores whose distances are known."""

from __future__ import annotations

import pytest
import torch
from discrete_choices import Choices


@pytest.mark.parametrize("topk", [torch.topk, torch.Tensor.topk])
def test_the_nearest_choice_of_all(topk) -> None:  # type: ignore[no-untyped-def]
    scores = torch.tensor([[4.0, 1.0, 3.0, 2.0], [9.0, 1.0, 2.0, 2.5]])
    with Choices() as choices:
        assert topk(scores, 2).indices.tolist() == [[0, 2], [0, 3]]
    assert choices.nearest == pytest.approx(0.5 / scores.std().item())


def test_a_tie_of_what_is_chosen_or_masked_decides_nothing() -> None:
    least = torch.finfo(torch.float32).min
    scores = torch.tensor([[2.0, 2.0, 1.0, 0.0], [1.0, least, least, least], [1.0, -torch.inf, -torch.inf, -torch.inf]])
    with Choices() as choices:
        scores.topk(2)
        scores.topk(4)
    assert choices.nearest == pytest.approx(1 / scores[scores > -1e30].std().item())
