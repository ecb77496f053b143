"""How masters are deployed. What a master does is in `mrq/master.py`."""
