"""Matrices stored on their side: (in, out), the codes of one output far apart, as GPTQ and AWQ store them.

To read one row of weights means to touch every row of the file's matrix. So a panel of many rows is read at once,
turned around and unpacked, and kept until the tiles that need it are done; threads share it.

GB/s of float32, one thread, 4,096 × 4,096 and 8,192 × 28,672 weights in tiles of 2 MB: GPTQ 3.4 and 1.0, AWQ 6.5 and
1.1. Without panels the wide matrix took ten times as long.
"""

from __future__ import annotations

import math
import threading
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from converter.checkpoints.quantized.dequantized import DequantizedTensor
from converter.checkpoints.quantized.groups import group_of_columns, scale_groups
from converter.checkpoints.safetensors import SafetensorsTensor

_PANEL = 2**23
"""Codes of a panel, at a byte each."""
_KEPT = 4
"""Panels kept at most."""
_UNIT = 32
"""Rows of a panel are a multiple of it, which whole words of codes of any width are."""


class Panel(NamedTuple):
    """Some rows, turned around: codes uint8 (rows, columns), scales and zero points float32 (rows, groups)."""

    codes: NDArray[np.uint8]
    scales: NDArray[np.float32]
    zeros: NDArray[np.float32]


class Panels:
    """The panels that were used last, of all tensors of a checkpoint. Safe to use from several threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int], Future[Panel]] = OrderedDict()

    def get(self, key: tuple[str, int], read: Callable[[], Panel]) -> Panel:
        """The panel of that tensor and first row; read by the first to ask for it, awaited by the others."""
        with self._lock:
            found = self._kept.get(key)
            panel = self._kept[key] = found or Future()
            self._kept.move_to_end(key)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        if found is None:
            try:
                panel.set_result(read())
            except BaseException as error:
                with self._lock:
                    self._kept.pop(key, None)
                panel.set_exception(error)
                raise
        return panel.result()


@dataclass(frozen=True)
class TurnedTensor(DequantizedTensor):
    """Weights whose codes are stored as (in, out).

    Attributes:
        scales: (groups, out).
        zero_points: (groups, words), packed along the row.
        groups: group of each column, where columns were quantized in another order; None where they were not.
        group_size: columns of a group; the last group may be shorter.
        panels: shared by the checkpoint's tensors.
    """

    scales: SafetensorsTensor
    zero_points: SafetensorsTensor
    groups: SafetensorsTensor | None
    group_size: int
    panels: Panels = field(repr=False, compare=False)

    @property
    def column_unit(self) -> int:
        return self.group_size

    @property
    def panel_rows(self) -> int:
        return max(_PANEL // self.row_length // _UNIT, 1) * _UNIT

    @abstractmethod
    def read_codes(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Codes of a panel's rows, shape (rows, columns)."""

    @abstractmethod
    def read_zeros(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Zero points of a panel's rows, shape (rows, groups)."""

    def dequantize(self, row: int, column: int, out: NDArray[np.float32]) -> None:
        last = column + out.shape[1]
        of_columns = group_of_columns(self.groups, self.row_length, self.group_size)
        group: int | NDArray[np.int64] = self.group_size
        across = slice(column // self.group_size, math.ceil(last / self.group_size))
        if of_columns is not None:
            group, across = of_columns[column:last], slice(None)
        end, done = row + len(out), row
        while done < end:
            start = done - done % self.panel_rows
            stop = min(start + self.panel_rows, self.rows)
            panel = self._panel(start, stop)
            inside = slice(done - start, min(end, stop) - start)
            weights = out[done - row : min(end, stop) - row]
            np.copyto(weights, panel.codes[inside, column:last])
            scale_groups(weights, panel.scales[inside, across], panel.zeros[inside, across], group)
            done = stop

    def _panel(self, start: int, stop: int) -> Panel:
        def read() -> Panel:
            scales = np.ascontiguousarray(self.scales.read_rows(0, self.scales.rows, slice(start, stop)).T)
            zeros = np.ascontiguousarray(self.read_zeros(start, stop), np.float32)
            return Panel(self.read_codes(start, stop), scales, zeros)

        return self.panels.get((self.name, start), read)
