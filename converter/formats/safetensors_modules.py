"""Which of a checkpoint's weights belong to linear modules of its blocks.

transformers knows: the model's class is built from its configuration on torch's meta device, without weights, in a
child process. That takes seconds, so for common kinds of models, where the names alone tell, they are trusted; the
tests hold them against transformers.
"""

from __future__ import annotations

import inspect
import json
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.architectures import in_transformers
from converter.errors import ArchitectureError
from converter.runtime import IsolatedFailure, run_isolated
from converter.runtime.environment import environment_failure

#: Linear modules that stay plain: what selects experts, and what sees or hears for a language model.
_PLAIN = re.compile(r"(^|\.)(vision|visual|audio)|(^|[._])(gate|router)$")
_NUMBERED = re.compile(r"\.\d+\.")
_IN_BLOCK = re.compile(r"\D*\.\d+\.(?!.*norm).*\.weight$")

#: In the code that gives a module's missing weights their first values: a weight of another module within it.
_INITIALIZED = re.compile(r"\bmodule\.\w+\.weight\b")

#: Auto classes to try for a configuration that names no class of transformers.
_AUTO = ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoModel")


@dataclass(frozen=True)
class LinearModules:
    """Linear modules of a model.

    Attributes:
        model: the model's class.
        blocks: those of its blocks: name of the weight in the checkpoint, and of the module.
        experts: weights of single experts that transformers merges into one parameter: name in the checkpoint, and of
            that parameter or the expert's module.
        others: names of all other linear modules, those with transposed weights included.
        dense: whether transformers' class may reach for weights before it is run, when packed modules have none.
        derived: names of those modules of its blocks whose class is derived from torch's.
    """

    model: str
    blocks: Mapping[str, str]
    experts: Mapping[str, str]
    others: tuple[str, ...]
    dense: bool = False
    derived: frozenset[str] = frozenset()


def linear_modules(
    directory: Path, config: Mapping[str, Any], weights: Iterable[str], *, trust_remote_code: bool
) -> LinearModules:
    """The linear modules of a checkpoint.

    Args:
        directory: where the checkpoint's own code lies.
        config: ``config.json``.
        weights: names of its tensors.
        trust_remote_code: let transformers run that code.

    Raises:
        ArchitectureError: transformers does not know the model.
    """
    if in_transformers(config.get("model_type")).linear_by_name and "auto_map" not in config:
        return by_name((config.get("architectures") or [config["model_type"]])[0], weights)
    try:
        found = run_isolated(
            f"{__name__}:find",
            directory=str(directory),
            config=dict(config),
            weights=list(weights),
            trust_remote_code=trust_remote_code,
        )
    except IsolatedFailure as failure:
        if (environment := environment_failure(failure)) is not None:
            raise environment from failure
        found = {"failure": str(failure)}
    if "failure" in found:
        hint = "" if trust_remote_code or "auto_map" not in config else ", or pass --trust-remote-code"
        raise ArchitectureError(
            f"{directory}: transformers cannot build the model to tell which weights are linear: {found['failure']}; "
            f"use --method bf16, f16 or f32{hint}"
        )
    derived = frozenset(found["derived"])
    return LinearModules(
        found["model"], found["blocks"], found["experts"], tuple(found["others"]), found["dense"], derived
    )


def by_name(model: str, weights: Iterable[str]) -> LinearModules:
    """The same by the names of the tensors, of a kind whose names tell (``InTransformers.linear_by_name``)."""
    within = {name: name.removesuffix(".weight") for name in weights if _IN_BLOCK.match(name)}
    experts = {name: module for name, module in within.items() if ".experts." in name}
    plain = {name: module for name, module in within.items() if _PLAIN.search(module)}
    blocks = {name: module for name, module in within.items() if name not in experts and name not in plain}
    return LinearModules(model, blocks, experts, tuple(sorted({"lm_head", *plain.values()})))


def find(directory: str, config: dict[str, Any], weights: list[str], trust_remote_code: bool) -> dict[str, Any]:
    """The child's side: the attributes of :class:`LinearModules`, or ``failure``: why not, in one line."""
    try:
        model = _build(directory, config, trust_remote_code)
    except Exception as error:  # a stranger's configuration: transformers raises whatever it meets
        return {"failure": (" ".join(str(error).split()) or type(error).__name__)[:400]}
    import torch
    from transformers.pytorch_utils import Conv1D

    linear = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    transposed = [name for name, module in model.named_modules() if isinstance(module, Conv1D)]
    head = model.get_output_embeddings()
    blocks, experts, others = {}, {}, {*linear, *transposed}
    for weight, parameter, merged in _parameters(model, weights):
        module = parameter.removesuffix(".weight")
        if merged and module not in linear and weight.endswith(".weight") and "experts" in weight:
            experts[weight] = parameter
        elif merged or module not in linear:
            continue
        elif linear[module] is head or _PLAIN.search(module) or not _NUMBERED.search(module):
            others.add(weight.removesuffix(".weight"))  # vLLM knows the module by its name in the checkpoint
        else:
            blocks[weight] = module
            others.discard(module)
    derived = [module for module in blocks.values() if type(linear[module]) is not torch.nn.Linear]
    return {
        "model": type(model).__name__,
        "blocks": blocks,
        "experts": experts,
        "others": sorted(others),
        "dense": bool(derived or _INITIALIZED.search(inspect.getsource(model._init_weights))),
        "derived": derived,
    }


def _build(directory: str, settings: dict[str, Any], trust_remote_code: bool) -> Any:
    """The model on the meta device."""
    import torch
    import transformers

    settings = {key: value for key, value in settings.items() if key != "quantization_config"}
    if trust_remote_code and "auto_map" in settings:
        config = transformers.AutoConfig.from_pretrained(directory, trust_remote_code=True, local_files_only=True)
    else:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps(settings), encoding="utf-8")
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    name = (config.architectures or [""])[0]
    known = getattr(transformers, name, None)
    with torch.device("meta"):
        if isinstance(known, type) and issubclass(known, transformers.PreTrainedModel):
            return known(config)
        autos = [getattr(transformers, auto) for auto in _AUTO]
        mapped = [auto for auto in autos if auto.__name__ in (getattr(config, "auto_map", None) or {})]
        fitting = mapped or [auto for auto in autos if type(config) in auto._model_mapping] or autos[:1]
        return fitting[0].from_config(config, trust_remote_code=trust_remote_code)


def _parameters(model: Any, weights: list[str]) -> list[tuple[str, str, bool]]:
    """For each weight of the checkpoint the parameter it is loaded into, and whether it is merged with others there."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    mapping, parameters = get_model_conversion_mapping(model), model.state_dict()
    renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
    prefix = model.base_model_prefix
    found = []
    for weight in weights:
        parameter, merged = rename_source_key(weight, renamings, converters, prefix, parameters)
        if parameter not in parameters:
            parameter, merged = rename_source_key(weight, [], [], prefix, parameters)
        if parameter in parameters:
            found.append((weight, parameter, merged is not None))
    return found
