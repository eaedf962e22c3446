"""BERT and DistilBERT, RoBERTa and XLM-R, with a head or without."""

from functools import partial
from pathlib import Path
from typing import Any

from variation import Variation


def spread_norms(model: Any) -> None:
    """Weights of the norms, whose names the builder does not know as such, about their default of one."""
    import torch

    for name, parameter in model.named_parameters():
        if name.endswith("LayerNorm.weight"):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)


def as_first_released(directory: Path) -> None:
    """Norms with a gamma and a beta, positions among the weights, a head's tensors under their old names."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = {}
    for name, tensor in load_file(directory / "model.safetensors").items():
        tensors[name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")] = (
            tensor
        )
    tensors["bert.embeddings.position_ids"] = torch.arange(256)[None]
    tensors["cls.seq_relationship.weight"] = torch.ones(2, 256)
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})


ROBERTA = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}

Encoder = partial(Variation, model="AutoModel", adjust=spread_norms)

ENCODERS = [
    Encoder("bert", "BertConfig", {"layer_norm_eps": 1e-5}),
    Encoder("bert-one-type-narrow", "BertConfig", {"type_vocab_size": 1, "intermediate_size": 320}),
    Encoder(
        "bert-masked", "BertConfig", {"num_attention_heads": 8, "hidden_act": "gelu_new"}, model="AutoModelForMaskedLM"
    ),
    Encoder("bert-first-release", "BertConfig", {}, model="AutoModelForMaskedLM", rewrite=as_first_released),
    Encoder("bert-pretraining", "BertConfig", {}, model="BertForPreTraining"),
    Encoder("distilbert", "DistilBertConfig", {"hidden_dim": 512}),
    Encoder(
        "distilbert-masked",
        "DistilBertConfig",
        {"hidden_dim": 1024, "num_attention_heads": 2},
        model="AutoModelForMaskedLM",
    ),
    Encoder("roberta", "RobertaConfig", {**ROBERTA, "layer_norm_eps": 1e-5, "type_vocab_size": 1}),
    Encoder("roberta-masked", "RobertaConfig", {**ROBERTA, "pad_token_id": 5}, model="AutoModelForMaskedLM"),
    Encoder("xlm-roberta", "XLMRobertaConfig", {**ROBERTA, "max_position_embeddings": 130}),
    Encoder("camembert", "CamembertConfig", ROBERTA),
]
