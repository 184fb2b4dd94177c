"""Synthesised, captioned sounds: 24 kHz mono, each class a function (rng, seconds) -> (wave, caption)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .dsp import SAMPLE_RATE, finish
from .events import birds, clock, crickets
from .footsteps import footsteps
from .notes import bells, drum, pad
from .textures import crowd, engine, fire, rain, stream, waves, wind
from .weather import harbour, thunder

SOUNDS = {
    made.__name__: made
    for made in (
        rain, wind, waves, stream, fire, crowd, engine,
        crickets, birds, clock, bells, pad, drum, footsteps, thunder, harbour,
    )
}  # fmt: skip
CLASSES = tuple(SOUNDS)
# A mixture is a steady bed with something that stands out of it
BEDS = ("rain", "wind", "waves", "stream", "fire", "crowd", "engine", "harbour")
GUESTS = ("crickets", "birds", "clock", "bells", "pad", "drum", "footsteps", "thunder")
STREAMS = ("training", "classifier", "held-out")  # of random numbers, so that no two of them share a clip


@dataclass(frozen=True)
class Clip:
    """A sound [round(seconds * 24000)], its caption, and the classes heard in it."""

    wave: np.ndarray
    caption: str
    classes: tuple[str, ...]


def clip(stream: str, number: int, seconds: float, mixtures: float = 0.0) -> Clip:
    """The clip of this number in a stream: always the same sound, of all classes in turn.

    mixtures: the share of clips that are a bed with a guest instead of one class.
    """
    rng = np.random.default_rng([STREAMS.index(stream), number])
    if rng.random() < mixtures:
        return _mixture(rng, seconds)
    name = CLASSES[number % len(CLASSES)]
    wave, caption = SOUNDS[name](rng, seconds)
    return Clip(wave, caption, (name,))


def _mixture(rng: np.random.Generator, seconds: float) -> Clip:
    bed, guest = BEDS[rng.integers(len(BEDS))], GUESTS[rng.integers(len(GUESTS))]
    below, above = SOUNDS[bed](rng, seconds), SOUNDS[guest](rng, seconds)
    distant = rng.random() < 0.4
    ratio_db = rng.uniform(-6, -2) if distant else rng.uniform(0, 6)  # of the guest, as rms
    scaled = [wave / np.sqrt(np.mean(wave**2)) for wave, _ in (below, above)]
    wave = scaled[0] + scaled[1] * 10 ** (ratio_db / 20)
    joint = ("with distant " if distant else "with ", "and distant " if distant else "and ")[rng.integers(2)]
    caption = f"{below[1]} {joint}{above[1].removeprefix('a ')}"
    return Clip(finish(rng, wave, rng.uniform(-30, -18)), caption, (bed, guest))


__all__ = ["CLASSES", "SAMPLE_RATE", "SOUNDS", "Clip", "clip"]
