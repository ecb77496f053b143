"""How workers are deployed. What a worker does is in `mrq/worker.py`."""
