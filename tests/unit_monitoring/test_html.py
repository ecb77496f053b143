"""What notebooks show: tables of the same data, and nothing that runs."""

from __future__ import annotations

from mrq.monitoring.views import Queue, Queues, Status, Task, Tree, Zoo


def test_queues_show_as_a_table() -> None:
    """A row each, a column for each number."""
    html = Queues({"map": Queue(ready=3, unacked=1, consumers=2)})._repr_html_()
    assert "<td>map</td><td>3</td><td>1</td><td>2</td>" in html
    assert "<th>unacked</th>" in html


def test_a_tree_shows_its_levels_and_sizes() -> None:
    """Folders lead to what is in them, one step further in."""
    html = Tree({"job_0/": Tree({"input": 1234})})._repr_html_()
    assert "job_0/" in html
    assert 'padding-left:1.2em">input</td><td>1,234</td>' in html


def test_what_users_named_is_escaped() -> None:
    """A name with markup in it is shown, not obeyed."""
    html = Tree({"<script>": 1})._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_the_zoo_and_the_status_show_every_section() -> None:
    """Also those in which there is nothing."""
    task = Task(state="completed", worker_hostname="w", received=True)
    none: dict[str, Task] = {}
    zoo = Zoo(
        masters={}, workers={}, map_tasks={"0_1": task}, shuffle_tasks=none, reduce_tasks=none, jobs={},
        dead_worker_tasks=none,
    )  # fmt: skip
    html = zoo._repr_html_()
    assert "<td>0_1</td><td>completed</td><td>w</td><td>True</td>" in html
    for title in ("Masters", "Workers", "Shuffle tasks", "Reduce tasks", "Jobs", "Dead worker tasks"):
        assert f"<b>{title}</b>: none" in html
    assert "Queues" in Status()._repr_html_()
