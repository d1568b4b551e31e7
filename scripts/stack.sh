# Two Envoys with the plugin (envoy/store.yaml), three upstream hosts behind them, and the session store that the Envoys share, for
# scripts/run and scripts/demo. Source it after lib.sh, in the project's root: `start_stack` starts all of it, and the end of the script
# stops it, however it comes. STORE says what the store keeps its sessions in: memory (the default) or redis. Where `page` is set, the
# hosts serve that page to browsers (examples/upstream/src/demo.rs tells what it is).
# shellcheck shell=bash

# shellcheck disable=SC2034 # used by those who source it
url=http://127.0.0.1:10000
other_url=http://127.0.0.1:10001
admin=http://127.0.0.1:9901
other_admin=http://127.0.0.1:9902
store_url=http://127.0.0.1:8480
store_metrics=http://127.0.0.1:8482
redis_port=8481
export no_proxy=127.0.0.1 NO_PROXY=127.0.0.1

# Process ids: of the Envoys, of the store and its Redis, and of the hosts as "name=pid". Empty for what does not run.
envoy_pid='' other_envoy_pid='' store_pid='' redis_pid='' hosts=''
page=''

port_of() {
  case $1 in
  a) echo 9001 ;;
  b) echo 9002 ;;
  c) echo 9003 ;;
  *) die "no such host: $1" ;;
  esac
}

