#!/usr/bin/env bash
# Brings a Debian 12 machine to where `make test-browser` runs: Chromium, its driver, and axe-core, which
# looks for what keeps people with disabilities out of a page. Nothing that is there is fetched again.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly packages=(chromium chromium-driver fonts-dejavu-core)
readonly axe=.deps/browser/axe.min.js

. tools/packages.sh

[ -n "${SKIP_PACKAGES:-}" ] || install_packages "Debian 12" "${packages[@]}"

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
