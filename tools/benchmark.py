"""Speed, as ratios measured in one run: ``python tools/benchmark.py kernels``.

The machine may be shared, so each contender runs in turn, round after round, and its best round counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import click
import numpy as np

from converter.quants import QUANT_TYPES, QuantType, ggml

TILE_ROWS, ROW_LENGTH = 512, 2048  # a tile of 4 MB of float32
THREADS, TILES_EACH = 2, 8


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
    copies = [rows.copy() for _ in range(THREADS)]
    click.echo(
        f"{'type':8}{'first call':>12}{'ggml':>8}{'ours':>8}{'ratio':>8}{f'{THREADS} threads':>11}{'dequantize':>12}"
    )
    with ThreadPoolExecutor(THREADS) as pool:
        for name in chosen:
            quant = QUANT_TYPES[name]
            outs = [np.zeros((TILE_ROWS, quant.row_bytes(ROW_LENGTH)), np.uint8) for _ in range(2 + THREADS)]

            def several(tile: np.ndarray, out: np.ndarray, quant: QuantType = quant) -> None:
                for _ in range(TILES_EACH):
                    quant.quantize(tile, out)

            start = time.perf_counter()
            quant.quantize(rows, outs[0])
            first = time.perf_counter() - start
            seconds = best_seconds(
                {
                    "ggml": lambda quant=quant, out=outs[1]: ggml.quantize(quant.ggml_type, rows, out),  # type: ignore[misc]
                    "ours": lambda quant=quant, out=outs[0]: quant.quantize(rows, out),  # type: ignore[misc]
                    "both": lambda outs=outs[2:], several=several: list(pool.map(several, copies, outs)),  # type: ignore[misc]
                    "back": lambda quant=quant, out=outs[0]: quant.dequantize(out),  # type: ignore[misc]
                },
                rounds,
            )
            if not np.array_equal(outs[0], outs[1]):
                raise click.ClickException(f"{name}: bytes differ from ggml's")
            speed = {key: rows.nbytes / value / 1e9 for key, value in seconds.items()}
            together = speed["both"] * THREADS * TILES_EACH
            click.echo(
                f"{name:8}{first * 1000:>9.0f} ms{speed['ggml']:>8.2f}{speed['ours']:>8.2f}"
                f"{speed['ours'] / speed['ggml']:>7.1f}x{together:>11.2f}{speed['back']:>12.2f}"
            )


if __name__ == "__main__":
    main()
