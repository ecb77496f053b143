"""The message queue: `topology` names what there is; `rabbitmq` and `embedded` are the two adapters."""
