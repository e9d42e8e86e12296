#!/usr/bin/env bash
# Brings a Debian 12 or Ubuntu 24.04 machine to where the project builds: system packages and LibTorch.
#
#   tools/setup.sh [cpu|cuda]
#
# Nothing that is there already is fetched again, so a second run takes well under a second. LibTorch comes
# from the wheels pinned in requirements-libtorch*.txt, through pip as it is configured on this machine, into
# .deps/; LIBTORCH=/path/to/site-packages/torch uses an installed one instead.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly kind="${1:-cpu}"
readonly torch_version=2.11.0
readonly packages=(
  g++ cmake ninja-build ccache pkg-config python3 python3-pip unzip
  libgtest-dev nlohmann-json3-dev libcli11-dev libsentencepiece-dev libicu-dev libpng-dev zlib1g-dev
  libyaml-cpp-dev libgloo-dev libboost-dev libsqlite3-dev libssl-dev
  libavformat-dev libavcodec-dev libswscale-dev libavutil-dev)

. tools/packages.sh

# Prints what folder $1 lacks to be LibTorch of the right version with every library it links; else nothing.
missing_from_libtorch() {
  local libraries=("$1/lib/libtorch_cpu.so" "$1/lib/libc10.so")
  [ "$kind" = cpu ] || libraries+=("$1/lib/libtorch_cuda.so" "$1/lib/libc10_cuda.so")
  grep -qs "\"$torch_version\"" "$1/include/torch/headeronly/version.h" || echo "headers of torch $torch_version"
  { ldd "${libraries[@]}" 2>&1 || true; } | sed -n 's/^\t*\(.*\) => not found/\1/p; s/^ldd: \(.*\): No such file.*/\1/p' | sort -u
}

# download REQUIREMENTS SIZE: fetches pinned wheels into .deps/wheels.
download() {
  say "downloading $2 of wheels with pip ($1)"
  # No cache: pip keeps a copy of each file in memory to store it, three times the wheel.
  python3 -m pip download --quiet --no-cache-dir --no-deps --require-hashes --only-binary=:all: \
    --implementation cp --python-version 3.11 --abi cp311 --abi none \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_25_x86_64 \
    --platform manylinux_2_18_x86_64 --platform manylinux2014_x86_64 --platform manylinux2010_x86_64 \
    --platform manylinux1_x86_64 --dest .deps/wheels --requirement "$1" ||
    fail "pip could not download $1 (its message is above); check the network and pip's index, or give" \
      "LIBTORCH=/path/to/site-packages/torch of an installed torch $torch_version"
}

install_libtorch() {
  local start=$SECONDS
  [ "$(uname -m)" = x86_64 ] || fail "this processor is $(uname -m); the pinned LibTorch is for x86_64"
  rm -rf .deps/wheels .deps/unpacked
  mkdir -p .deps/wheels .deps/unpacked
  download tools/requirements-libtorch.txt "544 MB"
  [ "$kind" = cpu ] || download tools/requirements-libtorch-cuda.txt "1969 MB"

  say "unpacking into .deps/"
  local torch_parts=('torch/include/*' 'torch/lib/libtorch_cpu.so' 'torch/lib/libc10.so' 'torch/lib/libgomp*')
  [ "$kind" = cpu ] || torch_parts=('torch/include/*' 'torch/lib/*')
  unzip -q .deps/wheels/torch-*.whl "${torch_parts[@]}" -d .deps/unpacked
  for wheel in .deps/wheels/nvidia_*.whl; do
    unzip -q -o "$wheel" 'nvidia/*' -d .deps/unpacked
  done
  rm -rf .deps/wheels .deps/torch .deps/nvidia
  mv .deps/unpacked/nvidia .deps/unpacked/torch .deps/  # torch last: its presence means all is there
  rm -rf .deps/unpacked
  missing=$(missing_from_libtorch .deps/torch)
  [ -z "$missing" ] || fail ".deps/torch lacks" $missing
  say "LibTorch $torch_version ($kind) is in .deps/torch ($(du -sh .deps | cut -f1)), in $((SECONDS - start)) s"
}

# The CUDA toolkit's nvcc where there is one, else PyPI's in .deps/nvcc.
install_nvcc() {
  local start=$SECONDS
  if command -v nvcc >/dev/null || [ -x "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ] ||
    [ -x .deps/nvcc/nvidia/cu13/bin/nvcc ]; then
    return 0
  fi
  rm -rf .deps/wheels .deps/nvcc.part
  mkdir -p .deps/wheels .deps/nvcc.part
  download tools/requirements-nvcc.txt "99 MB"
  for wheel in .deps/wheels/nvidia_*.whl; do
    unzip -q -o "$wheel" 'nvidia/*' -d .deps/nvcc.part
  done
  rm -rf .deps/wheels .deps/nvcc
  mv .deps/nvcc.part .deps/nvcc
  say "nvcc is in .deps/nvcc, in $((SECONDS - start)) s"
}

[ "$kind" = cpu ] || [ "$kind" = cuda ] || fail "expected cpu or cuda, got '$kind'"
[ -n "${SKIP_PACKAGES:-}" ] || install_packages "Debian 12 and Ubuntu 24.04 (with universe)" "${packages[@]}"
missing=$(missing_from_libtorch "${LIBTORCH:-.deps/torch}")
if [ -n "$missing" ]; then
  [ -z "${LIBTORCH:-}" ] || fail "LIBTORCH is '$LIBTORCH', expected the folder torch/ of an installed torch" \
    "$torch_version; it lacks" $missing
  install_libtorch
fi
[ "$kind" = cpu ] || install_nvcc
