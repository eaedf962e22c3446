# Sourced by demo.sh and test.sh: makes .venv with the pinned versions; $1 is the extra to install, if any.
# llama-cpp-python is compiled on the first install, which takes some minutes; the wheel is kept for the next.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Python 3.11 or newer is needed; $("$python" --version) found. Set PYTHON to another interpreter." >&2
    exit 1
}
[ -x .venv/bin/python ] || "$python" -m venv .venv

# llama.cpp is compiled for this processor, without AMX (see without_amx.sh). pip's cache knows a wheel by its version
# only, so ours are kept apart from those that were compiled in another way or for another processor.
cc=${CC:-cc} cxx=${CXX:-c++}
c_flags="${CFLAGS:-} $(tools/without_amx.sh "$cc")" cxx_flags="${CXXFLAGS:-} $(tools/without_amx.sh "$cxx")"
processor=$($cc -march=native -dM -E -x c /dev/null 2>/dev/null || uname -m)
llama_cpp=$(grep '^llama-cpp-python==' tools/constraints.txt)
build=$(echo "$llama_cpp $c_flags $cxx_flags ${CMAKE_ARGS:-} $processor" | sha256sum | cut -c1-16)
if [ "$(cat .venv/llama-cpp 2>/dev/null)" != "$build" ]; then
    echo "Compiling llama.cpp (some minutes the first time) ..."
    cache=$(.venv/bin/python -m pip cache dir 2>/dev/null) && cache=(--cache-dir "$cache/llama-cpp-$build") ||
        cache=(--no-cache-dir)
    CFLAGS=$c_flags CXXFLAGS=$cxx_flags .venv/bin/python -m pip install --quiet "${cache[@]}" --no-deps \
        --force-reinstall --no-binary llama-cpp-python "$llama_cpp"
    echo "$build" >.venv/llama-cpp
fi

stamp=$(cat pyproject.toml tools/constraints.txt | sha256sum | cut -d' ' -f1)-${1:-}
if [ "$(cat .venv/installed 2>/dev/null)" != "$stamp" ]; then
    echo "Installing ..."
    .venv/bin/python -m pip install --quiet --constraint tools/constraints.txt --editable ".${1:+[$1]}"
    echo "$stamp" >.venv/installed
fi
