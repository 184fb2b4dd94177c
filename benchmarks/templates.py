"""ComfyUI's own templates with SaFa in them, run in a real server with tiny models: the table of docs/templates.md.

    python run.py bench templates [NAME ...] [--write]

NAME      parts of names; without one all templates run
--write   put the table into docs/templates.md
"""

import tempfile
from pathlib import Path

from ..bootstrap import ROOT, host
from .common import parser

PAGE = ROOT / "docs" / "templates.md"
BEGIN, END = "<!-- table: python run.py bench templates --write -->", "<!-- end of table -->"
HEAD = "| template | model | with | loaded | size | one view | two views |\n|---|---|---|---|---|---|---|"


def size(made) -> str:
    """Of a picture in pixels, or of sound in seconds."""
    return f"{made[0]:.1f} s" if len(made) == 1 else "{} x {}".format(*made)


def figure(difference) -> str:
    """A difference, 0 where there is none at all, – where it cannot be said."""
    if difference is None:
        return "–"
    return f"{difference:.0e}" if difference else "0"


def row(template, outcome) -> str:
    """One line of the table."""
    cells = [f"`{template.name}`" if template.graph is None else template.name, template.family, template.mix]
    cells += [template.loaded, size(outcome.size)]
    if outcome.size != outcome.expected:
        cells[-1] += f", expected {size(outcome.expected)}"
    cells += [figure(outcome.one_view), figure(outcome.separate)]
    return f"| {' | '.join(cells)} |"


def put(page: str, table: str) -> str:
    """The page with another table between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def main(argv: list[str]) -> None:
    command = parser("templates", __doc__)
    command.add_argument("names", nargs="*", metavar="NAME", help="parts of the names of those that run")
    command.add_argument("--write", action="store_true", help="put the table into docs/templates.md")
    options = command.parse_args(argv)
    comfyui = host()
    from safa_pack.tests.host_templates.listed import TEMPLATES
    from safa_pack.tests.host_templates.runs import TemplateServer, outcome

    chosen = [each for each in TEMPLATES if not options.names or any(name in each.name for name in options.names)]
    table = HEAD
    print(HEAD)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with TemplateServer(comfyui, Path(folder), chosen) as server:
            for template in chosen:
                line = row(template, outcome(server, template))
                table += f"\n{line}"
                print(line, flush=True)
    if options.write:
        PAGE.write_text(put(PAGE.read_text(encoding="utf-8"), table), encoding="utf-8")
