"""EuroBERT, with and without the head it was trained with."""

from functools import partial

from variation import Variation

Encoder = partial(Variation, config="EuroBertConfig", model="AutoModel")

ENCODERS = [
    Encoder("eurobert", arguments={"rope_parameters": {"rope_type": "default", "rope_theta": 250000.0}}),
    Encoder("eurobert-grouped-masked", arguments={"num_key_value_heads": 2}, model="AutoModelForMaskedLM"),
    Encoder(
        "eurobert-one-head-stretched",
        arguments={
            "num_key_value_heads": 1,
            "rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
        },
    ),
]
