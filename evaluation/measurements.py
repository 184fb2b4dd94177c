"""The short tables of the pocket model in docs/measurements.md, between their two marks."""

from __future__ import annotations

from pathlib import Path

from .drawing import Table
from .report import by_protocol, markdown_table

BEGIN, END = "<!-- figures of the pocket model: python run.py eval --pocket -->", "<!-- end of figures -->"
COLUMNS = {
    "recognised": "recognised",
    "fd@pocket": "FD",
    "fd@pocket/average": "FD / average",
    "fd_limit@pocket": "FD∞",
    "deficit_absolute": "deficit (dB)",
    "similarity": "similarity",
}


def update(page: Path, groups: list[dict]) -> bool:
    """Put the figures between the marks; False where the page has none."""
    if not page.is_file():
        return False
    text = page.read_text(encoding="utf-8")
    before, mark, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        return False
    page.write_text(f"{before}{BEGIN}\n\n{short(groups)}\n\n{END}{after}", encoding="utf-8")
    return True


def short(groups: list[dict]) -> str:
    """The tables of all protocols but the sweeps in Markdown."""
    text: list[str] = []
    for protocol, (group,) in by_protocol(groups):
        facts = group["facts"]
        text = text or [f"`{facts['command']}` on {facts['machine']}."]
        if group["lines"] and not protocol.axes:
            table = Table([group | {"columns": COLUMNS}])
            text += ["", f"{protocol.title[0].upper()}{protocol.title[1:]}: {facts['sentences'][0]}", ""]
            text += markdown_table(table.head, table.rows)
    return "\n".join(text)
