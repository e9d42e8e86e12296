#!/usr/bin/env bash
# Checks sources with clang-tidy (rules in .clang-tidy); all of them, or only those named. The build in
# build/cpu must be configured. A source that uses torch takes about half a minute.
#
#   tools/tidy.sh [FILE...]
set -euo pipefail
cd "$(dirname "$0")/.."

# The compile commands of single files, as clang understands them: without GCC's precompiled header
# and its own warnings.
cmake --preset cpu -B build/tidy/plain -DCMAKE_UNITY_BUILD=OFF \
  "-DLIBTORCH=$(sed -n 's/^LIBTORCH:[A-Z]*=//p' build/cpu/CMakeCache.txt)" >/dev/null
sed -E "s#-include [^ ]*cmake_pch\.hxx#-include $PWD/src/pch.h#g; s#-Winvalid-pch ##g; s#-Wno-restrict##g" \
  build/tidy/plain/compile_commands.json >build/tidy/compile_commands.json

if [ $# -eq 0 ]; then
  mapfile -t files < <(find src tests -name '*.cpp' | sort)
  set -- "${files[@]}"
fi
printf '%s\n' "$@" | xargs -P "$(nproc)" -n 1 clang-tidy -p build/tidy --quiet
