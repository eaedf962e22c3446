"""Panels are read once, whoever asks, and no more of them are kept than a few; reading a tensor takes little memory."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from converter.checkpoints import Checkpoint
from converter.checkpoints.quantized.panels import Panel, Panels

Quantized = Callable[[Any, dict[str, torch.Tensor]], Checkpoint]
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "checkpoint_format": "gptq_v2"}


def gptq_layer(rows: int, columns: int) -> dict[str, torch.Tensor]:
    random = np.random.default_rng(1)
    words = {"qweight": (columns // 8, rows), "qzeros": (columns // 128, rows // 8)}
    drawn = {name: random.integers(-(2**31), 2**31, shape, dtype=np.int32) for name, shape in words.items()}
    scales = random.random((columns // 128, rows)).astype(np.float16)
    return {f"x.{name}": torch.from_numpy(array) for name, array in {**drawn, "scales": scales}.items()}


def panel(value: int) -> Panel:
    codes = np.full((1, 1), value, np.uint8)
    return Panel(codes, codes.astype(np.float32), codes.astype(np.float32))


def test_the_first_to_ask_reads_and_the_others_wait() -> None:
    panels, reads, found = Panels(), [], []
    begun, release = threading.Event(), threading.Event()

    def read() -> Panel:
        reads.append(1)
        begun.set()
        assert release.wait(10)
        return panel(7)

    def ask() -> None:
        found.append(panels.get(("x", 0), read).codes[0, 0])

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    release.set()
    for thread in threads:
        thread.join()
    assert (found, len(reads)) == ([7] * 6, 1)


def test_the_panels_used_last_are_kept() -> None:
    panels, reads = Panels(), []

    def ask(number: int) -> None:
        def read() -> Panel:
            reads.append(number)
            return panel(number)

        assert panels.get(("x", number), read).codes[0, 0] == number

    for number in [0, 1, 2, 3, 0, 4, 0, 1]:
        ask(number)
    assert reads == [0, 1, 2, 3, 4, 1]


def test_a_panel_that_could_not_be_read_is_read_again() -> None:
    panels = Panels()

    def fail() -> Panel:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        panels.get(("x", 0), fail)
    assert panels.get(("x", 0), lambda: panel(3)).codes[0, 0] == 3


def test_threads_read_alike(quantized: Quantized) -> None:
    with quantized(GPTQ, gptq_layer(2048, 16_384)) as opened:
        tensor = opened.tensors["x.weight"]
        expected = tensor.read_rows(0, tensor.rows)
        wrong: list[int] = []

        def work(seed: int) -> None:
            for start in np.random.default_rng(seed).integers(0, 2000, 15):
                read = tensor.read_rows(int(start), int(start) + 40)
                if not np.array_equal(read, expected[start : start + 40]):
                    wrong.append(int(start))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_memory_does_not_grow_with_the_tensor(quantized: Quantized) -> None:
    """Tile by tile through weights of 512 MB of float32: FP8 in a few windows, GPTQ in its panels."""
    rows, columns = 16_384, 8192
    fp8 = {
        "x.weight": torch.zeros(rows, columns, dtype=torch.uint8).view(torch.float8_e4m3fn),
        "x.weight_scale_inv": torch.ones(rows // 128, columns // 128),
    }
    for settings, tensors, allowed in [({"quant_method": "fp8"}, fp8, 4), (GPTQ, gptq_layer(rows, columns), 64)]:
        with quantized(settings, tensors) as opened:
            tensor, out = opened.tensors["x.weight"], np.empty((64, columns), np.float32)
            tracemalloc.start()
            for start in range(0, rows, 1024):
                tensor.read_rows(start, start + 64, out=out)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < allowed * 2**20
