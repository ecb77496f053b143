"""Writes the committed results: benchmarks/results.json, the tables of docs/benchmarks.md, and the plot beside them.

python -m benchmarks.publish      # docs and plot anew, from the results.json that is there
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.report import OURS, Results, busy, in_seconds, tables

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results.json"
DOCS = ROOT / "docs/benchmarks.md"
PLOT = ROOT / "docs/images/benchmarks.svg"
PICTURE = f"![Medians of each system on each workload, in seconds](images/{PLOT.name})"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"

BLUE, GREY = "#2f6f9f", "#b8bec4"


def publish(results: Results) -> None:
    """Write all three."""
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    text = DOCS.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    told = f"{circumstances(results)}\n\n{tables(results)}\n\n{PICTURE}"
    DOCS.write_text(f"{head}{BEGIN}\n{told}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    draw(results)


def circumstances(results: Results) -> str:
    """Return the sentences above the tables."""
    machine = results["machine"]
    versions = ", ".join(
        f"{name} {version}" for name, version in results["versions"].items() if name not in OURS
    )
    lines = [
        f"{machine['cores']} cores, {machine['memory_gib']} GiB, Python {machine['python']}; load before the run "
        f"{machine['load_before']:.2f}; {results['repeat']} repetitions, medians. {versions}.",
        *(f"{name} was left out: {why}." for name, why in results["left_out"].items()),
    ]
    return "\n".join([*lines, busy(machine)]).rstrip()


def draw(results: Results) -> None:
    """Draw the medians, a panel for each workload: shorter is faster."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "mrq", "font.size": 9}
    from matplotlib import pyplot

    names = list(results["versions"])[::-1]
    panels = list(results["workloads"].items())
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(11, 2.6), sharey=True, layout="constrained", squeeze=False
    )
    for axis, (name, workload) in zip(axes[0], panels, strict=True):
        _panel(axis, name, names, workload)
    figure.savefig(PLOT, metadata={"Date": None})
    pyplot.close(figure)


def _panel(axis: Any, title: str, names: list[str], workload: dict[str, Any]) -> None:
    """Draw one workload; its slowest bar ends the axis, and each bar has its number."""
    systems = workload["systems"]
    medians = [systems.get(name, {}).get("median", 0.0) for name in names]
    bars = axis.barh(names, medians, color=[BLUE if name in OURS else GREY for name in names])
    axis.bar_label(bars, [in_seconds(systems.get(name, {})) for name in names], padding=2, fontsize=8)
    axis.set_title(f"{title}, s", fontsize=9)
    axis.set_xlim(0, max(medians) * 1.35 or 1)
    axis.set_xticks([])
    axis.spines[["top", "right", "bottom"]].set_visible(False)


if __name__ == "__main__":
    publish(json.loads(RESULTS.read_text(encoding="utf-8")))
