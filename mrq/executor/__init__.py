"""Where users' functions run: child processes that a zygote forks, one job each.

    worker process                 zygote (started clean)          children
    pool.Executor ── orders ─────▶ forks, kills, reaps ── fork ──▶ child.serve
          │      ◀── notices ───── tells who ended how                 │
          └──────────────── assignments, outcomes ─────────────────────┤
          │ ◀─────────────── what functions print (a pipe) ────────────┘
          └─ output.Keeper ─▶ store

The worker holds connections and credentials, so it is never forked. The zygote has imported what tasks need
and knows nothing; its forks cost a few milliseconds. `channel` is what all three speak: JSON, never pickle.
What a child prints the worker reads and keeps (`output`), so that a crash's last words are there too.
"""
