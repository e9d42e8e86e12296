#!/usr/bin/env bash
# Checks the layout of the C++ sources with clang-format 14 (other versions lay out differently), or mends it.
#
#   tools/format.sh [--write]      exit status 77 when clang-format 14 is not installed
set -euo pipefail
cd "$(dirname "$0")/.."
tool=
for candidate in clang-format-14 clang-format; do
  if "$candidate" --version 2>/dev/null | grep -q 'version 14\.'; then
    tool="$candidate"
    break
  fi
done
if [ -z "$tool" ]; then
  echo "format: clang-format 14 is not installed, so the layout is not checked"
  exit 77
fi
mode=(--dry-run --Werror)
[ "${1:-}" != --write ] || mode=(-i)
find $(ls -d src tests benchmarks 2>/dev/null) -name '*.h' -o -name '*.cpp' -o -name '*.cu' | sort | xargs "$tool" "${mode[@]}"
