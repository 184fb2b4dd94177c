"""Captioned footsteps: the generator returns a 24 kHz mono wave and its caption."""

from __future__ import annotations

import numpy as np

from .dsp import SAMPLE_RATE, bandpass, resonator, unit
from .strokes import add, caption, levelled, log_uniform, room, samples, word


def _crunch(rng: np.random.Generator, n: int, envelope: np.ndarray, grains_per_second: float) -> np.ndarray:
    """Sparse clicks of heavy-tailed size, dense where the envelope is high: grains breaking under a weight."""
    hit = rng.random(n) < envelope * grains_per_second / SAMPLE_RATE
    return hit * rng.standard_normal(n) * rng.exponential(1.0, n) * np.sqrt(envelope)


def _press(t: np.ndarray, begin: float, peak: float, decay: float) -> np.ndarray:
    """A push of the foot that begins, peaks and eases off, in seconds, of height 1."""
    x = np.maximum(t - begin, 0)
    return np.minimum(x / peak, 1) * np.exp(-np.maximum(x - peak, 0) / decay)


def _step(rng, ground: str, t, toe: float, fall, drive, scuff, start: int, force: float) -> None:
    """One step at a sample of the lines `drive` and `scuff`: what heel and, `toe` seconds later, toe do there."""
    size = len(t)
    if ground == "gravel":
        push = _press(t, 0, 0.012, 0.03) + rng.uniform(0.6, 1.1) * _press(t, toe, 0.03, rng.uniform(0.04, 0.08))
        add(drive, _crunch(rng, size, push * fall, rng.uniform(900, 1700)), start, force)
    elif ground == "snow":
        push = _press(t, 0, 0.03, 0.035) * 0.7 + _press(t, toe * 0.8, 0.06, rng.uniform(0.025, 0.05))
        # Snow packs in tiny stick and slip jerks, which give the squeeze its creak.
        jerk = 0.2 + 0.8 * np.sin(np.pi * rng.uniform(70, 130) * t * (1 + 0.6 * t)) ** 2
        add(drive, _crunch(rng, size, push * jerk * fall, 6000), start, force)
    else:
        strike = _press(t, 0, 0.001, 0.002) + rng.uniform(0.3, 0.6) * _press(t, toe, 0.002, 0.003)
        add(drive, strike * rng.standard_normal(size), start, force)
        add(scuff, rng.standard_normal(size) * _press(t, toe * 0.6, 0.04, 0.05) * fall, start, force)


def _heard(rng, ground: str, colour: float, heavy: float, drive, scuff) -> tuple[np.ndarray, float]:
    """The ground's answer to both lines, and how loud the thump of the foot is beside it."""
    if ground == "gravel":
        wave = unit(bandpass(drive, 900 * colour, 5200 * colour)) + 0.5 * unit(
            bandpass(drive, 1400 * colour, 2600 * colour)
        )
        return wave, 0.2 + 0.5 * heavy
    if ground == "snow":
        wave = unit(bandpass(drive, 350 * colour, 1700 * colour)) + 0.35 * unit(
            bandpass(drive, 800 * colour, 1500 * colour)
        )
        return wave, 0.1 + 0.25 * heavy
    wave = unit(bandpass(drive, 1200 * colour, 5000 * colour)) * 0.5
    wave += rng.uniform(0.15, 0.4) * unit(bandpass(scuff, 1500 * colour, 5000 * colour))
    board = np.zeros(len(drive))
    first = log_uniform(rng, 170, 300)
    for ratio in np.array([1, 1.7, 2.6, 3.9, 5.2]) * rng.uniform(0.9, 1.1, 5):
        board += rng.uniform(0.5, 1) * resonator(drive, first * ratio, 0.016 * ratio**-0.5)
    wave += unit(board)
    wave = room(rng, wave, rng.uniform(0.15, 0.5), rng.uniform(0.08, 0.25))[: len(drive)]
    return wave, 0.2 + 0.4 * heavy


def footsteps(rng: np.random.Generator, seconds: float) -> tuple[np.ndarray, str]:
    """Heel and toe of 1.4-2.2 steps per second: granular gravel, dull squeezed snow, or knocking scuffed wood."""
    n = samples(seconds)
    ground = str(rng.choice(["gravel", "wood", "snow"]))
    rate = rng.uniform(1.4, 2.2)
    heavy = rng.random()
    roll = rng.uniform(0.09, 0.17) * 1.8 / rate
    size = int(0.5 * SAMPLE_RATE)
    t = np.arange(size) / SAMPLE_RATE
    fall = np.minimum((size - np.arange(size)) / 1000, 1)
    colour = log_uniform(rng, 0.75, 1.35)
    thump = np.exp(-t / 0.025) * np.sin(2 * np.pi * log_uniform(rng, 55, 95) * t) * fall
    # Every step writes its drive (grains, knocks) and its scuff; the ground's filters then run once. The line begins
    # before the clip, so that steps and filters are in full swing at its start.
    lead = size
    drive, scuff, low = np.zeros((3, n + lead))
    at = -rng.random() / rate
    k = 0
    while at < seconds:
        toe = roll * rng.uniform(0.85, 1.15)
        start = lead + round(at * SAMPLE_RATE)
        # Left and right shoe differ a little, and no two steps weigh the same.
        force = (1.0 if k % 2 else 0.9) * rng.uniform(0.75, 1.1)
        _step(rng, ground, t, toe, fall, drive, scuff, start, force)
        add(low, thump, start, force)
        at += rng.normal(1, 0.035) / rate
        k += 1
    wave, weight = _heard(rng, ground, colour, heavy, drive, scuff)
    wave = (wave + weight * unit(low))[lead:]
    forms = (
        "{rate} footsteps on {ground}",
        "{heavy} footsteps on {ground}",
        "{rate} {heavy} footsteps on {ground}",
        "footsteps walking on {ground}",
        "{rate} walking footsteps in {ground}" if ground == "snow" else "{rate} walking footsteps on {ground}",
    )
    words = {
        "rate": word(rate, 1.6, 1.95, "slow", "fast"),
        "heavy": word(heavy, 0.3, 0.7, "soft", "heavy"),
        "ground": ground,
    }
    return levelled(rng, wave, crest=12), caption(rng, forms, **words)
