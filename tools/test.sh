#!/usr/bin/env bash
# Install with the development extra, then lint, type-check, check the direction of imports and run all tests, in one
# process for each processor. Arguments go to pytest: a path, -k recipe, -m "not slow", -n0 to run in one process.
source "$(dirname "$0")/install.sh" dev

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/lint-imports --no-cache
.venv/bin/pytest --numprocesses auto --durations 10 "$@"
