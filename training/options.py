"""Options of `python run.py train`. Standard library only: --help answers before anything is installed."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MIRROR = "https://deb.debian.org/debian"
WORK = ROOT / ".host" / "data" / "training"
OUT = ROOT / ".host" / "data" / "models" / "audio_models" / "my-pocket"
HELP = (
    "Trains the pocket model: recordings out of Debian's packages (2.2 GB, fetched once), synthesised sounds, "
    "autoencoder, denoiser, and a folder with the result. Every stage resumes."
)


def arguments(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py train", description=HELP, allow_abbrev=False)
    parser.add_argument("--clips", type=_positive, default=4800, help="clips of 8 s")
    parser.add_argument("--vae-steps", type=_positive, default=600)
    parser.add_argument("--steps", type=_positive, default=8000, help="of the denoiser")
    parser.add_argument("--vocoder-steps", type=_count, default=0, help="0: no vocoder, Griffin-Lim makes the sound")
    parser.add_argument("--no-recordings", action="store_true", help="synthesised sounds alone, nothing is fetched")
    parser.add_argument("--begin", type=Path, metavar="FOLDER", help="of a model of this layout to go on from")
    parser.add_argument("--mirror", default=MIRROR, help=f"of Debian 12 ({MIRROR})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so long; run again to go on")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for clips, checkpoints and the log")
    parser.add_argument("--out", type=Path, default=OUT, help="the finished model's folder")
    nearest = "instead of training: the clip that each of these sounds (wav, flac, ogg) is most like"
    parser.add_argument("--nearest", type=Path, nargs="+", metavar="SOUND", help=nearest)
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {number}")
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, got {number}")
    return number
