# The services: their order, their ports, how each starts and how it says that it works; sourced by up, down, status.

# In the order of starting. epmd is the name service of Erlang, without which RabbitMQ would start one for the machine.
all_services=(epmd rabbitmq zookeeper-1 zookeeper-2 zookeeper-3 namenode datanode-1 datanode-2 httpfs)

jvm_options=(-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xss512k -XX:+ExitOnOutOfMemoryError
  -Djava.net.preferIPv4Stack=true
  # Or WebHDFS answers 500 on Java 17.
  --add-opens=java.base/java.lang=ALL-UNNAMED)

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

# --- starting -------------------------------------------------------------------------------------------------------

start_epmd() { launch epmd epmd -address 127.0.0.1 -port "${ports[EPMD]}"; }

start_rabbitmq() {
  local folder=$run/rabbitmq
  MRQ_SERVER_AMQP_PORT=${ports[AMQP]} MRQ_SERVER_MANAGEMENT_PORT=${ports[MANAGEMENT]} MRQ_SERVER_VHOST=$vhost \
    MRQ_SERVER_USERNAME=$username MRQ_SERVER_PASSWORD=$(password) "$infra/render" "$infra/rabbitmq.conf" >"$folder/conf/rabbitmq.conf"
  echo '[rabbitmq_management].' >"$folder/conf/enabled_plugins"
  # RUNNING_UNDER_SYSTEMD makes the script become the server instead of watching over it: the pid is the server's.
  # The script beside the plugins is used, since the one on the PATH changes the user.
  launch rabbitmq RUNNING_UNDER_SYSTEMD=true \
    RABBITMQ_NODENAME=mrq@localhost RABBITMQ_DIST_PORT="${ports[ERLANG]}" ERL_EPMD_PORT="${ports[EPMD]}" \
    RABBITMQ_CONFIG_FILE="$folder/conf/rabbitmq.conf" RABBITMQ_CONF_ENV_FILE="$folder/conf/none" \
    RABBITMQ_ENABLED_PLUGINS_FILE="$folder/conf/enabled_plugins" \
    RABBITMQ_MNESIA_BASE="$folder/data" RABBITMQ_LOG_BASE="$folder/data" \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}" \
    /usr/lib/rabbitmq/bin/rabbitmq-server
}

start_zookeeper() {
  local number=$1 folder=$run/zookeeper-$1 peer
  echo "$number" >"$folder/data/myid"
  for peer in 1 2 3; do
    export "MRQ_SERVER_ZOOKEEPER_$peer=127.0.0.1:$(zookeeper_port ZOOKEEPER_PEER $peer):$(zookeeper_port ZOOKEEPER_ELECTION $peer)"
  done
  MRQ_SERVER_DATA=$folder/data MRQ_SERVER_CLIENT_PORT=$(zookeeper_port ZOOKEEPER "$number") \
    "$infra/render" "$infra/zoo.cfg" >"$folder/conf/zoo.cfg"
  cp "$infra/log4j.properties" "$folder/conf/"
  launch "zookeeper-$number" java -Xmx64m "${jvm_options[@]}" -cp "$folder/conf:$jars/*" \
    org.apache.zookeeper.server.quorum.QuorumPeerMain "$folder/conf/zoo.cfg"
}

# The environment that the Hadoop configuration of SERVICE refers to.
hadoop_environment() {
  local number
  number=$(number_of "$1")
  printf '%s\n' HADOOP_USER_NAME=hdfs "MRQ_SERVER_DATA=$run/$1/data" "MRQ_SERVER_NAMENODE=localhost:${ports[NAMENODE]}" \
    "MRQ_SERVER_NAMENODE_HTTP_PORT=${ports[NAMENODE_HTTP]}" "MRQ_SERVER_HTTPFS_PORT=${ports[HTTPFS]}" \
    "MRQ_SERVER_DATANODE_PORT=$(datanode_port DATANODE "$number")" \
    "MRQ_SERVER_DATANODE_HTTP_PORT=$(datanode_port DATANODE_HTTP "$number")" \
    "MRQ_SERVER_DATANODE_IPC_PORT=$(datanode_port DATANODE_IPC "$number")"
}

