"""Tools for whoever runs a cluster, or wonders about a job.

deadletters.py  what the broker gave up on: look at it, publish it again, drop it
replay.py       runs one task of a job again, here, in this process
overlay.py      the store that a replay sees: what it writes stays here
doctor.py       what is wrong with the cluster, and what to do about it
checks/         what the doctor looks at
explain.py      a job's story
waiting.py      what a job waits for

What masters clear by themselves is `mrq.retention`.
"""
