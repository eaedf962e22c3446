#!/usr/bin/env bash
# Install with the development extra, then lint, type-check and run all tests. Arguments go to pytest.
source "$(dirname "$0")/install.sh" dev

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/pytest "$@"