# hadoop_java SERVICE: puts SERVICE's configuration in place and its command line, environment first, into `command`.
hadoop_java() {
  local folder=$run/$1
  cp "$infra"/{core-site.xml,hdfs-site.xml,httpfs-site.xml,log4j.properties} "$folder/conf/"
  # The jars carry no web pages, but the servers do not start without these folders on their class path.
  mkdir -p "$folder"/conf/webapps/{hdfs,datanode,static}
  mapfile -t command < <(hadoop_environment "$1")
  command+=(java -Xmx128m "${jvm_options[@]}" -Dhadoop.home.dir="$folder" -cp "$folder/conf:$jars/*")
}

start_namenode() {
  local command main=org.apache.hadoop.hdfs.server.namenode.NameNode
  hadoop_java namenode
  if [ ! -d "$run/namenode/data/name/current" ]; then
    env "${command[@]}" $main -format -nonInteractive >>"$run/namenode/log" 2>&1 || return 1
  fi
  launch namenode "${command[@]}" $main
}

start_datanode() {
  local command
  hadoop_java "datanode-$1"
  launch "datanode-$1" "${command[@]}" org.apache.hadoop.hdfs.server.datanode.DataNode
}

start_httpfs() {
  local command folder=$run/httpfs
  hadoop_java httpfs
  cp "$folder/conf/log4j.properties" "$folder/conf/httpfs-log4j.properties"
  [ -s "$folder/conf/httpfs-signature.secret" ] || random_hex >"$folder/conf/httpfs-signature.secret"
  launch httpfs "${command[@]}" -Dhttpfs.home.dir="$folder" -Dhttpfs.config.dir="$folder/conf" \
    -Dhttpfs.log.dir="$folder/data" -Dhttpfs.temp.dir="$folder/data" \
    org.apache.hadoop.fs.http.server.HttpFSServerWebServer
}

start_service() {
  mkdir -p "$run/$1/conf" "$run/$1/data"
  "start_$(kind_of "$1")" "$(number_of "$1")"
}

random_hex() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

# --- asking ---------------------------------------------------------------------------------------------------------

# Loopback only: a proxy of the user's environment is not asked.
ask() { curl -fsS --fail-early -m 5 --noproxy '*' "$@" 2>/dev/null; }

probe_epmd() { epmd_names | grep -q "^epmd: up"; }

epmd_names() { epmd -port "${ports[EPMD]}" -names 2>/dev/null; }

# An authenticated call, no alarm of memory or disk that would block publishers, and a listener for clients. The password
# is read from a file descriptor: command lines are for everyone to see.
probe_rabbitmq() {
  local api=http://127.0.0.1:${ports[MANAGEMENT]}/api
  ask -K <(echo "user = \"$username:$(password)\"") "$api/vhosts/$vhost" "$api/health/checks/local-alarms" \
    "$api/health/checks/port-listener/${ports[AMQP]}" >/dev/null
}

# Serving as a member of the quorum: a server that has lost the others answers, but in no mode.
probe_zookeeper() {
  local answer
  answer=$({ exec 3<>"/dev/tcp/127.0.0.1/$(zookeeper_port ZOOKEEPER "$1")" && printf srvr >&3 && timeout 2 cat <&3; } 2>/dev/null)
  [[ $answer == *"Mode: leader"* || $answer == *"Mode: follower"* ]]
}

jmx() { ask "http://127.0.0.1:$1/jmx?qry=Hadoop:service=$2"; }

namenode_info() { jmx "${ports[NAMENODE_HTTP]}" NameNode,name=NameNodeInfo; }

probe_namenode() { namenode_info | grep -q '"Safemode" : "",'; }

# The NameNode counts a killed DataNode as live for 12 s, and a started one does not know the NameNode at once: both
# are asked.
probe_datanode() {
  jmx "$(datanode_port DATANODE_HTTP "$1")" DataNode,name=DataNodeInfo | grep -q 'RUNNING' &&
    namenode_info | grep '"LiveNodes"' | grep -q "localhost:$(datanode_port DATANODE "$1")"
}

probe_httpfs() { ask -o /dev/null "http://127.0.0.1:${ports[HTTPFS]}/webhdfs/v1/?op=GETFILESTATUS&user.name=$username"; }

is_healthy() { is_alive "$1" && "probe_$(kind_of "$1")" "$(number_of "$1")"; }
