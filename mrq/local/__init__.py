"""`LocalCluster`: RabbitMQ, ZooKeeper, HDFS, masters and workers in containers on this machine.

    with mrq.LocalCluster(n_workers=4) as cluster:
        cluster.mapreduce(data, map_func, reduce_func).result()

cluster.py      LocalCluster: the client of such a cluster, and its controls
login.py        Auth, at that cluster
network.py      Network: its containers, from the first start to the end
scaling.py      Scaling: how many masters and workers run
victims.py      whom scaling down removes (pure)
compose.py      the compose CLI, for what infra/docker-compose.yml says
engine.py       Docker's SDK, for what happens in it
definition.py   where infra/ is: in a checkout, or in the wheel
state.py        what is remembered of a cluster: an env file for its owner's eyes only
variables.py    what is in that file, and the settings that follow from it
hostports.py    which ports are free
guard.py        the logins at the servers
health.py       how services are, in words (pure)
display.py      what a start shows
"""

from mrq.local.cluster import LocalCluster
from mrq.local.login import Auth
from mrq.local.network import Network

__all__ = ["Auth", "LocalCluster", "Network"]
