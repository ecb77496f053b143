"""What a start shows: a live table of services on a terminal, a line whenever something changes elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from mrq.local.health import Health, ServiceHealth, line

_STYLES = {
    Health.READY: "green",
    Health.STARTING: "yellow",
    Health.UNHEALTHY: "red",
    Health.ENDED: "red",
    Health.ABSENT: "dim",
}


class Display:
    """Draws on standard error, so that standard output stays what a program makes it.

    Args:
        title: what is being done.
        console: by default standard error.
    """

    def __init__(self, title: str, console: Console | None = None) -> None:
        self._title = title
        self._console = console or Console(stderr=True)
        self._live = Live(console=self._console, transient=True) if self._console.is_terminal else None
        self._last = ""

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def show(self, services: Iterable[ServiceHealth]) -> None:
        """Show how the services are now."""
        seen = list(services)
        if self._live:
            self._live.update(table(self._title, seen))
        elif (text := line(seen)) != self._last:
            self._last = text
            self.say(f"{self._title}: {text}")

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()


def table(title: str, services: Sequence[ServiceHealth]) -> Table:
    """Return the services as a table."""
    drawn = Table(title=title, title_justify="left", box=None, pad_edge=False)
    drawn.add_column("service")
    drawn.add_column("containers", justify="right")
    drawn.add_column("health")
    for one in services:
        style = _STYLES[one.health]
        drawn.add_row(one.service, f"{one.ready}/{one.total}", f"[{style}]{one.health.value}[/{style}]")
    return drawn
