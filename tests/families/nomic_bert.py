"""Nomic-BERT, whose files transformers saves under the published names."""

from functools import partial
from typing import Any

from variation import Variation


def spread_norms(model: Any) -> None:
    """Weights of all norms about one, also of the one whose name the builder does not know as such."""
    import torch

    for name, parameter in model.named_parameters():
        if name.lower().endswith(("norm.weight", "norm1.weight", "norm2.weight")):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)


Encoder = partial(Variation, config="NomicBertConfig", model="AutoModel", adjust=spread_norms)
SMALL = {"pad_token_id": 0, "intermediate_size": 320}

ENCODERS = [
    Encoder("nomic-bert", arguments={**SMALL, "layer_norm_eps": 1e-5}),
    Encoder(
        "nomic-bert-masked",
        arguments={
            **SMALL,
            "num_attention_heads": 2,
            "type_vocab_size": 1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 20000.0},
        },
        model="AutoModelForMaskedLM",
    ),
]
