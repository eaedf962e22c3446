"""What people type who know other tools: their options and commands, and what is meant here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

#: Options of other tools, by what does the same here.
OPTIONS: Mapping[str, str] = {
    **dict.fromkeys(
        ("--out", "--outfile", "--output-file", "--output-path", "--output-dir", "--save", "--dest"), "--output"
    ),
    **dict.fromkeys(
        (
            "--outtype",
            "--type",
            "--quant",
            "--quantization",
            "--quantize",
            "--quant-type",
            "--qtype",
            "--ftype",
            "--quant-method",
            "--bits",
            "--precision",
            "-q4",
            "--preset",
        ),
        "--method",
    ),
    **dict.fromkeys(("--dtype", "--torch_dtype"), "--torch-dtype, or --method f16"),
    **dict.fromkeys(
        (
            "--input",
            "--model-path",
            "--model-name",
            "--model-id",
            "--model-dir",
            "--checkpoint",
            "--path",
            "--repo",
            "--repo-id",
            "--hf-model",
            "--hf-path",
            "--source",
            "--src",
            "--from",
        ),
        "--model",
    ),
    **dict.fromkeys(("--lora", "--adapters", "--peft", "--lora-path"), "--adapter"),
    **dict.fromkeys(
        ("--thread", "--nthreads", "--nthread", "--n-threads", "--num-threads", "--workers", "-t", "-j"), "--threads"
    ),
    **dict.fromkeys(("--calibration", "--calib", "--calibration-data", "--dataset", "--text"), "--calibrate"),
    **dict.fromkeys(("--output-format", "--container", "--export", "--to"), "--format"),
    **dict.fromkeys(("--yes", "-y", "-f", "--replace", "--clobber"), "--overwrite"),
    **dict.fromkeys(("--no-verify", "--skip-verify", "--no-check", "--skip-check"), "--verify none"),
    **dict.fromkeys(("--check", "--validate", "--test"), "--verify full"),
    **dict.fromkeys(("--split", "--shard", "--max-shard-size", "--shard-size"), "--split-max-size"),
    **dict.fromkeys(("--upload", "--push", "--hub", "--push_to_hub"), "--push-to-hub"),
    **dict.fromkeys(("--dry", "--plan", "--simulate", "-n"), "--dry-run"),
    **dict.fromkeys(("--debug", "--trace"), "--verbose"),
    **dict.fromkeys(("--silent",), "--quiet"),
    **dict.fromkeys(("--json",), "--log-json"),
    **dict.fromkeys(("--yaml", "--config-file", "-c"), "--config"),
    **dict.fromkeys(("--no-cache", "--no-catalog"), "--no-catalogue"),
    "--catalog": "--catalogue",
    "--ollama": "--modelfile",
    "-m": "--model, or --method",
}
#: Options of other tools that need none here, and why.
NEEDLESS: Mapping[str, str] = {
    **dict.fromkeys(("--token", "--hf-token", "--api-key"), "set the environment's HF_TOKEN instead"),
    **dict.fromkeys(("--revision", "--branch", "--commit"), "write it behind the model: ORG/NAME@REVISION"),
    **dict.fromkeys(("--cache-dir", "--cache"), "set the environment's HF_HOME instead"),
    **dict.fromkeys(("--offline", "--local-files-only"), "set HF_HUB_OFFLINE=1 instead"),
    **dict.fromkeys(("--device", "--gpu", "--cuda", "--cpu", "--device-map"), "conversions run on the processor"),
    **dict.fromkeys(("--group-size", "--block-size"), "the method decides it; see: convert methods"),
    **dict.fromkeys(("--vocab-type", "--tokenizer-type"), "it is derived from the tokenizer's files"),
    **dict.fromkeys(("--low-memory", "--use-temp-file", "--lazy"), "weights are always read in pieces"),
}
#: Commands of other tools, by what does the same here.
COMMANDS: Mapping[str, str] = {
    **dict.fromkeys(("info", "dump", "metadata", "print", "cat", "describe"), "convert inspect FILE"),
    **dict.fromkeys(("ls", "history", "results"), "convert list"),
    **dict.fromkeys(("rm", "remove", "delete", "clean"), "convert prune"),
    **dict.fromkeys(
        ("test", "check", "validate", "eval", "evaluate", "perplexity"), "convert verify FILE --model SOURCE"
    ),
    **dict.fromkeys(("models", "architectures", "archs", "supported"), "convert families"),
    **dict.fromkeys(("types", "quants", "formats", "presets"), "convert methods"),
    **dict.fromkeys(("join", "concat", "unsplit"), "convert merge PART --output FILE"),
    **dict.fromkeys(("calibrate", "importance"), "convert imatrix"),
    **dict.fromkeys(("lora",), "convert adapter DIR --base MODEL --output FILE"),
    **dict.fromkeys(("run-batch", "many", "all"), "convert batch FILE"),
    **dict.fromkeys(("download", "pull", "fetch"), "convert ORG/NAME METHOD, which downloads what it needs"),
    **dict.fromkeys(("upload", "push", "publish"), "--push-to-hub ORG/NAME with a conversion"),
    **dict.fromkeys(("split", "shard"), "--split-max-size 4G with a conversion"),
    **dict.fromkeys(("run", "chat", "serve", "generate"), "llama-cli, or convert ollama FILE NAME"),
    "version": "convert --version",
}


def option_meant(word: str, valid: Iterable[str]) -> str:
    """The rest of "no such option": the option that is meant, or nearest by its letters; empty where there is none."""
    if reason := NEEDLESS.get(word):
        return f"; {reason}"
    if meant := OPTIONS.get(word):
        return f"; did you mean {meant}?"
    near = difflib.get_close_matches(word, list(valid), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else "; convert --help lists all of them"


def command_meant(word: str, valid: Iterable[str]) -> str:
    """The command that a word means, or is a slip of; empty where there is none."""
    if meant := COMMANDS.get(word.lower()):
        return meant
    near = difflib.get_close_matches(word.lower(), list(valid), n=1, cutoff=0.75)
    return f"convert {near[0]}" if near else ""
