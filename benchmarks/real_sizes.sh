#!/usr/bin/env bash
# Generates videos at Wan2.1's released sizes with random weights, and prints time and memory use.
#
#   benchmarks/real_sizes.sh OSPNEXT FOLDER [SIZE...]
#   SIZE: 14b (2 steps of 81x720x1280) or 1.3b (4 steps of 81x480x832); default: both
#
# The checkpoints (14b: 40 GB with text encoder and VAE) and the videos' .json files are written to
# FOLDER. A checkpoint that exists as FOLDER/SIZE is used and kept. Otherwise it is made with
# make-random and removed afterwards. The system's cache of the files is dropped first, so weights
# are read from the disk. Needs one GPU with 40 GB, and python3. If python3 has torch, the rate of
# copies to the GPU is measured too.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,5s/^# *//p' "$0" >&2; exit 2; }
mkdir -p "$2"
ospnext=$(realpath "$1") folder=$(realpath "$2")
readonly ospnext folder
shift 2
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- 14b 1.3b

say() { printf '%s\n' "$*"; }
now() { date +%s.%N; }
gb_per_s() { awk -v bytes="$1" -v from="$2" -v to="$3" 'BEGIN {printf "%.2f GB/s", bytes / (to - from) / 1e9}'; }
drop_cached() { find "$1" -type f -print0 | xargs -0 -I{} dd if={} iflag=nocache count=0 status=none; }

nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
python3 - <<'PY' || true
import importlib.util
if importlib.util.find_spec("torch"):
    import time, torch
    host, device = torch.ones(1 << 30, dtype=torch.uint8), torch.ones(1 << 30, dtype=torch.uint8, device="cuda")
    for name, source in (("pageable", host), ("pinned", host.pin_memory())):
        rates = []
        for _ in range(4):
            torch.cuda.synchronize(); start = time.time()
            device.copy_(source); torch.cuda.synchronize()
            rates.append((1 << 30) / (time.time() - start) / 1e9)
        print(f"bus, host to GPU, 1 GiB, {name} memory: {max(rates):.1f} GB/s")
PY

for size in "$@"; do
  case "$size" in
    14b) flags=(--width 1280 --height 720 --steps 2) ;;
    1.3b) flags=(--width 832 --height 480 --steps 4) ;;
    *) say "found size '$size', expected 14b or 1.3b" >&2; exit 2 ;;
  esac
  model="$folder/$size"
  say "== $size"
  made=0
  if [ ! -d "$model" ]; then
    made=1
    start=$(now)
    "$ospnext" make-random --size "$size" --part transformer --part text-encoder --part vae --output "$model" \
      2>"$folder/$size.log" || { tail -n 1 "$folder/$size.log" >&2; exit 1; }
    bytes=$(du -sb "$model" | cut -f1)
    sync
    say "written: $(awk -v b="$bytes" 'BEGIN {printf "%.1f GB", b / 1e9}'), $(gb_per_s "$bytes" "$start" "$(now)")"
  fi
  drop_cached "$model"
  part=$(find "$model" -name '*.safetensors' -size +2G | sort | head -n 1)
  start=$(now)
  dd if="$part" of=/dev/null bs=64M count=32 iflag=direct status=none
  say "disk, 2 GiB read directly: $(gb_per_s $((2 << 30)) "$start" "$(now)")"
  drop_cached "$model"
  "$ospnext" generate --model "$model" --tokenizer models/tiny/tokenizer/spiece.model --prompt "a heron takes off from a misty lake" \
    --num-frames 81 "${flags[@]}" --seed 1 --device cuda --output "$folder/$size.y4m" 2>"$folder/$size.log" ||
    { tail -n 5 "$folder/$size.log" >&2; exit 1; }
  MODEL="$model" RECORD="$folder/$size.json" python3 - <<'PY'
import glob, json, os
run = json.load(open(os.environ["RECORD"]))["run"]
size = {name: sum(os.path.getsize(f) for f in glob.glob(os.environ["MODEL"] + "/" + pattern))
        for name, pattern in (("text", "models_t5*"), ("transformer", "diffusion*"), ("vae", "*VAE*"))}
at_once = all(name != "load transformer" for name, _ in run["stage_seconds"])
for name, seconds in run["stage_seconds"]:
    loaded = {"load": size["vae"] + size["text"] + (size["transformer"] if at_once else 0),
              "load transformer": size["transformer"]}.get(name)
    rate = f"  {loaded / 1e9:.1f} GB, {loaded / seconds / 1e9:.2f} GB/s" if loaded else ""
    print(f"{seconds:9.2f} s  {name}{rate}")
print(f"peak: {run['peak_host_bytes'] / 2**30:.1f} GiB of host memory, mapped files included, "
      f"{run['peak_cuda_bytes'] / 2**30:.1f} GiB of the GPU's")
PY
  ls -l "$folder/$size.y4m" | awk '{print "video: " $5 " bytes"}'
  rm -f "$folder/$size.y4m"
  [ "$made" = 0 ] || rm -rf "$model"
done
