#!/usr/bin/env bash
# Times forward passes of the 14B and 1.3B models and of compiled diffusers, and prints ratios.
#
#   benchmarks/compare_diffusers.sh OSPNEXT [FLAG...]     flags of compare_diffusers.py: --rounds 1
#
# They run in turn. Needs an NVIDIA GPU with 80 GB, and python3 with torch 2.11 and diffusers 0.42.
# Beside torch, the wheels of diffusers, importlib_metadata and zipp, installed with --no-deps, are
# enough.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,4s/^# *//p' "$0" >&2; exit 2; }
ospnext="$1"
shift
python3 - <<'PY' || exit 2
import importlib.util, sys
for name in ("torch", "diffusers"):
    if importlib.util.find_spec(name) is None:
        sys.exit(f"compare_diffusers: python3 ({sys.executable}) has no {name}")
import torch
if not torch.cuda.is_available():
    sys.exit("compare_diffusers: found no GPU that torch can use, expected one")
PY
exec python3 "$(dirname "$0")/compare_diffusers.py" "$ospnext" --size 14b,1.3b --resolution 1280x720,1280x768,832x480 "$@"
