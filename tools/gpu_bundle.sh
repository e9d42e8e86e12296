#!/usr/bin/env bash
# Builds the CUDA program here and packs it for a GPU machine that has torch 2.11 but no compiler or Internet.
#
#   TORCH_SITE=/path/on/the/gpu/machine/site-packages tools/gpu_bundle.sh [--packed] [TEST...]
#
# Fills .carry/ with `ospnext`, the named test programs and the shared libraries they need beyond glibc,
# libstdc++, zlib and torch's own; run from the repository root there as `.carry/ospnext`. FFmpeg is left
# out, so videos are written as .y4m or PNG. With --packed only .carry/bundle.tar.gz is left, under half
# the size; there, `tar xf .carry/bundle.tar.gz` brings the files back.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly max_mib=60

packed=0
if [ "${1:-}" = --packed ]; then
  packed=1
  shift
fi
if [ -z "${TORCH_SITE:-}" ]; then
  echo "gpu_bundle: TORCH_SITE is not set; give the site-packages folder that holds torch/ on the GPU machine" >&2
  exit 2
fi

cmake --preset cuda -DOSPNEXT_FFMPEG=OFF \
  "-DOSPNEXT_EXTRA_RPATH=\$ORIGIN;$TORCH_SITE/torch/lib;$TORCH_SITE/nvidia/cu13/lib" >/dev/null
cmake --build --preset cuda --target ospnext "$@"

rm -rf .carry
mkdir .carry
programs=(build/cuda/ospnext)
for test in "$@"; do
  programs+=("build/cuda/tests/$test")
done
for program in "${programs[@]}"; do
  strip -o ".carry/$(basename "$program")" "$program"
done

# "soname => file" lines of ldd, without what the GPU machine has.
ldd "${programs[@]}" | awk '$2 == "=>" && $3 ~ /^\// {print $1, $3}' | sort -u |
  while read -r soname file; do
    case "$soname" in
      libc.so* | libm.so* | libdl.so* | librt.so* | libpthread.so* | libutil.so* | libgcc_s.so* | libstdc++.so* | libz.so* | \
        libgomp.so* | libtorch* | libc10* | libcud* | libcu[bfprs]* | libnv* | libnccl*) ;;
      *) strip -o ".carry/$soname" "$file" ;;
    esac
  done

if [ "$packed" = 1 ]; then
  tar --remove-files -cf - .carry/* | gzip -6 >bundle.tar.gz.part
  mkdir -p .carry
  mv bundle.tar.gz.part .carry/bundle.tar.gz
fi
size_mib=$(du -sm .carry | cut -f1)
du -ah .carry
if [ "$size_mib" -gt "$max_mib" ]; then
  echo "gpu_bundle: .carry/ is $size_mib MiB, expected at most $max_mib; name fewer tests or give --packed" >&2
  exit 1
fi
