"""`python run.py draw icon | thumbnails | help | loop`: draws the pictures that lie in the repository."""

import argparse
import importlib
import sys
from pathlib import Path

import bootstrap

PICTURES = {
    "icon": "icon and banner of the registry",
    "thumbnails": "cards of the Templates browser",
    "help": "pictures of the help pages",
    "loop": "the sound and pictures that the README opens with",
}


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="run.py draw", description=__doc__.split(": ", 1)[1], allow_abbrev=False)
    commands = parser.add_subparsers(dest="pictures", required=True)
    for name, text in PICTURES.items():
        part = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        if name != "loop":
            part.add_argument("names", nargs="*", metavar="name", help="only these; a wrong one lists all")
    commands.choices["loop"].add_argument(
        "--demo", type=Path, metavar="FOLDER", help="what `run.py demo --compare` wrote (default: it is run)"
    )
    commands.choices["thumbnails"].add_argument("--out", type=Path, default=bootstrap.ROOT / "workflows")
    options = parser.parse_args(argv)
    bootstrap.host()
    bootstrap.called_from()
    importlib.import_module(f"safa_pack.tools.draw.{options.pictures}").main(options)


main(sys.argv[1:])
