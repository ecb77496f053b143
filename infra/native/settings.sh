# Where the native servers are and on which ports; sourced by up, down and status.
#
#   MRQ_NATIVE_RUN          the folder of all state (data, logs, configuration, password)     infra/native/run
#   MRQ_NATIVE_PORT_OFFSET  added to every default port, for a second instance beside the first;            0
#                           "auto" is the first of 0, 500, 1000, ... 6500 with all ports free
#   MRQ_NATIVE_<NAME>_PORT  one port, see below
#   MRQ_NATIVE_DEADLINE     seconds that a start may take                                                 120
#
# An instance keeps the ports it was started with (run/ports), so that its folder alone names it from then on.

native=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
infra=$(dirname "$native")
jars=$native/jars
run=$(readlink -m "${MRQ_NATIVE_RUN:-$native/run}")
deadline_seconds=${MRQ_NATIVE_DEADLINE:-120}

username=mrq
vhost=mrq

# NAME DEFAULT lines. Where several servers of a kind run, the second and third count up from the first's port
# (ZooKeeper by 1, DataNodes by 10, since their defaults lie close together).
port_defaults() {
  cat <<'PORTS'
AMQP 5672
MANAGEMENT 15672
ERLANG 25672
EPMD 4369
ZOOKEEPER 2181
ZOOKEEPER_PEER 2888
ZOOKEEPER_ELECTION 3888
NAMENODE 8020
NAMENODE_HTTP 9870
DATANODE 9866
DATANODE_HTTP 9864
DATANODE_IPC 9867
HTTPFS 14000
PORTS
}

# Fills the associative array `ports`: a port is what the environment says, else what the instance was started with,
# else the default.
declare -A ports
load_ports() {
  local name default variable offset=${MRQ_NATIVE_PORT_OFFSET:-}
  if [ "$offset" = auto ]; then offset=; fi
  while read -r name default; do ports[$name]=$((default + ${offset:-0})); done < <(port_defaults)
  if [ -z "$offset" ] && [ -e "$run/ports" ]; then
    while read -r name default; do ports[$name]=$default; done <"$run/ports"
  fi
  for name in "${!ports[@]}"; do
    variable=MRQ_NATIVE_${name}_PORT
    ports[$name]=${!variable:-${ports[$name]}}
  done
}

print_ports() {
  local name
  while read -r name _; do echo "$name ${ports[$name]}"; done < <(port_defaults)
}

load_ports
