"""How near a model's choices come to a tie: of experts, of groups of them, of the tokens that an indexer picks.

A choice turns a difference in rounding into another result. Two right runtimes, or one on two processors, then differ
by as much as two experts do, so a model that is to prove anything chooses with some distance.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

#: A mask is added to what may not be chosen: minus infinity, or the least of float32.
MASKED = -1e30


class Choices(TorchFunctionMode):
    """Watches every ``topk`` while it is entered.

    Attributes:
        nearest: the least distance between the last that was chosen and the first that was not, in standard
            deviations of what was chosen from; infinite where nothing was.
    """

    def __init__(self) -> None:
        super().__init__()
        self.nearest = float("inf")

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        result = function(*arguments, **(options or {}))
        if function in (torch.topk, torch.Tensor.topk):
            with torch._C.DisableTorchFunction():
                self._see(arguments[0].float(), result.values.shape[-1])
        return result

    def _see(self, scores: torch.Tensor, count: int) -> None:
        if count == scores.shape[-1]:
            return
        ranked = scores.sort(dim=-1, descending=True).values
        first_left = ranked[..., count]
        distances = (ranked[..., count - 1] - first_left)[first_left > MASKED]
        if distances.numel():
            self.nearest = min(self.nearest, float(distances.min() / scores[scores > MASKED].std()))
