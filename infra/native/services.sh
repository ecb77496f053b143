# The services: their order, their ports, how each starts and how it says that it works; sourced by up, down, status.

# In the order of starting. epmd is the name service of Erlang, without which RabbitMQ would start one for the machine.
all_services=(epmd rabbitmq zookeeper-1 zookeeper-2 zookeeper-3 namenode datanode-1 datanode-2 httpfs)

# Prints the services that the arguments name (all for none): a service, or a kind with several (zookeeper, datanode).
named_services() {
  local name service found
  [ $# -gt 0 ] || { printf '%s\n' "${all_services[@]}"; return; }
  for name in "$@"; do
    found=
    for service in "${all_services[@]}"; do
      if [ "$service" = "$name" ] || [ "${service%-[0-9]}" = "$name" ]; then echo "$service"; found=yes; fi
    done
    [ -n "$found" ] || { echo "no service is called $name; there are: ${all_services[*]}" >&2; return 1; }
  done
}

kind_of() { echo "${1%-[0-9]}"; }

# zookeeper-2 -> 2; a service that is the only one of its kind is number 1.
number_of() { [[ $1 =~ -([0-9])$ ]] && echo "${BASH_REMATCH[1]}" || echo 1; }

zookeeper_port() { echo $((ports[$1] + $2 - 1)); }
datanode_port() { echo $((ports[$1] + ($2 - 1) * 10)); }

# The ports that SERVICE listens on, the one that its users call first.
ports_of() {
  local number name
  number=$(number_of "$1")
  case $(kind_of "$1") in
    epmd) echo "${ports[EPMD]}" ;;
    rabbitmq) echo "${ports[AMQP]} ${ports[MANAGEMENT]} ${ports[ERLANG]}" ;;
    zookeeper) for name in ZOOKEEPER ZOOKEEPER_PEER ZOOKEEPER_ELECTION; do zookeeper_port $name "$number"; done | xargs ;;
    namenode) echo "${ports[NAMENODE]} ${ports[NAMENODE_HTTP]}" ;;
    datanode) for name in DATANODE DATANODE_HTTP DATANODE_IPC; do datanode_port $name "$number"; done | xargs ;;
    httpfs) echo "${ports[HTTPFS]}" ;;
  esac
}

password() { cat "$run/password"; }

# The environment of SERVICE: the settings that infra/serve and infra/probe know, a line each.
environment_of() {
  local number peer
  number=$(number_of "$1")
  echo "MRQ_SERVER_DATA=$run/$1/data"
  case $(kind_of "$1") in
    rabbitmq)
      printf 'MRQ_SERVER_%s\n' "AMQP_PORT=${ports[AMQP]}" "MANAGEMENT_PORT=${ports[MANAGEMENT]}" "VHOST=$vhost" \
        "USERNAME=$username" "PASSWORD=$(password)" 'ERL=-kernel inet_dist_use_interface {127,0,0,1}'
      printf '%s\n' RABBITMQ_NODENAME=mrq@localhost "RABBITMQ_DIST_PORT=${ports[ERLANG]}" "ERL_EPMD_PORT=${ports[EPMD]}" ;;
    zookeeper)
      printf 'MRQ_SERVER_%s\n' "NUMBER=$number" "JARS=$jars" "CLIENT_PORT=$(zookeeper_port ZOOKEEPER "$number")"
      for peer in 1 2 3; do
        echo "MRQ_SERVER_ZOOKEEPER_$peer=127.0.0.1:$(zookeeper_port ZOOKEEPER_PEER $peer):$(zookeeper_port ZOOKEEPER_ELECTION $peer)"
      done ;;
    namenode | datanode | httpfs)
      printf 'MRQ_SERVER_%s\n' "JARS=$jars" "NAMENODE=localhost:${ports[NAMENODE]}" "NAMENODE_HTTP_PORT=${ports[NAMENODE_HTTP]}" \
        "HTTPFS_PORT=${ports[HTTPFS]}" "DATANODE_PORT=$(datanode_port DATANODE "$number")" \
        "DATANODE_HTTP_PORT=$(datanode_port DATANODE_HTTP "$number")" "DATANODE_IPC_PORT=$(datanode_port DATANODE_IPC "$number")" ;;
  esac
}

password() { cat "$run/password"; }

start_service() {
  local environment
  mkdir -p "$run/$1/conf" "$run/$1/data"
  if [ "$1" = epmd ]; then
    launch epmd epmd -address 127.0.0.1 -port "${ports[EPMD]}"
  else
    mapfile -t environment < <(environment_of "$1")
    launch "$1" "${environment[@]}" "$infra/serve" "$(kind_of "$1")" "$run/$1"
  fi
}

random_hex() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

epmd_names() { epmd -port "${ports[EPMD]}" -names 2>/dev/null; }

is_healthy() {
  local environment
  is_alive "$1" || return
  if [ "$1" = epmd ]; then
    epmd_names | grep -q "^epmd: up"
  else
    mapfile -t environment < <(environment_of "$1")
    env "${environment[@]}" "$infra/probe" "$(kind_of "$1")"
  fi
}
