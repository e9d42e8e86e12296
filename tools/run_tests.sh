#!/usr/bin/env bash
# Runs a preset's tests with ctest and closes with the number of test cases and of those skipped.
#
#   tools/run_tests.sh PRESET [JOBS]
set -uo pipefail
cd "$(dirname "$0")/.."
readonly preset="$1" jobs="${2:-$(nproc)}"

# Waiting OpenMP threads that spin would take the cores from other tests.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"

ctest --preset "$preset" --parallel "$jobs" --no-tests=error
status=$?

# GoogleTest's own closing lines: "[  PASSED  ] 12 tests." and "[  SKIPPED ] 3 tests, listed below:"
awk '/^\[  PASSED  \]/ {passed += $4}
     /^\[  SKIPPED \] [0-9]+ test/ {skipped += $4}
     /^\[  FAILED  \] [0-9]+ test/ {failed += $4}
     END {printf "%d test cases passed, %d failed, %d skipped (those need a GPU, TensorBoard or a part left out of this build)\n",
          passed, failed, skipped}' "build/$preset/Testing/Temporary/LastTest.log"
exit "$status"
