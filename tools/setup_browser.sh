#!/usr/bin/env bash
# Brings a Debian 12 machine to where `make test-browser` runs: Chromium, its driver, and axe-core, which
# looks for what keeps people with disabilities out of a page. Nothing that is there is fetched again.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly packages=(chromium chromium-driver fonts-dejavu-core)
readonly axe=.deps/browser/axe.min.js

fail() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  else
    sudo "$@"
  fi
}

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

missing=()
for package in "${packages[@]}"; do
  is_installed "$package" || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  printf 'setup: system packages missing: %s\n' "${missing[*]}"
  as_root apt-get -qq update &&
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" \
      >/dev/null ||
    fail "apt-get could not install ${missing[*]} (its message is above); Debian 12 has all of them"
fi

if [ ! -f "$axe" ]; then
  download=$(mktemp -d)
  trap 'rm -rf "$download"' EXIT
  python3 -m pip download --quiet --no-deps --require-hashes --only-binary=:all: --dest "$download" \
    --requirement tools/requirements-axe.txt ||
    fail "pip could not download tools/requirements-axe.txt (its message is above)"
  mkdir -p "$(dirname "$axe")"
  unzip -q -p "$download"/*.whl axe_playwright_python/axe.min.js >"$download/axe.min.js"
  mv "$download/axe.min.js" "$axe"
fi
