"""The store over HDFS; the only place that knows the packages hdfs and requests.

store.py     the operations, tried until a deadline
client.py    one request: gateways, bodies, redirects
replies.py   what HDFS refuses, as the errors of `mrq.errors`
"""

from mrq.store.address import HdfsAddress
from mrq.store.hdfs.store import HdfsStore

__all__ = ["HdfsAddress", "HdfsStore"]
