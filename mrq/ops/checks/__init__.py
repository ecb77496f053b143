"""What the doctor looks at: each check takes the `finding.Patient` and yields `finding.Finding`s.

servers.py     servers that are away; their clocks
members.py     masters and workers: whether there are any, and their versions
jobs.py        records: without an owner, without progress, unreadable
files.py       files without a record, records without files, attempts that are left
queues.py      consumers, dead letters, orphaned queues, alarms
management.py  RabbitMQ's management API, to look only
"""
