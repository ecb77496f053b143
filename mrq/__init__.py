"""MapReduce over RabbitMQ, ZooKeeper and HDFS."""
