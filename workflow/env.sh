#!/bin/sh
# Make or renew the environment in .venv, exactly as requirements.lock says. Called by `make env`.
set -eu
cd "$(dirname "$0")/.."
# make puts .venv first in PATH; the Python that makes .venv is the one behind it
PATH=$(printf %s "$PATH" | sed "s|$PWD/.venv/bin:||")
python=${1:-python3}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "This book needs Python 3.11 or newer; '$python' is $("$python" --version 2>&1 || true)." >&2
    echo "Install a newer one, then name it: make env PYTHON=python3.12" >&2
    exit 1
fi
if ! [ -x .venv/bin/python ] || ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    rm -rf .venv
    if ! "$python" -m venv .venv; then
        rm -rf .venv
        echo "'$python -m venv' did not work; on Debian and Ubuntu: apt-get install python3-venv" >&2
        exit 1
    fi
fi
[ -x .venv/bin/uv ] || .venv/bin/python -m pip install --quiet --disable-pip-version-check uv
VIRTUAL_ENV="$PWD/.venv"
export VIRTUAL_ENV
.venv/bin/uv pip sync --quiet --require-hashes requirements.lock
.venv/bin/uv pip install --quiet --no-deps --editable .
touch .venv/.made
echo "The environment is ready in .venv"
