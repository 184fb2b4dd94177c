"""What the paper says, and what is measured of it here.

A claim in a protocol's JSON: {"claim": a sentence, "where": table, figure or section, "paper": its figures, "score":
the column that measures it, "rows": the titles of the lines}.
"""

from __future__ import annotations

from .protocol import Protocol
from .scores import SCORES

HEAD = ["the paper claims", "where", "in the paper", "measured here"]


def rows(protocol: Protocol, lines: list[dict]) -> list[list[str]]:
    """The lines of the table of claims; a claim whose rows were not made is left out."""
    by_title = {line["row"]: line for line in lines}
    table = []
    for claim in protocol.claims:
        measured = []
        for title in claim["rows"]:
            line = by_title.get(title, {"scores": {}})
            value = line["scores"].get(claim["score"])
            if value is not None:
                text = SCORES[claim["score"]].written(value, line["errors"].get(claim["score"]))
                measured.append(f"{title}: {text}")
        if measured:
            table.append([claim["claim"], claim["where"], claim["paper"], ", ".join(measured)])
    return table
