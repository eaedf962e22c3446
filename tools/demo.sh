#!/usr/bin/env bash
# Install, convert the sample model to q4_0, verify it against its source, and let it write a sentence.
source "$(dirname "$0")/install.sh"

mkdir -p build
.venv/bin/convert --method q4_0 --model tests/fixtures/sample --output build/sample-q4_0.gguf --verify full --overwrite
echo
.venv/bin/python tools/generate.py build/sample-q4_0.gguf "The function returns"
