"""The tree of small nodes that keeps members, jobs and owners: `embedded` in memory, `zookeeper` for real."""
