#!/bin/sh
# Packs what a bare GPU machine lacks into build/gpu-pack, which git ignores. Run it where ramq is installed.
#
#     RAMQ_SHARED_DIR=DIR sh benchmarks/gpu/pack.sh [--python 3.12]
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
exec "$python" -m benchmarks.gpu.pack "$@"
