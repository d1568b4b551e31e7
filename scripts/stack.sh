# Envoy with the plugin (envoy/envoy.yaml) and three upstream hosts behind it, for scripts/run and scripts/demo.
# Source it after lib.sh, in the project's root: `start_stack` starts all of it, and the end of the script stops it, however it comes.
# shellcheck shell=bash

# shellcheck disable=SC2034 # used by those who source it
url=http://127.0.0.1:10000
admin=http://127.0.0.1:9901
export no_proxy=127.0.0.1 NO_PROXY=127.0.0.1

# Process ids: of Envoy, and of the hosts as "name=pid".
envoy_pid='' hosts=''

port_of() {
  case $1 in
  a) echo 9001 ;;
  b) echo 9002 ;;
  c) echo 9003 ;;
  *) die "no such host: $1" ;;
  esac
}

# pid_of NAME: of a host.
pid_of() {
  local host
  for host in $hosts; do
    [[ ${host%=*} != "$1" ]] || echo "${host#*=}"
  done
}

# forget_host NAME: one that has ended. Its process id may soon be somebody else's.
forget_host() {
  local host others=''
  for host in $hosts; do
    [[ ${host%=*} == "$1" ]] || others="$others $host"
  done
  hosts=$others
}

stop_stack() {
  local status=$? pid pids="$envoy_pid" deadline=$((SECONDS + 5))
  trap '' INT TERM HUP # Once more Ctrl-C would leave something behind.
  for pid in $hosts; do
    pids="$pids ${pid#*=}"
  done
  for pid in $pids; do
    kill "$pid" 2>/dev/null || true
  done
  for pid in $pids; do
    while kill -0 "$pid" 2>/dev/null; do
      ((SECONDS < deadline)) || kill -9 "$pid" 2>/dev/null || true
      sleep 0.05
    done
  done
  exit "$status"
}

check_port() {
  ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null ||
    die "port $1 of 127.0.0.1 is taken, and $2 needs it. What listens there? Try: lsof -i :$1"
}

start_host() {
  "${CARGO_TARGET_DIR:-target}/debug/examples/upstream" --listen "127.0.0.1:$(port_of "$1")" --name "$1" >".run/$1.log" 2>&1 &
  hosts="$hosts $1=$!"
  disown # No "Killed" from the shell when one is killed.
}

# alive WHAT PID LOG: fails with the end of the log if that process has ended.
alive() {
  kill -0 "$2" 2>/dev/null || {
    tail -n 20 "$3" >&2
    die "$1 ended, see $3"
  }
}

# healthy NAME: whether Envoy sees the host so.
healthy() {
  curl -sf -m 2 "$admin/clusters" | grep -q "^app::127.0.0.1:$(port_of "$1")::health_flags::healthy$"
}

wait_for() {
  local what=$1 deadline=$((SECONDS + 20))
  shift
  until "$@"; do
    alive Envoy "$envoy_pid" .run/envoy.log
    ((SECONDS < deadline)) || die "waited in vain for $what, see .run/envoy.log"
    sleep 0.1
  done
}

envoy_ready() {
  curl -sf -m 2 -o /dev/null "$admin/ready"
}

host_ready() {
  alive "host $1" "$(pid_of "$1")" ".run/$1.log"
  healthy "$1"
}

start_stack() {
  local envoy name
  have curl || die "curl is missing: install it"
  have cargo || die "cargo is missing: install Rust, see https://rustup.rs"
  check_port 10000 Envoy
  check_port 9901 "Envoy's admin interface"
  for name in a b c; do
    check_port "$(port_of "$name")" "host $name"
  done

  scripts/wasm
  cargo build --locked --example upstream
  envoy=$(scripts/tools envoy)

  mkdir -p .run
  if [[ ! -s .run/key ]]; then
    (umask 077 && head -c 32 /dev/urandom | base64 >.run/key)
  fi
  MOORING_KEY_2026_11=$(<.run/key)
  export MOORING_KEY_2026_11

  trap stop_stack EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  trap 'exit 129' HUP
  for name in a b c; do
    start_host "$name"
  done
  "$envoy" --config-path envoy/envoy.yaml --use-dynamic-base-id --concurrency 2 --log-level warning >.run/access.log 2>.run/envoy.log &
  envoy_pid=$!
  wait_for Envoy envoy_ready
  for name in a b c; do
    wait_for "host $name to be healthy" host_ready "$name"
  done
}
