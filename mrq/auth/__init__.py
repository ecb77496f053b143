"""Users: who they are, what they may do, and where the servers keep them.

login       `Auth`: a login, and what an admin does with users
admin       the steps of that
credentials the file of the services' logins
policy      roles, RabbitMQ's permissions, ZooKeeper's rights; pure
tree        ZooKeeper's list of users, and every node's rights
management  RabbitMQ's users
"""

from mrq.auth.credentials import Login
from mrq.auth.login import Auth

__all__ = ["Auth", "Login"]
