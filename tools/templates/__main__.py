"""`python run.py templates`: the table of docs/templates.md, from running ComfyUI's own templates with SaFa in them."""

import argparse
import sys
import tempfile
from pathlib import Path

import bootstrap

COMFYUI = bootstrap.host()

from safa_pack.tests.host_templates.listed import TEMPLATES, Template  # noqa: E402
from safa_pack.tests.host_templates.runs import Outcome, TemplateServer, outcome  # noqa: E402
from safa_pack.tools.pages.files import put  # noqa: E402

PAGE = bootstrap.ROOT / "docs" / "templates.md"
HEAD = "| template | model | beside | loaded by | size | one view | two views |\n|---|---|---|---|---|---|---|"


def size(made: Outcome) -> str:
    return f"{made.size[0]} s" if len(made.size) == 1 else "{} x {}".format(*made.size)


def row(template: Template, made: Outcome) -> str:
    """One line of the table."""
    views = "–" if made.separate is None else f"{made.separate:.0e}"
    name = f"`{template.name}`"
    right = size(made) if made.size == made.expected else f"**{size(made)}, expected {made.expected}**"
    return (
        f"| {name} | {template.family} | {template.mix} | {template.loaded} | {right} | {made.one_view:g} | {views} |"
    )


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py templates", description=__doc__.split(": ", 1)[1], allow_abbrev=False)
    parser.parse_args(argv)
    rows = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with TemplateServer(COMFYUI, Path(folder), TEMPLATES) as server:
            for template in TEMPLATES:
                rows.append(row(template, outcome(server, template)))
                print(rows[-1], flush=True)
    table = "\n".join([HEAD, *rows])
    PAGE.write_text(put(PAGE.read_text(encoding="utf-8"), "table", table, "python run.py templates"), encoding="utf-8")
    return 0


sys.exit(main(sys.argv[1:]))
