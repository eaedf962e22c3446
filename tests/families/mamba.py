"""Mamba, Falcon-Mamba and Mamba 2."""

from variation import Variation

#: A vocabulary that is no multiple of 8, which llama.cpp's own converter pads in the header alone.
UNPADDED = {"vocab_size": 509}
MAMBA2 = {"num_heads": 8, "head_dim": 64, "n_groups": 2, "state_size": 32, "chunk_size": 16}

VARIATIONS = [
    Variation("mamba", "MambaConfig"),
    Variation("mamba-unpadded", "MambaConfig", UNPADDED | {"tie_word_embeddings": False, "use_conv_bias": False}),
    Variation("mamba-ranks", "MambaConfig", {"time_step_rank": 24, "state_size": 32, "conv_kernel": 3}),
    Variation("falcon-mamba", "FalconMambaConfig", {"tie_word_embeddings": False}),
    Variation("mamba2", "Mamba2Config", MAMBA2),
    Variation(
        "mamba2-one-group-tied",
        "Mamba2Config",
        UNPADDED
        | MAMBA2
        | {"n_groups": 1, "tie_word_embeddings": True, "use_conv_bias": False, "expand": 3}
        | {"num_heads": 12},
    ),
]

BYTES = ["mamba", "mamba2"]
