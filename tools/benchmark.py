"""Speed, as ratios measured in one run: ``python tools/benchmark.py kernels``, ``… model`` and ``… outputs``.

The machine may be shared, so each contender runs in turn, round after round, and its best round counts.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import prod
from pathlib import Path

import click
import numpy as np

from converter.quants import QUANT_TYPES, ggml

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

    The first column is the time of the first call, which compiles the kernel; types that heed an importance matrix
    come a second time with one.
    """
    chosen = names or [name for name, quant in QUANT_TYPES.items() if quant.module is not None]
    random = np.random.default_rng(0)
    rows = (random.standard_normal((TILE_ROWS, ROW_LENGTH)) * 0.02).astype(np.float32)
    importance = (random.standard_normal(ROW_LENGTH) ** 2).astype(np.float32)
    copies = [rows.copy() for _ in range(THREADS)]
    click.echo(
        f"{'type':19}{'first call':>10}{'ggml':>8}{'ours':>8}{'ratio':>8}{f'{THREADS} threads':>11}{'dequantize':>12}"
    )
    jobs = [(name, weights) for weights in (None, importance) for name in chosen]
    with ThreadPoolExecutor(THREADS) as pool:
        for name, weights in jobs:
            quant = QUANT_TYPES[name]
            if weights is not None and quant.ignores_importance:
                continue
            outs = [np.zeros((TILE_ROWS, quant.row_bytes(ROW_LENGTH)), np.uint8) for _ in range(2 + THREADS)]
            quantize = partial(quant.quantize, importance=weights)

            def several(tile: np.ndarray, out: np.ndarray, quantize: Callable[..., object] = quantize) -> None:
                for _ in range(TILES_EACH):
                    quantize(tile, out)

            start = time.perf_counter()
            quantize(rows, outs[0])
            first = time.perf_counter() - start
            seconds = best_seconds(
                {
                    "ggml": partial(ggml.quantize, quant.ggml_type, rows, outs[1], weights),
                    "ours": partial(quantize, rows, outs[0]),
                    "both": lambda outs=outs[2:], several=several: list(pool.map(several, copies, outs)),  # type: ignore[misc]
                    "back": partial(quant.dequantize, outs[0]),
                },
                rounds,
            )
            if not np.array_equal(outs[0], outs[1]):
                raise click.ClickException(f"{name}: bytes differ from ggml's")
            speed = {key: rows.nbytes / value / 1e9 for key, value in seconds.items()}
            together = speed["both"] * THREADS * TILES_EACH
            label = name if weights is None else f"{name}, importance"
            click.echo(
                f"{label:19}{first * 1000:>7.0f} ms{speed['ggml']:>8.3f}{speed['ours']:>8.2f}"
                f"{speed['ours'] / speed['ggml']:>7.1f}x{together:>11.2f}{speed['back']:>12.2f}"
            )


#: A 1.1-billion-parameter Llama, in the shape of TinyLlama.
LAYERS, WIDTH, FEED_FORWARD, KV_WIDTH, VOCABULARY = 22, 2048, 5632, 256, 32000

#: The command, and the same without waiting for the disk, which llama.cpp's tools don't do either.
OURS = "from converter.cli import main; main()"
OURS_UNSYNCED = "import os; os.fsync = os.fdatasync = lambda descriptor: None; " + OURS
QUANTIZE = """
import ctypes, sys, llama_cpp
parameters = llama_cpp.llama_model_quantize_default_params()
parameters.ftype, parameters.nthread = int(sys.argv[3]), int(sys.argv[4])
sys.exit(llama_cpp.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), ctypes.byref(parameters)))
"""


@main.command()
@click.option("--methods", default="q4_0,q8_0", show_default=True)
@click.option("--rounds", default=3, show_default=True, help="Times each contender runs; the best counts.")
@click.option("--threads", default=2, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("build/benchmark"), show_default=True)
@click.option(
    "--llama-cpp",
    type=click.Path(exists=True, path_type=Path),
    help="A llama.cpp source tree, whose convert_hf_to_gguf.py then makes the first of the two steps.",
)
def model(methods: str, rounds: int, threads: int, folder: Path, llama_cpp: Path | None) -> None:
    """A 1.1B-parameter bfloat16 Llama from safetensors to each of METHODS, whole processes, caches warm.

    The peer is llama.cpp's route: to an f16 GGUF with its converter (where --llama-cpp is given; otherwise ours makes
    the file, untimed), then llama_model_quantize. Its q8_0 goes straight there with the converter.
    """
    from converter.recipes import METHODS

    source, f16, output = checkpoint_in(folder), folder / "f16.gguf", folder / "out.gguf"
    convert = ["--model", str(source), "--output", str(output), "--verify", "none", "--quiet", "--overwrite"]
    convert += ["--no-catalogue"]
    convert += ["--threads", str(threads), "--method"]
    if llama_cpp is None:
        run([sys.executable, "-c", OURS, *convert[:2], "--output", str(f16), *convert[4:], "f16"])
    click.echo(f"{'':34}{'seconds':>9}{'peak MB':>9}{'ours':>9}")
    for method in methods.split(","):
        script = [sys.executable, str(llama_cpp / "convert_hf_to_gguf.py"), str(source)] if llama_cpp else []
        contenders = {
            f"{method}, as llama.cpp (no sync)": [[sys.executable, "-c", OURS_UNSYNCED, *convert, method]],
            f"{method}, safely on the disk": [[sys.executable, "-c", OURS, *convert, method]],
        }
        quantize = [sys.executable, "-c", QUANTIZE, str(f16), str(output)]
        quantize += [str(int(METHODS[method].file_type)), str(threads)]
        contenders["llama_model_quantize from f16"] = [quantize]
        if script and method == "q8_0":
            contenders["llama.cpp's converter to q8_0"] = [[*script, "--outtype", "q8_0", "--outfile", str(output)]]
        elif script:
            to_f16 = [*script, "--outtype", "f16", "--outfile", str(f16)]
            contenders["llama.cpp's two steps"] = [to_f16, quantize]
            run(to_f16)
        best = {name: (float("inf"), 0.0) for name in contenders}
        for _ in range(rounds):
            for name, commands in contenders.items():
                output.unlink(missing_ok=True)
                os.sync()
                measured = [run(command) for command in commands]
                seconds = sum(one for one, _ in measured)
                best[name] = min(best[name], (seconds, max(peak for _, peak in measured)))
        ours = next(iter(best.values()))[0]
        for name, (seconds, peak) in best.items():
            click.echo(f"{name:34}{seconds:>9.2f}{peak:>9.0f}{seconds / ours:>8.1f}x")


