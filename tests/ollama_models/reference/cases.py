"""Writes the cases of ``rendered.json``: every family's template, and what the language has beyond them.

python tests/ollama_models/reference/cases.py | go run tests/ollama_models/reference/main.go > rendered.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from ollama_models.chat_templates import FAMILIES, SPECIAL
from ollama_models.text_template import values

from converter.ollama.go_template import go_template
from converter.ollama.recognition import recognise

LANGUAGE = [
    "a \n{{- .System -}} \n b {{ .System }} c\n",
    "{{ if .None }}x{{ else if .System }}y{{ else }}z{{ end }}{{ if and .System .None }}x{{ else }}w{{ end }}",
    '{{ $n := .System }}{{ if .System }}{{ $n = "inner" }}{{ $n := "hidden" }}{{ end }}{{ $n }}',
    "{{ range $i, $m := .Messages }}{{ if not (eq $i 0) }}, {{ end }}{{ $m.Role }}{{ .Content }}{{ else }}-{{ end }}",
    "{{ range $i, $_ := .Empty }}x{{ else }}nothing{{ end }}{{ if or .None .System }}s{{ end }}",
    '{{ if eq (len (slice .Messages 1)) 2 }}2{{ end }}{{ if ne .System "x" }}{{ "\\"\\u00e9\\U0001f600{{" }}{{ end }}',
]
TALK = [
    {"role": "system", "content": "Be\nbrief. "},
    {"role": "user", "content": "One {{ .System }}"},
    {"role": "assistant", "content": " Two"},
    {"role": "user", "content": "Three\n"},
    {"role": "assistant", "content": "Fo", "reasoning_content": "Hm."},
]


def main() -> None:
    data = [values(TALK[:4], think=False), values(TALK[1:])]
    templates = []
    for name, source in FAMILIES.items():
        chat = recognise(source, SPECIAL, SPECIAL["bos_token"]).chat
        assert chat is not None, name
        templates.append(go_template(chat))
    cases = [{"template": template, "data": one} for template in templates for one in data]
    cases += [{"template": template, "data": values(TALK[:3]) | {"Empty": []}} for template in LANGUAGE]
    json.dump(cases, sys.stdout)


if __name__ == "__main__":
    main()
