#!/usr/bin/env bash
# Measures a denoising step in meshes of processes on this host, to compare with the predictions of
# `ospnext plan`. Weights are random and made in memory.
#
#   benchmarks/parallel.sh PROGRAM "RUN..." [FLAG...]
#
# FLAG: a flag of `bench generate`, such as --size 14b --width 1280 --height 720
# RUN: a number of processes, with or without flags of their mesh; without flags, they choose it
#      example: 1 2 4 8 4:cfg-parallel=1:ssp=4
#
# s/step       median of the steps after the first
# speedup      compared with the first RUN
# GB           sent by the busiest rank in a step
# exchange s   least and most time that a rank spends in exchanges in a step, including waits for
#              other ranks; the least is that of the rank that others wait for
# peak GiB     largest of all ranks
set -euo pipefail
[ $# -ge 2 ] || {
  sed -n '2,16s/^# \{0,1\}//p' "$0"
  exit 2
}
readonly program="$1" runs="$2"
shift 2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# measure PROCESSES FLAGS...: prints the output of rank 0 without the launcher's "[0] ".
measure() {
  local processes="$1"
  shift
  "$program" launch -n "$processes" -- bench generate --steps 5 "$@" >"$folder/out" 2>"$folder/err" || {
    cat "$folder/err" >&2
    return 1
  }
  sed -n 's/^\[0\] //p' "$folder/out"
}

printf '%-9s %9s %8s %8s %15s %9s  %s\n' processes s/step speedup GB 'exchange s' 'peak GiB' mesh
first=
for run in $runs; do
  IFS=: read -r -a words <<<"$run"
  flags=("${words[@]:1}")
  table=$(measure "${words[0]}" "${flags[@]/#/--}" "$@")
  step=$(sed -n 's/^a step: \([0-9.]*\) s.*/\1/p' <<<"$table")
  first=${first:-$step}
  mesh=$(sed -n 's/^\[0\] [0-9]* processes: //p' "$folder/err")
  awk -v processes="${words[0]}" -v step="$step" -v first="$first" -v mesh="$mesh" '
    $1 == "all" && !stages++ { peak = $3 }  # of the stages; the "all" of exchanges comes later
    in_ranks {
      if ($2 > peak) peak = $2
      if ($3 > megabytes) megabytes = $3
      if (least == "" || $4 < least) least = $4
      if ($4 > most) most = $4
    }
    $1 == "rank" { in_ranks = 1 }
    END {
      seconds = least == "" ? "" : sprintf("%.3f to %.3f", least, most)
      printf "%-9s %9.3f %8.2f %8.3f %15s %9.2f  %s\n", processes, step, first / step, megabytes / 1000, seconds, peak, mesh
    }' <<<"$table"
done
