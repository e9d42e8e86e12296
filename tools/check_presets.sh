#!/usr/bin/env bash
# Configures and compiles every preset of CMakePresets.json, the tests too; runs none of them.
#
#   tools/check_presets.sh [PRESET...]      JOBS=N: files compiled at a time (default: the cores)
#
# The cuda preset needs 2 GB of wheels more, but no GPU. On two cores a preset takes 20 minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly jobs="${JOBS:-$(nproc)}"

if [ $# -eq 0 ]; then
  mapfile -t presets < <(cmake --list-presets=build | sed -n 's/^  "\(.*\)".*/\1/p')
  set -- "${presets[@]}"
fi
for preset in "$@"; do
  case "$preset" in cuda*) tools/setup.sh cuda ;; *) tools/setup.sh cpu ;; esac
  cmake --preset "$preset" ${LIBTORCH:+-DLIBTORCH="$LIBTORCH"} >/dev/null
  cmake --build --preset "$preset" --parallel "$jobs"
  echo "preset $preset compiles"
done
