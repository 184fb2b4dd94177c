"""Options of `python run.py train`. Standard library only: --help answers before anything is installed."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".host" / "data" / "training"
OUT = ROOT / ".host" / "data" / "models" / "audio_models" / "my-pocket"
HELP = "Trains the pocket model: sounds, autoencoder, denoiser, and a folder with the result. Every stage resumes."


def arguments(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py train", description=HELP, allow_abbrev=False)
    parser.add_argument("--clips", type=_positive, default=7000, help="synthesised clips of 8 s")
    parser.add_argument("--vae-steps", type=_positive, default=2000)
    parser.add_argument("--steps", type=_positive, default=7000, help="of the denoiser")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so long; run again to go on")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for clips, checkpoints and the log")
    parser.add_argument("--out", type=Path, default=OUT, help="the finished model's folder")
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {number}")
    return number
