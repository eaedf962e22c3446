"""Which tensors deserve more bits than most: llama.cpp's mixes, as a table.

The rules are those of ``llama_model_quantize`` (llama.cpp, ``src/llama-quant.cpp``). A tensor belongs to a category by
its name; each method lists, for each category, types with the condition under which they apply. The first that applies
wins; where none does, the tensor takes the method's own type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Situation:
    """What the rules may ask about a tensor and its model.

    Attributes:
        order: how many tensors of the category come before it, in the order of blocks.
        layer: the number of its block; for dense models llama.cpp takes ``order``.
        layers: how many there are: tensors of the category for attention values, blocks for feed-forward.
        sharing: query heads for each key-value head.
        experts: routed experts of a block, 0 for dense models.
        falcon: the model is one of those whose feed-forward output bears fewer bits.
        importance: an importance matrix is given.
    """

    order: int
    layer: int
    layers: int
    sharing: int
    experts: int
    falcon: bool
    importance: bool


Condition = Callable[[Situation], bool]
Rules = Mapping[str, Sequence[tuple[str, Condition]]]


def always(_: Situation) -> bool:
    return True


def shared(at: Situation) -> bool:
    """Four or more query heads share a value head: its matrix is small and matters more."""
    return at.sharing >= 4


def eight_experts(at: Situation) -> bool:
    return at.experts == 8


def first(share: int) -> Condition:
    """The first ``1/share`` of the blocks."""
    return lambda at: at.layer < at.layers // share


def outer(at: Situation) -> bool:
    """The first and last eighth of the blocks, and every third between."""
    eighth = at.layers // 8
    return at.layer < eighth or at.layer >= 7 * at.layers // 8 or (at.layer - eighth) % 3 == 2


def inner(at: Situation) -> bool:
    """All but the first and last eighth of the blocks."""
    return at.layers // 8 <= at.layer < 7 * at.layers // 8


def falcon(at: Situation) -> bool:
    return at.falcon


def importance(at: Situation) -> bool:
    return at.importance


def both(*conditions: Condition) -> Condition:
    return lambda at: all(condition(at) for condition in conditions)


def either(*conditions: Condition) -> Condition:
    return lambda at: any(condition(at) for condition in conditions)


def no(condition: Condition) -> Condition:
    return lambda at: not condition(at)


def numbered(below: int) -> Condition:
    """The first few tensors of the category."""
    return lambda at: at.order < below


def first_counted(share: int) -> Condition:
    """The first ``1/share`` of the blocks, counted in tensors of the category."""
    return lambda at: at.order < at.layers // share


#: Attention outputs of eight-expert models, in the methods of 4 bits and fewer.
EIGHT = ("q5_k", both(eight_experts, no(falcon)))
#: A rule for dense models only, Falcon's relatives left out.
PLAIN = no(either(eight_experts, falcon))

_TINY: Rules = {
    "attn_v": [("q4_k", either(shared, lambda at: at.experts >= 4)), ("q2_k", always)],
    "attn_k": [("q4_k", eight_experts)],
    "attn_output": [("q5_k", eight_experts)],
    "ffn_down": [("q2_k", first_counted(8))],
    "token_embd": [("q2_k", always)],
    "output": [("q5_k", always)],
}
_SMALL: Rules = {
    "attn_v": [("q4_k", either(shared, lambda at: at.experts >= 4)), ("iq3_s", always)],
    "attn_k": [("q4_k", eight_experts)],
    "attn_output": [("q5_k", eight_experts), ("iq3_s", always)],
    "ffn_down": [("iq3_s", first_counted(8))],
    "token_embd": [("iq3_s", always)],
    "output": [("q5_k", always)],
}
_ONE_BIT: Rules = {**_TINY, "attn_output": [("q5_k", eight_experts), ("iq2_xxs", always)]}
_TERNARY: Rules = {"token_embd": [("q4_k", always)]}
_FOUR_CURVED: Rules = {
    "attn_v": [("q5_k", shared)],
    "attn_output": [EIGHT],
    "ffn_down": [("q5_k", both(first(8), no(importance)))],
}

#: For each method, for each category, types and when they apply.
RULES: Mapping[str, Rules] = {
    "q4_0": {"ffn_down": [("q4_1", both(importance, first(8)))]},
    "q5_0": {"ffn_down": [("q5_1", both(importance, first(8)))]},
    "q2_k": {
        "attn_v": [("q4_k", shared), ("q3_k", always)],
        "attn_output": [EIGHT, ("q3_k", PLAIN)],
        "ffn_down": [("q3_k", always)],
    },
    "q2_k_s": {"attn_v": [("q4_k", shared)], "ffn_down": [("q4_k", first(8))]},
    "q3_k_s": {"attn_output": [EIGHT]},
    "q3_k_m": {
        "attn_v": [("q5_k", numbered(below=2)), ("q4_k", always)],
        "attn_output": [EIGHT, ("q4_k", PLAIN)],
        "ffn_down": [("q5_k", first(16)), ("q4_k", either(no(falcon), outer))],
    },
    "q3_k_l": {
        "attn_v": [("q5_k", always)],
        "attn_output": [("q4_k", falcon), ("q5_k", PLAIN)],
        "ffn_down": [("q4_k", falcon), ("q5_k", always)],
    },
    "q4_k_s": {
        "attn_v": [("q5_k", numbered(below=4))],
        "attn_output": [EIGHT],
        "ffn_down": [("q5_k", both(first(8), no(falcon)))],
    },
    "q4_k_m": {
        "attn_v": [("q6_k", outer)],
        "attn_output": [EIGHT],
        "ffn_down": [
            ("q6_k", both(falcon, first(16))),
            ("q5_k", both(falcon, outer)),
            ("q6_k", both(no(falcon), outer)),
        ],
    },
    "q5_k_m": {"attn_v": [("q6_k", outer)], "ffn_down": [("q6_k", outer)]},
    "iq4_nl": _FOUR_CURVED,
    "iq4_xs": _FOUR_CURVED,
    "iq3_m": {
        "attn_v": [("q4_k", always)],
        "attn_output": [EIGHT, ("q4_k", PLAIN)],
        "ffn_down": [("q4_k", either(first(8), both(eight_experts, outer)))],
    },
    "iq3_s": {"attn_v": [("q4_k", shared)], "attn_output": [EIGHT]},
    "iq3_xs": {
        "attn_v": [("q4_k", shared)],
        "attn_k": [("iq3_xxs", always)],
        "attn_q": [("iq3_xxs", always)],
        "attn_output": [EIGHT],
        "ffn_gate": [("iq3_xxs", inner)],
        "ffn_up": [("iq3_xxs", inner)],
    },
    "iq3_xxs": {
        "attn_v": [("q4_k", shared), ("iq3_s", no(importance))],
        "attn_k": [("iq2_s", always)],
        "attn_q": [("iq2_s", always)],
        "attn_output": [EIGHT, ("iq3_s", PLAIN)],
        "ffn_down": [("q4_k", both(first(8), no(importance))), ("q3_k", no(importance))],
        "token_embd": [("iq3_s", always)],
        "output": [("q5_k", always)],
    },
    "iq2_m": _SMALL,
    "iq2_s": _SMALL,
    "iq2_xs": _TINY,
    "iq2_xxs": _TINY,
    "iq1_m": _ONE_BIT,
    "iq1_s": _ONE_BIT,
    "tq1_0": _TERNARY,
    "tq2_0": _TERNARY,
}

#: Methods whose rules stand alone; in all others, attention keys and values of eight-expert models take q8_0.
WITHOUT_COMMON_RULES = frozenset({"iq2_m", "iq2_s", "iq2_xs", "iq2_xxs", "iq1_m", "iq1_s", "mxfp4_moe"})

#: Parts of names, and the category they mean; the first that is found counts. The fused and latent projections that
#: hold the values count as values.
CATEGORIES = (
    ("attn_qkv.weight", "attn_v"),
    ("attn_kv_b.weight", "attn_v"),
    ("attn_v.weight", "attn_v"),
    ("attn_k.weight", "attn_k"),
    ("attn_q.weight", "attn_q"),
    ("attn_output.weight", "attn_output"),
    ("ffn_up", "ffn_up"),
    ("ffn_gate", "ffn_gate"),
    ("ffn_down", "ffn_down"),
)
EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")

#: Parts of the names of matrices that stay as they are: norms, routers, small or precise tables.
NEVER_QUANTIZED = (
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "time_mix_first.weight",
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",
    ".position_embd",
    "sam.pos_embd",
    "sam.neck.",
    "sam.net_",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
    "a.rvq.codebook",
    "mm.a.code_embd",
)
#: Whole names of the same kind.
NEVER_QUANTIZED_NAMES = frozenset({"position_embd.weight", "token_types.weight"})

#: The type that takes over where a row is not a multiple of the chosen type's block; then f16.
NARROWER = {
    **dict.fromkeys(("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_xs"), "iq4_nl"),
    **dict.fromkeys(("q2_k", "q3_k", "tq1_0", "tq2_0"), "q4_0"),
    "q4_k": "q5_0",
    "q5_k": "q5_1",
    "q6_k": "q8_0",
}

#: Types that are useless without an importance matrix, and a method that makes one more so.
NEED_IMPORTANCE = frozenset({"iq3_xxs", "iq2_xxs", "iq2_xs", "iq2_s", "iq1_m", "iq1_s"})
NEED_IMPORTANCE_IN = {"q2_k_s": frozenset({"q2_k"})}
