"""config.json's ``model_type``, by which transformers knows a model whose ``architectures`` are missing.

transformers keeps the same in ``models/auto/modeling_auto.py``; importing it takes seconds. A type with several classes
here has models of several families, which their tensors' names tell apart.
"""

from __future__ import annotations

import re
from collections.abc import Collection

MODEL_TYPES: dict[str, tuple[str, ...]] = {
    "afmoe": ("AfmoeForCausalLM",),
    "apertus": ("ApertusForCausalLM",),
    "arcee": ("ArceeForCausalLM",),
    "baichuan": ("BaichuanForCausalLM",),
    "bailing_moe": ("BailingMoeForCausalLM",),
    "bamba": ("BambaForCausalLM",),
    "bert": ("BertModel", "BertForSequenceClassification"),
    "bloom": ("BloomForCausalLM",),
    "camembert": ("CamembertModel", "CamembertForSequenceClassification"),
    "chatglm": ("ChatGLMModel",),
    "cohere": ("CohereForCausalLM",),
    "cohere2": ("Cohere2ForCausalLM",),
    "cohere2_moe": ("Cohere2MoeForCausalLM",),
    "dbrx": ("DbrxForCausalLM",),
    "deepseek_v2": ("DeepseekV2ForCausalLM",),
    "deepseek_v3": ("DeepseekV3ForCausalLM",),
    "deepseek_v32": ("DeepseekV32ForCausalLM",),
    "distilbert": ("DistilBertModel",),
    "dots1": ("Dots1ForCausalLM",),
    "ernie4_5": ("Ernie4_5ForCausalLM",),
    "ernie4_5_moe": ("Ernie4_5_MoeForCausalLM",),
    "eurobert": ("EuroBertModel",),
    "exaone": ("ExaoneForCausalLM",),
    "exaone4": ("Exaone4ForCausalLM",),
    "exaone4_5": ("Exaone4_5_ForConditionalGeneration",),
    "exaone_moe": ("ExaoneMoeForCausalLM",),
    "falcon": ("FalconForCausalLM",),
    "falcon_h1": ("FalconH1ForCausalLM",),
    "falcon_mamba": ("FalconMambaForCausalLM",),
    "gemma": ("GemmaForCausalLM",),
    "gemma2": ("Gemma2ForCausalLM",),
    "gemma3": ("Gemma3ForConditionalGeneration",),
    "gemma3_text": ("Gemma3ForCausalLM", "Gemma3TextModel"),
    "gemma3n": ("Gemma3nForConditionalGeneration",),
    "gemma3n_text": ("Gemma3nForCausalLM",),
    "gemma4": ("Gemma4ForConditionalGeneration",),
    "gemma4_text": ("Gemma4ForCausalLM",),
    "gemma4_unified": ("Gemma4UnifiedForConditionalGeneration",),
    "gemma4_unified_text": ("Gemma4UnifiedForCausalLM",),
    "glm": ("GlmForCausalLM",),
    "glm4": ("Glm4ForCausalLM",),
    "glm4_moe": ("Glm4MoeForCausalLM",),
    "glm4_moe_lite": ("Glm4MoeLiteForCausalLM",),
    "glm4v": ("Glm4vForConditionalGeneration",),
    "glm4v_moe": ("Glm4vMoeForConditionalGeneration",),
    "glm_moe_dsa": ("GlmMoeDsaForCausalLM",),
    "glm_ocr": ("GlmOcrForConditionalGeneration",),
    "gpt2": ("GPT2LMHeadModel",),
    "gpt_bigcode": ("GPTBigCodeForCausalLM",),
    "gpt_neox": ("GPTNeoXForCausalLM",),
    "gpt_oss": ("GptOssForCausalLM",),
    "granite": ("GraniteForCausalLM",),
    "granite_swa": ("GraniteSWAForCausalLM",),
    "granitemoe": ("GraniteMoeForCausalLM",),
    "granitemoe_swa": ("GraniteMoeSWAForCausalLM",),
    "granitemoehybrid": ("GraniteMoeHybridForCausalLM",),
    "granitemoeshared": ("GraniteMoeSharedForCausalLM",),
    "hunyuan_v1_dense": ("HunYuanDenseV1ForCausalLM",),
    "hunyuan_v1_moe": ("HunYuanMoEV1ForCausalLM",),
    "idefics3": ("Idefics3ForConditionalGeneration",),
    "internlm2": ("InternLM2ForCausalLM",),
    "internlm3": ("InternLM3ForCausalLM",),
    "internvl": ("InternVLForConditionalGeneration",),
    "jais2": ("Jais2ForCausalLM",),
    "jamba": ("JambaForCausalLM",),
    "lfm2": ("Lfm2ForCausalLM",),
    "lfm2_moe": ("Lfm2MoeForCausalLM",),
    "lfm2_vl": ("Lfm2VlForConditionalGeneration",),
    "llama": ("LlamaForCausalLM",),
    "llama4": ("Llama4ForConditionalGeneration",),
    "llama4_text": ("Llama4ForCausalLM",),
    "llava": ("LlavaForConditionalGeneration",),
    "mamba": ("MambaForCausalLM",),
    "mamba2": ("Mamba2ForCausalLM",),
    "mimo_v2_flash": ("MiMoV2FlashForCausalLM",),
    "minicpm": ("MiniCPMForCausalLM",),
    "minicpm3": ("MiniCPM3ForCausalLM",),
    "minimax_m2": ("MiniMaxM2ForCausalLM",),
    "ministral3": ("Ministral3ForCausalLM",),
    "mistral": ("MistralForCausalLM",),
    "mistral3": ("Mistral3ForConditionalGeneration",),
    "mixtral": ("MixtralForCausalLM",),
    "modernbert": ("ModernBertModel", "ModernBertForSequenceClassification"),
    "mpt": ("MptForCausalLM",),
    "mt5": ("MT5ForConditionalGeneration", "MT5EncoderModel"),
    "nemotron": ("NemotronForCausalLM",),
    "nemotron_h": ("NemotronHForCausalLM",),
    "nomic_bert": ("NomicBertModel",),
    "olmo": ("OlmoForCausalLM",),
    "olmo2": ("Olmo2ForCausalLM",),
    "olmo3": ("Olmo3ForCausalLM",),
    "olmoe": ("OlmoeForCausalLM",),
    "orion": ("OrionForCausalLM",),
    "paddleocr_vl": ("PaddleOCRVLForConditionalGeneration",),
    "phi": ("PhiForCausalLM",),
    "phi3": ("Phi3ForCausalLM",),
    "qwen2": ("Qwen2ForCausalLM",),
    "qwen2_5_vl": ("Qwen2_5_VLForConditionalGeneration",),
    "qwen2_moe": ("Qwen2MoeForCausalLM",),
    "qwen2_vl": ("Qwen2VLForConditionalGeneration",),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3ForSequenceClassification"),
    "qwen3_5": ("Qwen3_5ForConditionalGeneration",),
    "qwen3_5_moe": ("Qwen3_5MoeForConditionalGeneration",),
    "qwen3_5_moe_text": ("Qwen3_5MoeForCausalLM",),
    "qwen3_5_text": ("Qwen3_5ForCausalLM",),
    "qwen3_moe": ("Qwen3MoeForCausalLM",),
    "qwen3_next": ("Qwen3NextForCausalLM",),
    "qwen3_vl": ("Qwen3VLForConditionalGeneration",),
    "qwen3_vl_moe": ("Qwen3VLMoeForConditionalGeneration",),
    "RefinedWeb": ("RWForCausalLM",),
    "RefinedWebModel": ("RWForCausalLM",),
    "roberta": ("RobertaModel", "RobertaForSequenceClassification"),
    "seed_oss": ("SeedOssForCausalLM",),
    "smollm3": ("SmolLM3ForCausalLM",),
    "smolvlm": ("SmolVLMForConditionalGeneration",),
    "solar_open": ("SolarOpenForCausalLM",),
    "stablelm": ("StableLmForCausalLM",),
    "starcoder2": ("Starcoder2ForCausalLM",),
    "t5": ("T5ForConditionalGeneration", "T5EncoderModel"),
    "umt5": ("UMT5ForConditionalGeneration", "UMT5EncoderModel"),
    "xlm-roberta": ("XLMRobertaModel", "XLMRobertaForSequenceClassification"),
    "youtu": ("YoutuForCausalLM",),
}

#: How a class's checkpoints are told from those of others of the same ``model_type``: names of tensors begin so. What
#: begins no name is never taken for granted.
EVIDENCE = {
    r".*ForSequenceClassification": r"(classifier|score)\.",
    r"U?M?T5ForConditionalGeneration": r"decoder\.",
    r"Gemma3ForCausalLM": r"model\.",
    # EmbeddingGemma is named as a Gemma 3 without its head would be.
    r"Gemma3TextModel": r"(?!)",
}


def classes_of(model_type: str, tensors: Collection[str]) -> tuple[str, ...]:
    """Classes that a checkpoint of that type may be of, one where its tensors' names decide it; none of a type unknown.

    Args:
        model_type: config.json's.
        tensors: names of the checkpoint's tensors.
    """
    classes = MODEL_TYPES.get(model_type, ())
    if len(classes) < 2:
        return classes
    patterns = {name: next((EVIDENCE[kind] for kind in EVIDENCE if re.fullmatch(kind, name)), None) for name in classes}
    shown = [
        name for name, pattern in patterns.items() if pattern and any(re.match(pattern, tensor) for tensor in tensors)
    ]
    left = shown or [name for name, pattern in patterns.items() if pattern is None]
    return (left[0],) if len(left) == 1 else classes
