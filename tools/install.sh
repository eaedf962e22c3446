# Sourced by demo.sh and test.sh: makes .venv with the pinned versions; $1 is the extra to install, if any.
# llama-cpp-python is compiled on the first install, which takes some minutes; pip keeps the result.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Python 3.11 or newer is needed; $("$python" --version) found. Set PYTHON to another interpreter." >&2
    exit 1
}
[ -x .venv/bin/python ] || "$python" -m venv .venv
stamp=$(cat pyproject.toml tools/constraints.txt | sha256sum | cut -d' ' -f1)-${1:-}
if [ "$(cat .venv/installed 2>/dev/null)" != "$stamp" ]; then
    echo "Installing (the first time compiles llama.cpp: some minutes) ..."
    .venv/bin/python -m pip install --quiet --constraint tools/constraints.txt --editable ".${1:+[$1]}"
    echo "$stamp" >.venv/installed
fi
