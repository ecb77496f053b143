"""What notebooks show of the views: plain HTML tables, with nothing to load."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from pydantic import BaseModel


def table(title: str, rows: Mapping[str, BaseModel], leave_out: frozenset[str] = frozenset()) -> str:
    """Return a table of models by name, a column for each of their fields; a line that says so where there are none."""
    if not rows:
        return f"<p><b>{escape(title)}</b>: none</p>"
    fields = [name for name in type(next(iter(rows.values()))).model_fields if name not in leave_out]
    head = "".join(f"<th>{escape(field.replace('_', ' '))}</th>" for field in ("", *fields))
    body = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(_cell(getattr(row, field)) for field in fields)}</tr>"
        for name, row in rows.items()
    )
    return f"<table><caption>{escape(title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def tree(files: Mapping[str, Any]) -> str:
    """Return a table of files with their sizes in bytes, each level of folders indented."""
    rows = "".join(
        f'<tr><td style="text-align:left;padding-left:{1.2 * depth:.1f}em">{escape(name)}</td>'
        f"<td>{'' if size is None else f'{size:,}'}</td></tr>"
        for depth, name, size in _flat(files, 0)
    )
    return f"<table><thead><tr><th>file</th><th>bytes</th></tr></thead><tbody>{rows}</tbody></table>"


def _flat(files: Mapping[str, Any], depth: int) -> list[tuple[int, str, int | None]]:
    rows: list[tuple[int, str, int | None]] = []
    for name, what in files.items():
        if isinstance(what, Mapping):
            rows += [(depth, name, None), *_flat(what, depth + 1)]
        else:
            rows.append((depth, name, what))
    return rows


def _cell(value: Any) -> str:
    return f"<td>{escape('' if value is None else str(value))}</td>"
