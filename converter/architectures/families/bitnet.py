"""BitNet b1.58: llama.cpp loads it, but computes with another activation than the model; so it is refused.

The model's feed-forwards take the square of a ReLU of their gates (arXiv:2504.12285, section 2; transformers'
``hidden_act`` of "relu2"), llama.cpp's ``bitnet`` always a SiLU, and no key switches to the other.

Another difference is smaller: the model rounds each token's activations to 8 bits before its ternary matrices, whether
the checkpoint holds these packed or as floating-point weights that are rounded as the model runs. llama.cpp rounds them
in blocks, and only before matrices of quantized types.
"""

from __future__ import annotations

from converter.architectures.family import COMPUTED_OTHERWISE

COMPUTED_OTHERWISE["BitNetForCausalLM"] = (
    "the model's feed-forwards have a squared ReLU, but llama.cpp's bitnet has a SiLU there; run it with transformers, "
    "or with bitnet.cpp"
)