# find_pid NAME: sets pid to that of a host, empty where it has none. It prints nothing, because bash may lose the Ctrl-C that comes
# within a $(…).
find_pid() {
  local host
  pid=''
  for host in $hosts; do
    [[ ${host%=*} != "$1" ]] || pid=${host#*=}
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
  local status=${1:-$?} pid pids="$envoy_pid $other_envoy_pid $store_pid $redis_pid" deadline=$((SECONDS + 5))
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
  local options=(--listen "127.0.0.1:$(port_of "$1")" --name "$1")
  [[ -z $page ]] || options+=(--demo "$page")
  "${CARGO_TARGET_DIR:-target}/debug/upstream" "${options[@]}" >".run/$1.log" 2>&1 &
  hosts="$hosts $1=$!"
  disown # No "Killed" from the shell when one is killed.
}

# start_store: in the background; its log goes on where it was.
start_store() {
  local arguments=''
  [[ -z $redis_pid ]] || arguments="--redis redis://127.0.0.1:$redis_port"
  # The split of $arguments is meant.
  # shellcheck disable=SC2086
  "${CARGO_TARGET_DIR:-target}/debug/mooring-store" --listen "${store_url#http://}" \
    --metrics-listen "${store_metrics#http://}" $arguments >>.run/store.log 2>&1 &
  store_pid=$!
  disown
}

start_redis() {
  local program
  program=$(scripts/tools redis-server)
  "$program" --bind 127.0.0.1 --port "$redis_port" --maxmemory-policy noeviction --save '' --dir .run >.run/redis.log 2>&1 &
  redis_pid=$!
  disown
}

# alive WHAT PID LOG: fails with the end of the log if that process has ended.
alive() {
  kill -0 "$2" 2>/dev/null || {
    tail -n 20 "$3" >&2
    die "$1 ended, see $3"
  }
}

# answers URL: whether it does, with a 200.
answers() {
  curl -sf -m 2 -o /dev/null "$1"
}

# healthy ADMIN NAME: whether the Envoy of that admin interface sees the host so.
healthy() {
  curl -sf -m 2 "$1/clusters" | grep -q "^app::127.0.0.1:$(port_of "$2")::health_flags::healthy$"
}

wait_for() {
  local what=$1 deadline=$((SECONDS + 20))
  shift
  until "$@"; do
    [[ -z $envoy_pid ]] || alive Envoy "$envoy_pid" .run/envoy.log
    [[ -z $other_envoy_pid ]] || alive "the other Envoy" "$other_envoy_pid" .run/other-envoy.log
    ((SECONDS < deadline)) || die "waited in vain for $what, see .run/*.log"
    sleep 0.1
  done
}

store_ready() {
  alive "the store" "$store_pid" .run/store.log
  [[ -z $redis_pid ]] || alive Redis "$redis_pid" .run/redis.log
  answers "$store_url/readyz"
}

# store_seen ADMIN: whether that Envoy has found the store ready.
store_seen() {
  curl -sf -m 2 "$1/clusters" | grep -q "^session_store::.*::health_flags::healthy$"
}

host_ready() {
  local pid
  find_pid "$1"
  alive "host $1" "$pid" ".run/$1.log"
  healthy "$admin" "$1" && healthy "$other_admin" "$1"
}

# all_serve URL: whether requests there meet every host. Envoy's workers learn of a host up to a second later than its admin interface.
all_serve() {
  local at
  for ((at = 0; at < 12; at++)); do
    curl -si -m 2 "$1/" | tr -d '\r' | sed -n 's/^x-served-by: //p'
  done | sort -u | awk 'END { exit NR != 3 }'
}

# start_envoy CONFIG NAME: in the background. Logs go to .run/NAME.log and .run/NAME-access.log; the process id is $!.
start_envoy() {
  "$envoy" --config-path "$1" --disable-hot-restart --concurrency 2 --log-level warning --component-log-level wasm:info --file-flush-interval-msec 200 >".run/$2-access.log" 2>".run/$2.log" &
}

start_stack() {
  local envoy name config=envoy/store.yaml storage=${STORE:-memory}
  case $storage in
  memory | redis) ;;
  *) die "STORE is '$storage': it may be memory or redis" ;;
  esac
  need curl "asking what was started" curl
  need_cargo
  check_port 10000 Envoy
  check_port 9901 "Envoy's admin interface"
  check_port 10001 "the other Envoy"
  check_port 9902 "the other Envoy's admin interface"
  check_port 8480 "the session store"
  check_port 8482 "the metrics of the session store"
  [[ $storage != redis ]] || check_port "$redis_port" "the store's Redis"
  for name in a b c; do
    check_port "$(port_of "$name")" "host $name"
  done

  # Side by side: downloads leave both cores idle, and a build's last step one. The plugin takes longest: the others have what it leaves.
  nice cargo build --locked --package mooring-store --package upstream &
  local programs=$!
  scripts/tools envoy >/dev/null &
  local download=$!
  # shellcheck disable=SC2064
  trap "kill $programs $download 2>/dev/null || true" EXIT
  scripts/wasm
  wait "$programs" || die "mooring-store and the hosts do not build"
  wait "$download" || die "there is no Envoy"
  envoy=$(scripts/tools envoy)

  mkdir -p .run
  if [[ ! -s .run/key ]]; then
    (umask 077 && head -c 32 /dev/urandom | base64 >.run/key)
  fi
  MOORING_KEY_2026_11=$(<.run/key)
  export MOORING_KEY_2026_11
  if [[ -n $page ]]; then
    # The page shows what the plugin decided.
    sed 's/"store": {"protocol"/"debug_header": "x-mooring-decision", &/' "$config" >.run/envoy.yaml
    config=.run/envoy.yaml
    grep -q x-mooring-decision "$config" || die "there is no place for the debug header in envoy/store.yaml"
  fi
  # The same config on other ports.
  sed -e 's/port_value: 10000}/port_value: 10001}/' -e 's/port_value: 9901}/port_value: 9902}/' "$config" >.run/other-envoy.yaml

  trap stop_stack EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  trap 'exit 129' HUP
  for name in a b c; do
    start_host "$name"
  done
  : >.run/store.log
  if [[ $storage == redis ]]; then
    note "starting Redis on 127.0.0.1:$redis_port, and the session store over it"
    start_redis
  else
    note "starting the session store, in memory"
  fi
  start_store
  wait_for "the store to be ready" store_ready
  note "starting two Envoys"
  start_envoy "$config" envoy
  envoy_pid=$!
  start_envoy .run/other-envoy.yaml other-envoy
  other_envoy_pid=$!
  wait_for Envoy answers "$admin/ready"
  wait_for "the other Envoy" answers "$other_admin/ready"
  for name in a b c; do
    wait_for "host $name to be healthy" host_ready "$name"
  done
  wait_for "every host to serve" all_serve "$url"
  wait_for "every host to serve at the other Envoy" all_serve "$other_url"
  wait_for "Envoy to find the store" store_seen "$admin"
  wait_for "the other Envoy to find the store" store_seen "$other_admin"
}
