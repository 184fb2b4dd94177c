"""What a person may ask of the demo, and what is refused before anything starts. Standard library only."""

import argparse
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .pocket import check_model

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "models" / "safa-pocket"
WORKFLOW = ROOT / "workflows" / "A first loop, no download - seamless rain.json"
METHODS = ("safa", "average", "triangular")
WINDOW, SHORTEST, LONGEST = 5.12, 6.0, 600.0  # seconds: the model's own window, and what the demo makes of it
MOST_STEPS = 1000  # as many timesteps as the model was trained with
NEEDED_SPACE = 200 * 1024**2  # bytes; ten minutes of 24-bit sound with every method, and the pictures


@dataclass(frozen=True)
class Options:
    """Checked. prompt, seed, steps: None leaves the workflow's own. seconds: of the sound. out: a folder, absolute.

    compare: whether the other methods make it too.
    """

    prompt: str | None
    seconds: float
    loop: bool
    method: str
    seed: int | None
    steps: int | None
    compare: bool
    out: Path


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ValueError(message[:1].upper() + message[1:] + "; --help lists what there is.")


def parse(argv: list[str]) -> Options:
    """Options of a command line, the model and the output folder checked too (ValueError, one sentence)."""
    text = "Makes a loop with the pocket model; --compare shows it beside two other ways of joining its windows."
    parser = _Parser(prog="run.py demo", description=text, allow_abbrev=False)
    parser.add_argument("--prompt", metavar="TEXT", help="what it shall sound like (default: the workflow's)")
    parser.add_argument("--seconds", default="24", help=f"{SHORTEST:g} to {LONGEST:g} (default: 24)")
    parser.add_argument("--no-loop", dest="loop", action="store_false", help="sound with a beginning and an end")
    parser.add_argument("--method", default="safa", help="{} (default: safa)".format(", ".join(METHODS)))
    parser.add_argument("--seed", help="another number, another sound (default: the workflow's)")
    parser.add_argument("--steps", help="denoising steps: more take longer (default: the workflow's)")
    parser.add_argument(
        "--compare", action="store_true", help="make it with every method, one above the other in compare.png"
    )
    parser.add_argument("--out", default="safa-demo", metavar="FOLDER", help="(default: safa-demo)")
    given = parser.parse_args(argv)
    if given.prompt is not None and not given.prompt.strip():
        raise ValueError('Expected --prompt to name a sound, such as "rain with distant bells", got an empty one.')
    if given.method not in METHODS:
        raise ValueError(f"Expected --method to be one of {', '.join(METHODS)}, got {given.method}.")
    seconds = _seconds(given.seconds)
    seed = _whole("--seed", given.seed, 0, 2**64 - 1)
    steps = _whole("--steps", given.steps, 1, MOST_STEPS)
    check_model(MODEL)
    return Options(given.prompt, seconds, given.loop, given.method, seed, steps, given.compare, _folder(given.out))


def options_or_exit(argv: list[str]) -> Options:
    """`parse` for a program: what is wrong ends it with one sentence and exit code 1."""
    try:
        return parse(argv)
    except ValueError as error:
        sys.exit(f"run.py: {error}")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not SHORTEST <= value <= LONGEST:
        raise ValueError(
            f"Expected --seconds from {SHORTEST:g} to {LONGEST:g}, got {text}: a loop needs more than the model's own "
            f"window of {WINDOW:g} s; the workflow in ComfyUI makes an hour, too."
        )
    return value


def _whole(name: str, text: str | None, low: int, high: int) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
        raise ValueError(f"Expected {name} to be a whole number from {low} to {high}, got {text}.")
    return int(text)


def _folder(name: str) -> Path:
    """The absolute output folder, if files can be made there; it need not exist yet."""
    folder = Path(os.path.abspath(os.path.expanduser(name)))
    existing = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not existing.is_dir():
        raise ValueError(f"Expected --out to be a folder, but {existing} is a file; name another.")
    try:
        with tempfile.TemporaryDirectory(dir=existing, prefix=".safa-demo-"):
            pass
        free = shutil.disk_usage(existing).free
    except OSError as error:
        raise ValueError(f"Nothing can be written in {existing} ({error.strerror}); name another --out.") from None
    if free < NEEDED_SPACE:
        raise ValueError(f"Only {free // 2**20} MB are free in {existing}: free some space or name another --out.")
    return folder
