"""The documentation tells of the faults that there are."""

from pathlib import Path

from tests.chaos.faults import FAULTS

PAGE = Path(__file__).parents[2] / "docs" / "chaos.md"


def test_the_page_lists_every_fault_with_what_it_does_and_what_mrq_promises() -> None:
    listed = PAGE.read_text().partition("<!-- faults: begin -->\n")[2].partition("<!-- faults: end -->")[0]
    head = ["| fault | what happens | what mrq promises |", "| --- | --- | --- |"]
    rows = [f"| {fault.name} | {fault.does} | {fault.promise} |" for fault in FAULTS]
    assert listed.splitlines() == head + rows
