#!/usr/bin/env bash
# Print the flags that keep a compiler from using AMX: without_amx.sh COMPILER [ARCHITECTURE, by default native].
#
# llama.cpp is compiled with -march=native. Where that brings AMX, its matrix multiplication may trap, as the compiler
# drops the tiles' configuration. Only what this compiler would turn on is turned off: no flag reaches another kind of
# processor, or a compiler that does not know it. gcc writes __AMX_INT8__, older clang __AMXINT8__.
set -euo pipefail

# shellcheck disable=SC2086 # a compiler may come with a launcher before it: ccache gcc
$1 "-march=${2:-native}" -dM -E -x c /dev/null 2>/dev/null |
    sed -n 's/^#define __AMX_\{0,1\}\([A-Z0-9]*\)__ 1$/-mno-amx-\1/p' | tr '[:upper:]\n' '[:lower:] ' || true