#: Methods of the batch that is measured.
BATCH = ("q4_0", "q4_1", "q5_0", "q8_0")


@main.command()
@click.option("--rounds", default=3, show_default=True, help="Times each contender runs; the best counts.")
@click.option("--verify", default="load", show_default=True, help="As convert takes it, in the batch and beside it.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("build/benchmark"), show_default=True)
def outputs(rounds: int, verify: str, folder: Path) -> None:
    """The same model to other formats beside GGUF, and to four GGUF files in one batch beside four runs."""
    import yaml

    source, made = checkpoint_in(folder), folder / "outputs"
    batch = folder / "batch.yaml"
    jobs = {"models": [str(source)], "methods": list(BATCH), "output_directory": str(made)}
    batch.write_text(yaml.safe_dump({**jobs, "defaults": {"verify": verify}}))

    def single(method: str, container: str, verify: str = "none") -> list[str]:
        suffix = ".gguf" if container == "gguf" else f"-{container}"
        options = ["--model", str(source), "--method", method, "--format", container, "--verify", verify, "--quiet"]
        return [sys.executable, "-c", OURS, *options, "--output", str(made / f"model-{method}{suffix}")]

    contenders = {
        "q4_0 to gguf": [single("q4_0", "gguf")],
        "q4_0 to safetensors": [single("q4_0", "safetensors")],
        "q4_0 to pytorch": [single("q4_0", "pytorch")],
        f"{len(BATCH)} gguf, one after the other": [single(method, "gguf", verify) for method in BATCH],
        f"{len(BATCH)} gguf in a batch": [[sys.executable, "-c", OURS, "batch", str(batch), "--quiet"]],
    }
    best = {name: (float("inf"), 0.0) for name in contenders}
    for _ in range(rounds):
        for name, commands in contenders.items():
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir()
            os.sync()
            measured = [run(command) for command in commands]
            peak = max(peak for _, peak in measured)
            best[name] = min(best[name], (sum(seconds for seconds, _ in measured), peak))
    shutil.rmtree(made)
    click.echo(f"{'':34}{'seconds':>9}{'peak MB':>9}")
    for name, (seconds, peak) in best.items():
        click.echo(f"{name:34}{seconds:>9.2f}{peak:>9.0f}")
    (gguf, _), (safetensors, _), _, (separate, _), (together, _) = best.values()
    click.echo(f"safetensors takes {safetensors / gguf:.2f} times as long as gguf; the batch {together / separate:.0%}")


def checkpoint_in(folder: Path) -> Path:
    """The 1.1B-parameter checkpoint in a folder, made where it is missing."""
    source = folder / "model"
    if not (source / "tokenizer.model").exists():
        # In a process of its own: what this one has ever held would count as the peak of those it starts.
        run([sys.executable, __file__, "checkpoint", str(source)])
    return source


def run(command: list[str]) -> tuple[float, float]:
    """Wall time of a command in seconds, and its peak resident set in MB."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    messages = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise click.ClickException(f"{command[:3]} failed: {messages.decode(errors='replace')[-2000:]}")
    return seconds, usage.ru_maxrss / 1024


@main.command(hidden=True)
@click.argument("folder", type=click.Path(path_type=Path))
def checkpoint(folder: Path) -> None:
    """Write a checkpoint of random bfloat16 weights with a tokenizer of full size trained on the standard library."""
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, WIDTH)}
    for layer in range(LAYERS):
        block = {
            "input_layernorm": (WIDTH,),
            "self_attn.q_proj": (WIDTH, WIDTH),
            "self_attn.k_proj": (KV_WIDTH, WIDTH),
            "self_attn.v_proj": (KV_WIDTH, WIDTH),
            "self_attn.o_proj": (WIDTH, WIDTH),
            "post_attention_layernorm": (WIDTH,),
            "mlp.gate_proj": (FEED_FORWARD, WIDTH),
            "mlp.up_proj": (FEED_FORWARD, WIDTH),
            "mlp.down_proj": (WIDTH, FEED_FORWARD),
        }
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in block.items()}
    shapes |= {"model.norm.weight": (WIDTH,), "lm_head.weight": (VOCABULARY, WIDTH)}
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    random = np.random.default_rng(0)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for shape in shapes.values():
            weights = random.standard_normal(prod(shape), np.float32) * np.float32(0.02)
            file.write((weights.view(np.uint32) >> 16).astype(np.uint16).tobytes())
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": FEED_FORWARD,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    (folder / "config.json").write_text(json.dumps(config))
    text = "\n".join(path.read_text() for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for line in text.splitlines() if line.strip()),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=VOCABULARY,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )


if __name__ == "__main__":
    main()
