"""`python run.py draw icon | thumbnails | help`: draws the pictures that lie in the repository."""

import argparse
import importlib
import sys

import bootstrap

PICTURES = {
    "icon": "icon and banner of the registry",
    "thumbnails": "cards of the Templates browser",
    "help": "pictures of the help pages",
}


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="run.py draw", description=__doc__.split(": ", 1)[1], allow_abbrev=False)
    commands = parser.add_subparsers(dest="pictures", required=True)
    for name, text in PICTURES.items():
        commands.add_parser(name, help=text, add_help=False)
    options, rest = parser.parse_known_args(argv)
    bootstrap.host()
    bootstrap.called_from()
    importlib.import_module(f"safa_pack.tools.draw.{options.pictures}").main(rest)


main(sys.argv[1:])
