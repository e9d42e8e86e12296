#!/usr/bin/env bash
# Fuzzes the readers of files with libFuzzer under the address and undefined-behaviour sanitizers.
#
#   tools/fuzz.sh [READER...] [--seconds N] [--jobs N]
#
# Readers are the files of tests/fuzz/ (all of them); each runs for --seconds (60) in --jobs processes (all
# cores), and what it took of the processors is printed.
# What is learnt stays in build/fuzz/corpus/READER and serves the next run; what is found lies in
# build/fuzz/findings/ and ends the run with status 1. CXX names another clang++.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly cxx="${CXX:-clang++}" out=build/fuzz
fail() {
  printf 'fuzz: %s\n' "$*" >&2
  exit 2
}

seconds=60
jobs=$(nproc)
readers=()
while [ $# -gt 0 ]; do
  case "$1" in
    --seconds | --jobs)
      [[ "${2:-}" =~ ^[1-9][0-9]*$ ]] || fail "$1: found '${2:-}', expected a whole number from 1 on"
      if [ "$1" = --jobs ]; then jobs="$2"; else seconds="$2"; fi
      shift
      ;;
    *)
      [ -d "tests/fuzz/corpus/$1" ] || fail "found '$1', expected one of: $(ls tests/fuzz/corpus | xargs)"
      readers+=("$1")
      ;;
  esac
  shift
done
[ ${#readers[@]} -gt 0 ] || mapfile -t readers < <(ls tests/fuzz/corpus)

mkdir -p "$out/objects" "$out/findings"
echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' |
  "$cxx" -fsanitize=fuzzer,address,undefined -x c++ - -o "$out/objects/trial" 2>/dev/null ||
  fail "$cxx cannot build for libFuzzer; on Debian 12: apt-get install clang libclang-rt-14-dev"

# Sources of the readers, free of torch, once for all entries; ccache spares what did not change.
cmake -DFOLDER=src/server/page -DOUTPUT="$out/page_files.cpp" -P cmake/EmbedPage.cmake
flags=(-std=c++20 -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined
  -fno-sanitize-recover=all -DOSPNEXT_LIBFUZZER -Isrc -Itests)
launcher=$(command -v ccache || true)
compile() {
  local object
  object="$out/objects/$(tr / _ <<<"${1%.cpp}").o"
  $launcher "$cxx" "${flags[@]}" -c "$1" -o "$object"
}
running=0
shopt -s extglob
server=(src/server/!(webhooks).cpp src/server/http/!(server).cpp src/io/http/web_address.cpp "$out/page_files.cpp")
for source in src/io/readers/*.cpp src/text/tokenizer_model_check.cpp "${server[@]}" "${readers[@]/#/tests/fuzz/}"; do
  compile "${source%.cpp}.cpp" &
  running=$((running + 1))
  [ $running -lt "$jobs" ] || { wait -n || fail "the readers do not compile"; running=$((running - 1)); }
done
while [ $running -gt 0 ]; do
  wait -n || fail "the readers do not compile"
  running=$((running - 1))
done
for reader in "${readers[@]}"; do
  "$cxx" -fsanitize=fuzzer,address,undefined "$out/objects/tests_fuzz_$reader.o" "$out"/objects/src_*.o \
    "$out"/objects/*_page_files.o -lz -lpng -lyaml-cpp -lsentencepiece -lsqlite3 -lcrypto -o "$out/$reader"
done

# An input may cost a second and 200 MB. The sanitizers take about half of the speed, and memory of their
# own: 16 MB of freed blocks kept for finding their use, and three bytes for eight.
# Entries that need a folder of files make it here, in memory where there is such a place.
[ ! -d /dev/shm ] || export TMPDIR=/dev/shm
export ASAN_OPTIONS=quarantine_size_mb=16 UBSAN_OPTIONS=print_stacktrace=1
# What all children had taken of the processors, in minutes, when `times` wrote its file (called in $(), it
# would speak of another process).
cpu_minutes() {
  awk 'NR == 2 {gsub(/[ms]/, " "); print $1 + $2 / 60 + $3 + $4 / 60}' "$out/times"
}
status=0
for reader in "${readers[@]}"; do
  printf 'fuzz: %s, %s s in %s processes\n' "$reader" "$seconds" "$jobs"
  times >"$out/times"
  before=$(cpu_minutes)
  mkdir -p "$out/corpus/$reader"
  "$out/$reader" -fork="$jobs" -max_total_time="$seconds" -timeout=2 -rss_limit_mb=400 -malloc_limit_mb=200 \
    -max_len=65536 -artifact_prefix="$out/findings/$reader-" "$out/corpus/$reader" "tests/fuzz/corpus/$reader" \
    >"$out/$reader.log" 2>&1 || {
    status=1
    printf 'fuzz: %s: a finding, see %s.log and %s/findings/\n' "$reader" "$out/$reader" "$out" >&2
  }
  times >"$out/times"
  printf 'fuzz: %s: %.1f CPU minutes\n' "$reader" "$(echo "$(cpu_minutes) $before" | awk '{print $1 - $2}')"
  { grep -E '^#[0-9]+: cov' "$out/$reader.log" || true; } | tail -n 1
done
exit $status
