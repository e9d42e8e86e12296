#!/usr/bin/env bash
# Seconds a step of every number of processes on this host, to set beside what `ospnext plan` predicts.
#
#   benchmarks/parallel.sh PROGRAM MODEL "1 2 4 8" [flags of generate, such as --width 1280 --height 720 --ssp 4]
#
# The first step, which starts groups and kernels, is left out: the time of 1 step is taken from that of 5.
set -euo pipefail
[ $# -ge 3 ] || {
  sed -n '2,6s/^# \{0,1\}//p' "$0"
  exit 2
}
readonly program="$1" model="$2" counts="$3"
shift 3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# denoise_seconds PROCESSES STEPS FLAGS...: what the stage "denoise" took on rank 0.
denoise_seconds() {
  local processes="$1" steps="$2"
  shift 2
  "$program" launch -n "$processes" -- generate --model "$model" --prompt "a red ball" --steps "$steps" \
    --output "$folder/a.y4m" "$@" >/dev/null 2>"$folder/err" || {
    cat "$folder/err" >&2
    return 1
  }
  sed -n 's/^\[0\] *\([0-9.]*\) s  denoise$/\1/p' "$folder/err"
}

printf '%-10s %10s %9s  %s\n' processes s/step speedup mesh
first=
for count in $counts; do
  one=$(denoise_seconds "$count" 1 "$@")
  five=$(denoise_seconds "$count" 5 "$@")
  mesh=$(sed -n 's/^\[0\] [0-9]* processes: //p' "$folder/err")
  step=$(echo "$one $five" | awk '{printf "%.4f", ($2 - $1) / 4}')
  first=${first:-$step}
  echo "$count $step $first" | awk -v mesh="$mesh" '{printf "%-10s %10.3f %9.2f  %s\n", $1, $2, $3 / $2, mesh}'
done
