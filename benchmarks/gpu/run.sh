#!/bin/sh
# What a GPU does, in at most eight minutes. The most valuable comes first, each step has a limit of its own and writes
# a file (again after each part of it), and a step that fails or is cut off does not stop the others: `steps.txt` tells.
# Needs torch, timm, transformers, numpy, Pillow and pytest. What else the pipeline needs, and the reference outputs,
# come from `gpu/pack.sh` in build/gpu-pack; without it these two steps fail and the others run.
#
#     sh benchmarks/gpu/run.sh OUTPUT-DIR [NAME]
#
# RAMQ_BENCH_DEVICE=cpu RAMQ_BENCH_TINY=1 tries all steps on a CPU, on small networks. RAMQ_BENCH_STEPS="parity lite"
# runs these steps only, RAMQ_BENCH_SECONDS is the limit of all together, RAMQ_BENCH_PATIENCE=5 gives each step five times
# its own, and PYTHON is the interpreter.
set -u
cd "$(dirname "$0")/../.."
out=$(mkdir -p "${1:?where the results go}" && cd "$1" && pwd)
name=${2:-gpu}
python=${PYTHON:-python3}
device=${RAMQ_BENCH_DEVICE:-cuda}
tiny=${RAMQ_BENCH_TINY:-}
wanted=${RAMQ_BENCH_STEPS:-}
ends=$(($(date +%s) + ${RAMQ_BENCH_SECONDS:-480}))
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
chmod 755 "$scratch"
export PYTHONUNBUFFERED=1
: >"$out/steps.txt"

pack=build/gpu-pack
if [ -f "$pack/site.tar.xz" ] && [ -z "${RAMQ_BENCH_OWN_PACKAGES:-}" ]; then
    mkdir "$scratch/site" && "$python" -m tarfile -e "$pack/site.tar.xz" "$scratch/site"
    export PYTHONPATH="$scratch/site${PYTHONPATH:+:$PYTHONPATH}"
fi
if [ -f "$pack/shared.tar.xz" ] && [ -z "${RAMQ_SHARED_DIR:-}" ]; then
    mkdir "$scratch/shared" && "$python" -m tarfile -e "$pack/shared.tar.xz" "$scratch/shared"
    export RAMQ_SHARED_DIR="$scratch/shared"
fi

say() {
    echo "$(date +%T) $*" | tee -a "$out/steps.txt"
}

step() { # NAME SECONDS MODULE OPTIONS…: a step that fails or takes too long is said, and the next one runs
    what=$1 limit=$(($2 * ${RAMQ_BENCH_PATIENCE:-1})) module=$3 left=$((ends - $(date +%s)))
    shift 3
    case " ${wanted:-$what} " in *" $what "*) ;; *) return ;; esac
    if [ "$left" -lt 10 ]; then
        say "skipped $what: the time is over"
        return
    fi
    began=$(date +%s)
    timeout -k 5 $((limit < left ? limit : left)) "$python" -m "$module" --output "$out" "$@"
    code=$?
    if [ "$code" -eq 0 ]; then result="done $what"; else result="FAILED $what ($code)"; fi
    say "$result after $(($(date +%s) - began)) s"
}

models() { # NAME SECONDS MODEL NAME-OF-FILE OPTIONS…
    what=$1 limit=$2 model=$3 file=$4
    shift 4
    step "$what" "$limit" benchmarks.bench_models --device "$device" --model "$model" --name "$file" --rounds 3 \
        ${tiny:+--tiny} "$@"
}

best=bfloat16 # of the formats of 16 bits, for steps that have time for one
if [ "$device" = cpu ]; then halves=bfloat16 formats=float32 most=2 some=1 many="1 2"; else
    halves="float16 bfloat16" formats="float32 bfloat16" most=32 some="32 128" many="1 8 32 128"
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
fi
size=${tiny:+tiny}

# shellcheck disable=SC2086  # lists of words
{
    step parity 60 benchmarks.parity --device "$device" --formats float32 $halves
    step pipeline 150 benchmarks.gpu.bench_pipeline --device "$device" --name "$name" \
        ${tiny:+--tiny --images 24 --batch 4 --seconds 0.2}
    models ram_plus 50 ram_plus "$name" --batches $many --stage-batch $most --formats $halves --graphs
    step eight_bits 20 benchmarks.gpu.bench_eight_bits --device "$device" --name "$name" --batch $most ${tiny:+--tiny}
    step decode 40 benchmarks.gpu.bench_decode --device "$device" --name "$name" \
        ${tiny:+--sizes "1 Mpx" --batch 2 --seconds 0.1}
    step lite 35 benchmarks.gpu.bench_lite --device "$device" --name "$name" \
        ${tiny:+--batches 2 --rounds 1 --formats float32}
    models ram 30 ram "$name" --batches $some --stage-batch $most --formats $best
    models tag2text 30 tag2text "$name" --batches $some --stage-batch $most --formats $best
    step training 25 benchmarks.bench_training --device "$device" --name "$name" --size "${size:-full}" --rounds 2 \
        --batches $((most * 13 / 16)) --format $best ${tiny:+--tags 64}
    step locate 40 benchmarks.bench_locate --device "$device" --name "$name" --size "${size:-full}" --rounds 1 \
        --pictures $((most / 2)) --batches 1 ${tiny:-8} --formats $formats
}
say "end"
