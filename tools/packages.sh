# Functions for scripts that set a machine up: messages, and packages of Debian and Ubuntu.

say() { printf 'setup: %s\n' "$*"; }
fail() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

# Runs a command as root: directly, or through sudo.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  else
    sudo "$@"
  fi
}

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# install_packages SYSTEMS PACKAGE...: those that are missing, of systems that have all of them.
install_packages() {
  local systems="$1" missing=() package size
  shift
  command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
    fail "this system has no apt; the set-up knows $systems. Install the equivalents of:" \
      "$*; then set SKIP_PACKAGES=1"
  for package in "$@"; do
    is_installed "$package" || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0

  local start=$SECONDS
  say "system packages missing: ${missing[*]}"
  if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
    fail "installing them needs root, and there is no sudo here; as root run: apt-get install ${missing[*]}"
  fi
  as_root apt-get -qq update ||
    fail "apt-get could not read its package lists (its message is above); check the network and apt's sources"
  size=$(LC_ALL=C apt-get install --assume-no --no-install-recommends "${missing[@]}" 2>&1 |
    sed -n 's/^Need to get \(.*\) of archives.*/\1/p' || true)
  say "downloading ${size:-them} with apt-get"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" \
    >/dev/null ||
    fail "apt-get could not install ${missing[*]} (its message is above); all of them are in $systems"
  say "system packages installed in $((SECONDS - start)) s"
}
