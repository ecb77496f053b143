# Starting and stopping processes by pid files; sourced by up, down and status.
#
# A service SERVICE has the folder run/SERVICE with `pid` ("PID START-TIME"), `log`, `conf` and `data`.

# Prints when process PID started (clock ticks since boot), or fails when it does not run. A zombie does not run:
# nobody may reap it for long, and kill -0 succeeds on it.
start_time() {
  local stat
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
  # The fields after the command's name, which may hold spaces: the state is the first, the start time the 20th.
  read -ra stat <<<"${stat##*) }"
  [[ ${stat[0]} == [RSDTtI] ]] && echo "${stat[19]}"
}

# Prints the pid of SERVICE's process, or fails when it does not run. The start time tells a pid that the system has
# given to another process since.
service_pid() {
  local pid started
  { read -r pid started <"$run/$1/pid"; } 2>/dev/null || return 1
  [ "$(start_time "$pid")" = "$started" ] && echo "$pid"
}

is_alive() { service_pid "$1" >/dev/null; }

# launch SERVICE [NAME=VALUE...] COMMAND...: in a session of its own, so that it outlives the caller's terminal, with
# only the environment that is given, so that nothing of the caller's leaks into a server.
launch() {
  local service=$1 folder=$run/$1 pid
  shift
  # lock_fd is closed: a server must not hold the lock of the `up` that started it.
  setsid env -i PATH="$PATH" LANG=C.UTF-8 HOME="$folder" "$@" >>"$folder/log" 2>&1 </dev/null {lock_fd}>&- &
  pid=$!
  echo "$pid $(start_time "$pid" || echo 0)" >"$folder/pid"
}

# Asks the processes of all SERVICEs to end, waits, and kills what is left.
stop_services() {
  local service pid tick
  for service in "$@"; do
    pid=$(service_pid "$service") && kill "$pid" 2>/dev/null || true
  done
  for ((tick = 0; tick < 150; tick++)); do
    any_alive "$@" || break
    sleep 0.1
  done
  for service in "$@"; do
    pid=$(service_pid "$service") && kill -KILL "$pid" 2>/dev/null || true
  done
  until ! any_alive "$@"; do sleep 0.05; done
  for service in "$@"; do rm -f "$run/$service/pid"; done
}

any_alive() {
  local service
  for service in "$@"; do is_alive "$service" && return 0; done
  return 1
}

# One `up` or `down` at a time on a run folder.
take_lock() {
  exec {lock_fd}>"$run/lock"
  flock -w "$deadline_seconds" "$lock_fd" || { echo "another up or down holds $run/lock" >&2; exit 1; }
}
