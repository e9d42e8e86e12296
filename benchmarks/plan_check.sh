#!/usr/bin/env bash
# Compares predictions of `ospnext plan` with measured steps of meshes on this host's CPUs, over
# Gloo, with random weights.
#
#   benchmarks/plan_check.sh PROGRAM ["MESH..."] [WIDTHxHEIGHT [FRAMES]]
#
# MESH: a number of processes and the flags of their mesh, such as 4:cfg-parallel=2:ssp=2
#
# For each number of processes, the script first measures the inputs of the plan: a full block, a
# sparse block, and the link. This runs on as many processes as the mesh has ranks, one thread each,
# so that they share memory and cores in the same way. Then it prints for each mesh:
#
# predicted, measured   seconds of a step (measured: median of the steps after the first)
# off                   relative error of the prediction
# exchange s            predicted, and the least that a rank measured (the rank others wait for)
# MB                    sent by the busiest rank in a step, predicted and measured
#
# Run it on an idle machine. The last line says how busy the machine was.
set -euo pipefail
[ $# -ge 1 ] || {
  sed -n '2,18s/^# \{0,1\}//p' "$0"
  exit 2
}
readonly program="$1" size="${3:-384x384}" frames="${4:-17}"
meshes="${2:-1 2:cfg-parallel=2 2:ssp=2 2:ulysses=2:ssp=1 2:ring=2 4:cfg-parallel=2:ssp=2 4:ssp=4}"
readonly model=(--size small --num-frames "$frames")
readonly video=(--width "${size%x*}" --height "${size#*x}" --device cpu --precision float32)
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT

# launch PROCESSES COMMAND...: prints the output of rank 0.
launch() {
  local processes="$1"
  shift
  "$program" launch -n "$processes" -- "$@" 2>"$errors" | sed -n 's/^\[0\] //p' || {
    cat "$errors" >&2
    return 1
  }
}

# plan_inputs PROCESSES: measures and prints the flags for `ospnext plan`.
plan_inputs() {
  launch "$1" bench block "${model[@]}" "${video[@]}" --runs 9 --warmup 2 | awk '
    /^block, full/ { full = $3 }
    /^block, (token|group)/ { sparse += $3; ++patterns }
    /^attention, full  / { whole = $3 }
    /^attention, full, in 2 parts/ { parts = $6 }
    END {
      printf "--full-block-ms %s --sparse-block-ms %s --parts-ms %s ", full, sparse / patterns,
        (parts > whole ? parts - whole : 0)
    }'
  [ "$1" = 1 ] || launch "$1" bench exchange "${model[@]}" "${video[@]}" --runs 50 | sed -n 's/^for plan: //p'
}

declare -A inputs
printf '%-10s %9s %9s %6s %17s %17s  %s\n' processes predicted measured off 'exchange s' MB mesh
for run in $meshes; do
  IFS=: read -r -a words <<<"$run"
  processes="${words[0]}"
  flags=("${words[@]:1}")
  flags=("${flags[@]/#/--}")
  [ -n "${inputs[$processes]:-}" ] || {
    inputs[$processes]=$(plan_inputs "$processes")
    echo "# $processes: ${inputs[$processes]}"
  }
  # shellcheck disable=SC2086
  predicted=$("$program" plan --gpus "$processes" "${model[@]}" --resolution "$size" --precision float32 \
    ${inputs[$processes]} "${flags[@]}" | sed -n 3p)
  measured=$(launch "$processes" bench generate "${model[@]}" "${video[@]}" --steps 6 "${flags[@]}")
  awk -v processes="$processes" -v predicted="$predicted" '
    BEGIN { split(predicted, plan) }
    /^a step: / { step = $3 }
    in_ranks {
      if (least == "" || $4 < least) least = $4
      if ($3 > megabytes) megabytes = $3
    }
    $1 == "rank" { in_ranks = 1 }
    END {
      mesh = predicted
      sub(/.*  data/, "data", mesh)
      printf "%-10s %9.3f %9.3f %5.1f%% %7.4f / %7.4f %7.2f / %7.2f  %s\n", processes, plan[1], step,
        100 * (plan[1] / step - 1), plan[3], least, plan[5], megabytes, mesh
    }' <<<"$measured"
done
awk '{ printf "# load of the last minute %s\n", $1 }' /proc/loadavg
