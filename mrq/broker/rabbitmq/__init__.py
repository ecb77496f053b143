"""The broker over RabbitMQ (3.10 and later), with pika.

broker     RabbitMQBroker: what the rest of mrq sees
publisher  confirms, republishing, deadlines
consumer   channels that deliver; private queues
asking     the depths of queues; messages on loan, without a consumer
link       one connection that comes back by itself
declare    the topology, over a channel of its own
loop       the I/O thread, the only one that touches pika's objects
"""

from mrq.broker.rabbitmq.broker import RabbitMQBroker

__all__ = ["RabbitMQBroker"]
