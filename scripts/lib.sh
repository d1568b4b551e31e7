# What the scripts share. Source it: it runs nothing by itself, and is for bash 3.2 and later.
# shellcheck shell=bash

# shellcheck disable=SC2034 # used by those who source it
# Where what the scripts install or build for themselves lives. Deleting it costs time, nothing else.
cache=${MOORING_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mooring}

note() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() {
  note "error: $*"
  exit 1
}

# No script ends without saying why: what fails is named, in functions and subshells too. From bash 4.4 on, a command substitution ends
# where something in it fails; in older ones it goes on.
set -E
shopt -s inherit_errexit 2>/dev/null || true
trap failed ERR
failed() {
  local status=$? command=${BASH_COMMAND%%$'\n'*}
  [[ $- != *e* ]] || note "failed (exit code $status) at ${BASH_SOURCE[1]}:${BASH_LINENO[0]}: ${command:0:150}"
}

# have PROGRAM: whether it is on the PATH. (Not `command -v`: that finds functions too.)
have() { type -P "$1" >/dev/null; }

# need PROGRAM REASON PACKAGE…: the program is on the PATH, or is installed with Debian's packages.
need() {
  have "$1" || debian_packages "$2" "${@:3}" || die "$1 is missing: install it"
}

# need_cargo: that, and what it links with.
need_cargo() {
  have cargo || die "cargo is missing: install Rust, see https://rustup.rs"
  need cc "linking what Rust compiles" gcc libc6-dev
}

# locked FILE COMMAND…: runs COMMAND while no other run holds FILE. (Without flock, as on macOS, it just runs.)
locked() {
  local file=$1
  shift
  mkdir -p "${file%/*}"
  (
    if have flock; then
      flock -n 9 || {
        note "waiting for another run that holds $file"
        flock 9
      }
    fi
    "$@" 9>&- # Closed, so that no daemon that COMMAND leaves behind keeps the lock.
  ) 9>"$file"
}

# provide PATH COMMAND…: makes sure that the folder PATH exists, once and whole. COMMAND gets the name of an empty folder as
# its last argument and fills it; only then does the folder become PATH. What COMMAND prints goes to stderr.
provide() {
  [[ -e $1 ]] || locked "$1.lock" fill "$@"
}
fill() {
  local path=$1 partial
  shift
  [[ -e $path ]] && return # Another run made it meanwhile.
  ! have flock || rm -rf "$path.partial".* || true # Left by a run that was killed.
  partial=$(mktemp -d "$path.partial.XXXXXX")
  # shellcheck disable=SC2064
  trap "$(printf 'rm -rf %q' "$partial")" EXIT
  chmod 755 "$partial"
  "$@" "$partial" >&2
  [[ -e $path ]] || mv "$partial" "$path"
}

# debian_packages REASON PACKAGE…: installs what is missing of Debian packages; false (and a note) where that cannot be done.
debian_packages() {
  local reason=$1 missing='' package sudo=''
  shift
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing="$missing $package"
  done
  [[ -z $missing ]] && return
  if ! have apt-get; then
    note "$reason needs$missing (names of Debian packages), and there is no apt-get here: install them by hand"
    return 1
  fi
  if [[ $(id -u) != 0 ]]; then
    have sudo || {
      note "$reason needs$missing: run as root 'apt-get install$missing'"
      return 1
    }
    sudo=sudo
  fi
  note "installing$missing with apt-get, for $reason (about half a minute)"
  # The split of $missing is meant.
  # shellcheck disable=SC2086
  locked "$cache/apt.lock" apt_install "$sudo" $missing || {
    note "apt-get could not install$missing"
    return 1
  }
}
# apt_install SUDO PACKAGE…: one at a time, for what reads the lists while another writes them finds no package. Lists that know the packages
# will do, until the mirror has them no more.
apt_install() {
  # Without a sync after each file, as in Debian's container images: beside a build that takes ten times as long.
  local sudo=$1 install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends
    -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-unsafe-io)
  shift
  # An empty $sudo is meant to vanish, here and below.
  # shellcheck disable=SC2086
  ! apt-get install -qq --simulate "$@" >/dev/null 2>&1 || ! $sudo "${install[@]}" "$@" >&2 </dev/null || return 0
  # A third-party list that cannot be refreshed is no reason to stop.
  # shellcheck disable=SC2086
  $sudo apt-get update -qq >&2 </dev/null || true
  # shellcheck disable=SC2086
  $sudo "${install[@]}" "$@" >&2 </dev/null
}

# replace PAGE MARKER FILE: puts FILE between <!-- MARKER --> and <!-- end of MARKER --> in the page.
replace() {
  local new
  grep -qxF "<!-- $2 -->" "$1" || die "$1 has no place for $2"
  new=$(mktemp)
  awk -v begin="<!-- $2 -->" -v end="<!-- end of $2 -->" -v file="$3" '
    $0 == end { inside = 0 }
    !inside { print }
    $0 == begin { inside = 1; while ((getline line < file) > 0) print line }
  ' "$1" >"$new"
  cat "$new" >"$1"
  rm "$new"
  note "$1 has the new figures"
}

# measured: what the figures depend on. Call it before the tests: their own load is not meant.
measured() {
  local envoy version load
  need uptime "the load of this machine" procps
  envoy=$(scripts/tools envoy)
  version=$("$envoy" --version | sed -nE 's|.*/([0-9.]+)/.*|\1|p')
  load=$(uptime | sed -E 's/.*averages?: *//; s/,? .*//')
  printf '%s, Envoy %s, %s cores, other load %s.\n\n' "$(date -u +%F)" "$version" "$(getconf _NPROCESSORS_ONLN)" "$load"
}
