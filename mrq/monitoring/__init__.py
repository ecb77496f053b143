"""Looking at a cluster: its members, jobs and tasks at ZooKeeper, its files in HDFS, its queues at RabbitMQ.

with mrq.LocalMonitoring() as monitoring:
    monitoring.print_zoo()          # for people; returns the same as data
    monitoring.print_hdfs("jobs")
    monitoring.status()             # all at a glance, whatever is away

views.py    what is seen, as pydantic models
local.py    LocalMonitoring: asks the servers
prints.py   the sections of print_zoo, the tree of print_hdfs
tables.py   the same views as rich tables, for `mrq status`
html.py     and as tables in notebooks
"""

from mrq.monitoring.local import LocalMonitoring
from mrq.monitoring.views import Job, MasterInfo, Missing, Queue, Status, Task, WorkerInfo, Zoo

__all__ = ["Job", "LocalMonitoring", "MasterInfo", "Missing", "Queue", "Status", "Task", "WorkerInfo", "Zoo"]
