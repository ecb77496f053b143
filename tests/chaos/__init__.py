"""Chaos on the real servers: what may die, stop, stall or fill up does, one after the other, while jobs run.

campaign.py   what happens: jobs in flight, one fault after another, how long until things go on
faults.py     the table of faults on the native servers
strikes.py    how each is done
traffic.py    the jobs, and what plain Python says of them
traces.py     what each run of a task leaves behind
stage.py      the servers, masters and workers that the faults are for
watcher.py    how far jobs are
proxy.py      a network between them that does what it is told
table.py      what came of it
"""
