#!/usr/bin/env bash
# Install, convert the sample model to q4_0, verify it against its source, and let it write a sentence.
source "$(dirname "$0")/install.sh"

mkdir -p build
.venv/bin/convert --method q4_0 --model tests/fixtures/sample --output build/sample-q4_0.gguf --verify full --overwrite
echo
.venv/bin/python - <<'PYTHON'
from llama_cpp import Llama

prompt = "The function returns"
model = Llama("build/sample-q4_0.gguf", n_ctx=256, verbose=False)
answer = model.create_completion(prompt, max_tokens=40, temperature=0.0, stop=["\n\n"])
print(f"The file in llama.cpp: {prompt}{answer['choices'][0]['text']}")
PYTHON
