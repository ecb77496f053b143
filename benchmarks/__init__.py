"""mrq against its peers, in one run, interleaved: `benchmarks/run`, or `python -m benchmarks` where all is there.

    workloads.py    data and functions, the same for every system
    systems/        one file a system: start it, run a job or no-op tasks, stop it
    by_hand.py      the two steps of a MapReduce that the peers' files put onto their system's tasks
    host.py         a process of its own for each system, that times it
    runner.py       start all, warm up, measure in turns, check results, keep deadlines
    report.py       medians, ratios, JSON, the tables
    publish.py      the committed results, the docs' tables and plot

Beside it, and by itself: `benchmarks/stragglers`, with shared.py.
"""
