"""Coordination by ZooKeeper, over kazoo: only this package imports kazoo.

`session` keeps the connection, the deadlines and the watches; `adapter` has the operations; `acl` knows
whom a new node is for.
"""

from mrq.coordination.zookeeper.adapter import ZooKeeperCoordination

__all__ = ["ZooKeeperCoordination"]
