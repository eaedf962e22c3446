"""Speed, as ratios measured in one run: ``python tools/benchmark.py kernels``.

The machine may be shared, so each contender runs in turn, round after round, and its best round counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import click
import numpy as np

from converter.quants import QUANT_TYPES, ggml

TILE_ROWS, ROW_LENGTH = 512, 2048  # a tile of 4 MB of float32, as the executor uses


def best_seconds(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Best wall time in seconds of each contender; they take turns within a round."""
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(rounds):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


@click.group()
def main() -> None:
    """Measure the converter beside its peers."""


@main.command()
@click.argument("names", nargs=-1)
@click.option("--rounds", default=15, show_default=True, help="Times each contender runs; the best counts.")
def kernels(names: tuple[str, ...], rounds: int) -> None:
    """Quantizers of NAMES (default: all kernels of our own) beside ggml's C, in GB/s of float32 read.

    The first column is the time of the first call, which compiles the kernel.
    """
    chosen = names or [name for name, quant in QUANT_TYPES.items() if quant.module is not None]
    rows = (np.random.default_rng(0).standard_normal((TILE_ROWS, ROW_LENGTH)) * 0.02).astype(np.float32)
    tiles = [rows, rows.copy()]
    click.echo(f"{'type':8}{'first call':>12}{'ggml':>8}{'ours':>8}{'ratio':>8}{'2 threads':>11}{'dequantize':>12}")
    with ThreadPoolExecutor(len(tiles)) as pool:
        for name in chosen:
            quant = QUANT_TYPES[name]
            outs = [np.zeros((TILE_ROWS, quant.row_bytes(ROW_LENGTH)), np.uint8) for _ in tiles]
            start = time.perf_counter()
            quant.quantize(rows, outs[0])
            first = time.perf_counter() - start
            seconds = best_seconds(
                {
                    "ggml": lambda quant=quant, out=outs[1]: ggml.quantize(quant.ggml_type, rows, out),  # type: ignore[misc]
                    "ours": lambda quant=quant, out=outs[0]: quant.quantize(rows, out),  # type: ignore[misc]
                    "both": lambda quant=quant, outs=outs: list(pool.map(quant.quantize, tiles, outs)),  # type: ignore[misc]
                    "back": lambda quant=quant, out=outs[0]: quant.dequantize(out),  # type: ignore[misc]
                },
                rounds,
            )
            if not np.array_equal(quant.quantize(rows), outs[1]) and quant.module is not None:
                raise click.ClickException(f"{name}: bytes differ from ggml's")
            speed = {key: rows.nbytes / value / 1e9 for key, value in seconds.items()}
            click.echo(
                f"{name:8}{first * 1000:>9.0f} ms{speed['ggml']:>8.2f}{speed['ours']:>8.2f}"
                f"{speed['ours'] / speed['ggml']:>7.1f}x{2 * speed['both']:>11.2f}{speed['back']:>12.2f}"
            )


if __name__ == "__main__":
    main()
