"""A finished model directory run by transformers. Each function is called in a child process of its own.

The directory is loaded as anybody would, in the type that its configuration names, and without the converter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from converter.errors import VerificationError
from converter.runtime.environment import environment_of, require
from converter.verification import results
from converter.verification.compare import compare as compare_results
from converter.verification.isolation import ENVIRONMENT, FAILURE, answering
from converter.verification.run_source import REFERENCES, write_results
from converter.verification.source_model import auto_class, check_loaded, one_line
from converter.verification.windows import WINDOW

PROMPT = "The function"
NEW_TOKENS = 16
#: Tokens to start from where the directory has no tokenizer.
BARE_PROMPT = (1, 2, 3)

#: Ends of names of classes that predict text.
_CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


@answering
def try_out(path: str, threads: int, trust_remote_code: bool) -> dict[str, Any]:
    """Load the model and run a short prompt: continue it greedily or embed it, and look at every number on the way.

    Args:
        path: the directory.
        threads: threads to compute with.
        trust_remote_code: let transformers run the directory's own code.

    Returns:
        ``kind``, a key of ``REFERENCES``; ``generated``: the new tokens' text; ``context_length``; ``row_length``: of a
        row of logits or of an embedding.

    Raises:
        VerificationError: why transformers cannot run it, or what is wrong with its results.
        EnvironmentFailure: a package is missing or broken, or there is too little memory.
    """
    torch, transformers = require("torch"), require("transformers")
    torch.set_num_threads(threads)
    options = {"trust_remote_code": trust_remote_code, "local_files_only": True}
    try:
        config = transformers.AutoConfig.from_pretrained(path, **options)
        kind = kind_of(config)
        found = auto_class(config, REFERENCES[kind].classes, named=kind == "encoder")
        model, info = found.from_pretrained(path, dtype="auto", output_loading_info=True, **options)
        tokenizer = None
        if any(Path(path).glob("tokenizer*")):
            tokenizer = transformers.AutoTokenizer.from_pretrained(path, **options)
    except Exception as error:  # transformers raises whatever it meets
        if (failure := environment_of(error)) is not None:
            raise failure from error
        raise VerificationError(f"transformers cannot load it: {one_line(error)}") from error
    check_loaded(model, info, REFERENCES[kind].unread)
    ids = torch.tensor([tokenizer(PROMPT)["input_ids"] if tokenizer else BARE_PROMPT])
    with torch.inference_mode():
        rows, new = embedded(model, ids) if kind == "encoder" else generated(model.eval(), ids)
    if not torch.isfinite(rows).all():
        raise VerificationError(f"its results are not finite in {model.dtype}, the type that its config.json names")
    if bool((rows.amax(-1) == rows.amin(-1)).any()):
        raise VerificationError(f"all {rows.shape[-1]} elements of a result are the same")
    return {
        "kind": kind,
        "generated": tokenizer.decode(new, skip_special_tokens=True) if tokenizer else "",
        "context_length": getattr(config.get_text_config(), "max_position_embeddings", None) or WINDOW,
        "row_length": rows.shape[-1],
    }


def kind_of(config: Any) -> str:
    """What a configuration's model is, a key of ``REFERENCES``."""
    if getattr(config, "is_encoder_decoder", False):
        return "encoder-decoder"
    return "causal" if any(name.endswith(_CAUSAL) for name in config.architectures or ()) else "encoder"


def generated(model: Any, ids: Any) -> tuple[Any, list[int]]:
    """Continue a prompt greedily: logits (tokens, vocabulary), and the tokens."""
    import torch

    made = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    logits = torch.cat(made.logits)
    return logits, made.sequences[0, -len(logits) :].tolist()


def embedded(model: Any, ids: Any) -> tuple[Any, list[int]]:
    """Embeddings of a prompt's tokens (tokens, width); nothing is generated."""
    return model.eval().base_model(ids).last_hidden_state[0], []


@answering
def compare(folder: str, source_folder: str, **request: Any) -> dict[str, Any]:
    """Run the model over the windows that the source was run on, and add up how far the results are apart.

    Args:
        folder: an existing directory for the model's results.
        source_folder: where the source's ``results`` lie.
        request: what ``write_results`` takes, the directory as ``source``.

    Returns:
        The figures of ``compare``, by name.

    Raises:
        VerificationError: why transformers cannot run it.
    """
    answer = write_results(folder=folder, stock=True, **request)
    if FAILURE in answer or ENVIRONMENT in answer:
        return answer
    ids, found = results.load(Path(folder))
    _, expected = results.load(Path(source_folder))
    return compare_results(request["kind"], zip(ids, expected, found, strict=True))
