#!/usr/bin/env bash
# The GPU tests and the tables of benchmarks/README.md, within nine minutes; see benchmarks/gpu_run.py.
#
#     benchmarks/gpu.sh [FILE.json]     by default $OUT/gpu.json, or build/gpu.json
#
# Needs Python with torch, transformers, safetensors, tokenizers, numpy and pytest; PYTHON names another than python3.
# Exit status 0: the tests passed, and the first rows were measured.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
export PYTHONPATH="$PWD" HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
file="${1:-${OUT:-build}/gpu.json}"
# A second clock behind the run's own; TERM lets it print what it has.
exec timeout --signal=TERM --kill-after=5 534 "${PYTHON:-python3}" -m benchmarks.gpu_run "$file"
