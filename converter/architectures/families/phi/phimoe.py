"""Phi-3.5-MoE: llama.cpp loads it, but chooses and weighs experts by another rule than the model; so it is refused.

The model's rule is the sparse mixer of arXiv:2409.12136, as transformers' ``phimoe`` has it. The best expert's weight
is its softmax among those experts alone whose logits are within two per cent of the best one's, so it is 1 where there
is no other; the second is weighed likewise among those that are left. The two weights mostly sum to 2, and jump where
another expert comes within two per cent. llama.cpp's ``phimoe`` takes a softmax over all experts and divides the two
largest by their sum: weights that sum to 1 and jump nowhere. No key switches to the other rule.

Its norms are another difference, but one that weights could make up for: the model has layer norms with biases,
llama.cpp RMS norms with biases, and the two are equal once the embedding and each projection that adds to the hidden
state have the mean over its elements taken out.
"""

from __future__ import annotations

from converter.architectures.family import COMPUTED_OTHERWISE

#: The model's own code spells its name differently from transformers.
CLASSES = ("PhiMoEForCausalLM", "PhimoeForCausalLM")

COMPUTED_OTHERWISE.update(
    dict.fromkeys(
        CLASSES,
        "the model weighs its two experts by a sparse mixer, which gives both a weight near 1, but llama.cpp by a "
        "softmax, which gives them weights of sum 1, and puts RMS norms where the model has layer norms; run it with "
        "transformers",
    )
)
