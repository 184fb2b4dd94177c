"""The short table in the README, between its two marks."""

from __future__ import annotations

from pathlib import Path

from .protocol import Protocol
from .report import method_name, table

BEGIN, END = "<!-- figures of the pocket model: python run.py eval --pocket -->", "<!-- end of figures -->"
HEAD = ["", "recognised", "FD", "FD / average", "FD∞", "deficit (dB)", "similarity"]


def update(readme: Path, lines: list[dict], protocols: list[Protocol], facts: dict) -> bool:
    """Put the figures between the marks; False where the file has none."""
    if not readme.is_file():
        return False
    text = readme.read_text(encoding="utf-8")
    before, mark, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        return False
    readme.write_text(f"{before}{BEGIN}\n\n{short(lines, protocols, facts)}\n\n{END}{after}", encoding="utf-8")
    return True


def short(lines: list[dict], protocols: list[Protocol], facts: dict) -> str:
    """The tables of all protocols in Markdown."""
    text = [f"`{facts['command']}` on {facts['machine']}."]
    for protocol in protocols:
        made = [line for line in lines if line["protocol"] == protocol.name and "method" in line]
        if made and not any(arm.swaps for arm in protocol.arms):
            windows, title = made[0]["windows"], protocol.title[0].upper() + protocol.title[1:]
            text += ["", f"{title}, {protocol.steps} steps, {windows} windows per line:", ""]
            text += table(HEAD, [_row(line, made) for line in made])
    return "\n".join(text)


def _row(line: dict, lines: list[dict]) -> list[str]:
    average = next((other["fd"] for other in lines if other["method"] == "average"), None)
    own = line["spectrum"].get("own")
    alone = line["method"] == "single"
    return [
        method_name(line),
        f"{line['accuracy']:.1%}",
        f"{line['fd']:.3g} ± {line['fd_error']:.2g}",
        f"{line['fd'] / average:.2f}" if average and not alone else "–",
        f"{line['fd_limit']:.2g}",
        f"{own['absolute']:+.2f}" if own and not alone else "–",
        f"{line['similarity']:.4f}" if "similarity" in line else "–",
    ]
