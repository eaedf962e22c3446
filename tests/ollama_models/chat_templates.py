"""Chat templates with the structure of the known families', in Jinja, each as short as its structure allows."""

from __future__ import annotations

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}

_TURNS = "{% for m in messages %}"
_END = "{% endfor %}"
_SYSTEM_FIRST = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set turns = messages[1:] %}"
    "{% else %}{% set turns = messages %}{% endif %}"
)
_NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"

CHATML = (
    _TURNS + "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}" + _END
    + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)  # fmt: skip


def _each(system: str, user: str, assistant: str, generation: str, begin: str = "") -> str:
    """One expression for each role's turn."""
    return (
        f"{begin}{_TURNS}{{% if m.role == 'system' %}}{system}{{% elif m.role == 'user' %}}{user}"
        f"{{% else %}}{assistant}{{% endif %}}{_END}{{% if add_generation_prompt %}}{generation}{{% endif %}}"
    )


FAMILIES = {
    "chatml": CHATML,
    "qwen2.5": (
        "{%- if messages[0].role != 'system' %}{{- '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}{%- endif %}"
        + CHATML
    ),
    "qwen3": (
        "{%- set ns = namespace(last=0) %}{%- for m in messages %}{%- if m.role == 'user' %}"
        "{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}"
        "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}"
        "{%- set content = m.content.split('</think>')[-1].lstrip('\\n') if m.role == 'assistant' else m.content %}"
        "{%- if m.role == 'assistant' and loop.index0 > ns.last and m.reasoning_content is defined %}"
        "{{- '<think>\\n' + m.reasoning_content.strip('\\n') + '\\n</think>\\n\\n' }}{%- endif %}"
        "{{- content + '<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
        "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}"
        "{%- endif %}{%- endif %}"
    ),
    "llama2": (
        _SYSTEM_FIRST + "{% for m in turns %}{% if loop.first and system is defined %}"
        "{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + m.content %}{% else %}"
        "{% set content = m.content %}{% endif %}{% if m.role == 'user' %}"
        "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% else %}"
        "{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
    ),
    "llama3": (
        _TURNS + "{% set text = '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | trim "
        "+ '<|eot_id|>' %}{{ bos_token + text if loop.first else text }}" + _END
        + "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
    ),
    "llama3.2": (
        "{{- bos_token }}{%- if not date_string is defined %}{%- if strftime_now is defined %}"
        "{%- set date_string = strftime_now('%d %b %Y') %}{%- else %}{%- set date_string = '26 Jul 2024' %}"
        "{%- endif %}{%- endif %}" + _SYSTEM_FIRST
        + "{{- '<|start_header_id|>system<|end_header_id|>\\n\\nCutting Knowledge Date: December 2023\\nToday Date: ' "
        "+ date_string + '\\n\\n' + system | default('') + '<|eot_id|>' }}{%- for m in turns %}"
        "{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' }}"
        "{%- endfor %}{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"
        "{%- endif %}"
    ),
    "gemma": (
        "{{ bos_token }}" + _NO_SYSTEM + _TURNS + "{% set role = 'model' if m.role == 'assistant' else m.role %}"
        "{{ '<start_of_turn>' + role + '\\n' + m.content | trim + '<end_of_turn>\\n' }}" + _END
        + "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
    ),
    "gemma3": (
        "{{ bos_token }}" + _SYSTEM_FIRST + "{% for m in turns %}"
        "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' }}"
        "{{ (system + '\\n\\n' if loop.first and system is defined else '') + m.content | trim + '<end_of_turn>\\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
    ),
    "mistral v0.1": (
        "{{ bos_token }}" + _NO_SYSTEM + _TURNS + "{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
        "{% else %}{{ m.content + eos_token + ' ' }}{% endif %}" + _END
    ),
    "mistral v1": (
        "{{ bos_token }}" + _SYSTEM_FIRST + "{% for m in turns %}{% if m.role == 'user' %}"
        "{{ ' [INST] ' + (system + '\\n\\n' if loop.first and system is defined else '') + m.content + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
    ),
    "mistral v3": (
        "{{ bos_token }}" + _SYSTEM_FIRST + "{% for m in turns %}{% if m.role == 'user' %}"
        "{{ '[INST] ' + (system + '\\n\\n' if loop.last and system is defined else '') + m.content + '[/INST]' }}"
        "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
    ),
    "mistral v7": _each(
        "{{ '[SYSTEM_PROMPT] ' + m.content + '[/SYSTEM_PROMPT]' }}", "{{ '[INST] ' + m.content + '[/INST]' }}",
        "{{ ' ' + m.content + eos_token }}", "", "{{ bos_token }}",
    ),
    "phi3": _each(
        "{{ '<|system|>\\n' + m.content + '<|end|>\\n' }}", "{{ '<|user|>\\n' + m.content + '<|end|>\\n' }}",
        "{{ '<|assistant|>\\n' + m.content + '<|end|>\\n' }}", "{{ '<|assistant|>\\n' }}",
    ),
    "phi4": (
        _TURNS + "{{ '<|im_start|>' + m.role + '<|im_sep|>' + m.content + '<|im_end|>' }}" + _END
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"
    ),
    "zephyr": (
        _TURNS + "{{ '<|' + m.role + '|>\\n' + m.content + eos_token + '\\n' }}" + _END
        + "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
    ),
    "vicuna": (
        "{{ bos_token }}" + _SYSTEM_FIRST + "{{ system | default('A chat between a user and an assistant.') + ' ' }}"
        "{% for m in turns %}{% if m.role == 'user' %}{{ 'USER: ' + m.content + ' ' }}{% else %}"
        "{{ 'ASSISTANT: ' + m.content + eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
    ),
    "alpaca": _each(
        "{{ m.content + '\\n\\n' }}", "{{ '### Instruction:\\n' + m.content + '\\n\\n' }}",
        "{{ '### Response:\\n' + m.content + '\\n\\n' }}", "{{ '### Response:\\n' }}",
    ),
    "command-r": (
        "{{ bos_token }}" + _TURNS + "{% set role = {'system': 'SYSTEM', 'user': 'USER', 'assistant': 'CHATBOT'} %}"
        "{{ '<|START_OF_TURN_TOKEN|><|' + role[m.role] + '_TOKEN|>' + m.content + '<|END_OF_TURN_TOKEN|>' }}" + _END
        + "{% if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}"
    ),
    "deepseek v2": _each(
        "{{ m.content + '\\n\\n' }}", "{{ 'User: ' + m.content + '\\n\\n' }}",
        "{{ 'Assistant: ' + m.content + eos_token }}", "{{ 'Assistant:' }}", "{{ bos_token }}",
    ),
    "deepseek v3": _each(
        "{{ m.content }}", "{{ '<｜User｜>' + m.content }}", "{{ '<｜Assistant｜>' + m.content + eos_token }}",
        "{{ '<｜Assistant｜>' }}", "{{ bos_token }}",
    ),
    "deepseek r1": _each(
        "{{ m.content }}", "{{ '<｜User｜>' + m.content }}",
        "{{ '<｜Assistant｜>' + m.content.split('</think>')[-1] + eos_token }}", "{{ '<｜Assistant｜><think>\\n' }}",
        "{{ bos_token }}",
    ),
    "granite": (
        _TURNS + "{{ '<|start_of_role|>' + m.role + '<|end_of_role|>' + m.content + '<|end_of_text|>\\n' }}" + _END
        + "{% if add_generation_prompt %}{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}"
    ),
    "falcon3": (
        _TURNS + "{{ '<|' + m.role + '|>\\n' + m.content }}{% if m.role == 'assistant' and not loop.last %}"
        "{{ eos_token }}{% endif %}{{ '\\n' if m.role != 'assistant' or not loop.last }}" + _END
        + "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
    ),
    "olmo2": _each(
        "{{ '<|system|>\\n' + m.content + '\\n' }}", "{{ '<|user|>\\n' + m.content + '\\n' }}",
        "{{ '<|assistant|>\\n' + m.content + eos_token + ('' if loop.last else '\\n') }}", "{{ '<|assistant|>\\n' }}",
        "{{ bos_token }}",
    ),
    "exaone": (
        "{% if messages[0].role != 'system' %}{{ '[|system|][|endofturn|]\\n' }}{% endif %}" + _TURNS
        + "{{ '[|' + m.role + '|]' + m.content }}{{ '\\n' if m.role == 'user' else '[|endofturn|]\\n' }}" + _END
        + "{% if add_generation_prompt %}{{ '[|assistant|]' }}{% endif %}"
    ),
    "glm4": (
        "{{ '[gMASK]<sop>' }}" + _TURNS + "{{ '<|' + m.role + '|>\\n' + m.content }}" + _END
        + "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    ),
    "openchat": (
        "{{ bos_token }}" + _TURNS
        + "{{ 'GPT4 Correct ' + m.role | title + ': ' + m.content + '<|end_of_turn|>' }}" + _END
        + "{% if add_generation_prompt %}{{ 'GPT4 Correct Assistant:' }}{% endif %}"
    ),
    "orion": (
        "{{ bos_token }}" + _NO_SYSTEM + _TURNS + "{% if m.role == 'user' %}"
        "{{ 'Human: ' + m.content + '\\n\\nAssistant: ' + eos_token }}{% else %}{{ m.content + eos_token }}"
        "{% endif %}" + _END
    ),
    "solar": _each(
        "{{ '### System:\\n' + m.content + '\\n\\n' }}", "{{ '### User:\\n' + m.content + '\\n\\n' }}",
        "{{ '### Assistant:\\n' + m.content + '\\n\\n' }}", "{{ '### Assistant:\\n' }}",
    ),
    "gpt-oss": (
        _SYSTEM_FIRST + "{{- '<|start|>system<|message|>You are a model.\\nCurrent date: ' + strftime_now('%Y-%m-%d') "
        "+ '\\n\\n# Valid channels: analysis, final.<|end|>' }}{%- if system is defined %}"
        "{{- '<|start|>developer<|message|># Instructions\\n\\n' + system + '\\n\\n<|end|>' }}{%- endif %}"
        "{%- for m in turns %}{%- if m.role == 'user' %}{{- '<|start|>user<|message|>' + m.content + '<|end|>' }}"
        "{%- else %}{{- '<|start|>assistant<|channel|>final<|message|>' + m.content + '<|end|>' }}{%- endif %}"
        "{%- endfor %}{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{%- endif %}"
    ),
    "awkward texts": (
        _TURNS + "{% if m.role == 'system' %}{{ '\"\"\"{{ system }}\\u00a0' }}{% else %}{{ '{{ ' + m.role + '\\r\\n' }}"
        "{% endif %}{{ m.content + '\\t}}\"\"\"\\n' }}" + _END + "{{ '{{ assistant\\r\\n' if add_generation_prompt }}"
    ),
}  # fmt: skip
