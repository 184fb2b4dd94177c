"""From recordings to clips: other speeds, filters, distances and levels; loops and events that fill the seconds."""

from __future__ import annotations

import numpy as np
from scipy import signal

from .kinds import CLOSE, DISTANT, LOUD, QUIET
from .sounds import SAMPLE_RATE
from .sounds.dsp import noise, unit
from .sounds.strokes import add, burst

LEVEL = -24.0  # dBFS rms of a clip whose caption says nothing of its level
PEAK = 0.9
CROSS = 0.25  # seconds of a cross-fade
REPEATED = ("drum", "footsteps")  # files that are loops of their own rhythm: repeated, not cross-faded


def at_speed(wave: np.ndarray, speed: float) -> np.ndarray:
    """Played `speed` times as fast, pitch and all."""
    return signal.resample(wave, max(2, round(len(wave) / speed)))


def excerpt(
    rng: np.random.Generator, wave: np.ndarray, seconds: float, repeated: bool = False, tries: int = 2
) -> np.ndarray:
    """`seconds` of a recording from a random place on, the loudest of some; a short one goes round.

    repeated: it is a loop already; else its end is cross-faded into its start.
    """
    n = round(seconds * SAMPLE_RATE)
    if len(wave) >= n:
        starts = rng.integers(0, len(wave) - n + 1, tries)
        pieces = [wave[s : s + n] for s in starts]
        return max(pieces, key=lambda piece: float(np.square(piece).mean()))
    ring = wave if repeated else _closed(wave)
    start = int(rng.integers(len(ring)))
    return np.take(ring, np.arange(start, start + n), mode="wrap")


def _closed(wave: np.ndarray) -> np.ndarray:
    """A ring: the end faded into the start, by equal power."""
    fade = min(round(CROSS * SAMPLE_RATE), len(wave) // 3)
    x = np.linspace(0, np.pi / 2, fade)
    ring = wave[: len(wave) - fade].copy()
    ring[:fade] = ring[:fade] * np.sin(x) + wave[len(wave) - fade :] * np.cos(x)
    return ring


def scattered(rng: np.random.Generator, waves: list[np.ndarray], seconds: float, gap: float) -> np.ndarray:
    """Events at about every `gap` seconds, some begun before the clip."""
    wave = np.zeros(round(seconds * SAMPLE_RATE))
    at = rng.uniform(-0.7 * gap, 0.3 * gap)
    while at < seconds - 0.3:
        event = waves[rng.integers(len(waves))]
        add(wave, event, round(at * SAMPLE_RATE), rng.uniform(0.5, 1.0))
        at += gap * rng.uniform(0.6, 1.4)
    return wave


def filtered(rng: np.random.Generator, wave: np.ndarray, octave_db: float) -> np.ndarray:
    """Tilted by up to `octave_db` per octave around 1 kHz, and with a soft bump or dip somewhere."""
    spectrum = np.fft.rfft(wave)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE), 30) / 1000)
    db = rng.uniform(-octave_db, octave_db) * octaves.clip(-4, 3.5)
    db += rng.uniform(-5, 5) * np.exp(-0.5 * ((octaves - rng.uniform(-3, 3)) / rng.uniform(0.4, 1.2)) ** 2)
    return np.fft.irfft(spectrum * 10 ** (db / 20), len(wave))


def at_distance(rng: np.random.Generator, wave: np.ndarray) -> np.ndarray:
    """Heard from afar: the air and the ground swallow the high frequencies, and echoes blur it."""
    far = signal.sosfilt(signal.butter(1, rng.uniform(900, 2200), fs=SAMPLE_RATE, output="sos"), wave)
    t60 = rng.uniform(0.6, 1.8)
    tail = burst(rng, round(t60 * SAMPLE_RATE), 0.02, t60 / 6.9)
    late = signal.fftconvolve(far, tail)[: len(wave)]
    return unit(far) + unit(late) * rng.uniform(0.5, 1.2)


def placed(
    rng: np.random.Generator, wave: np.ndarray, plain: float = 0.55
) -> tuple[np.ndarray, float, tuple[str, ...]]:
    """(wave, its level in dBFS, the words that are true of it): near or far, quiet or loud, most often nothing.

    plain: the share of clips that are left as they are.
    """
    choice = rng.random()
    level = LEVEL + rng.uniform(-1.0, 1.0)
    if choice < plain:
        return wave, level, ()
    part = (choice - plain) / (1 - plain)
    if part < 0.3:
        return at_distance(rng, wave), level - rng.uniform(5, 8), (str(rng.choice(DISTANT)),)
    if part < 0.4:
        return wave, level + rng.uniform(3, 5), (str(rng.choice(CLOSE)),)
    if part < 0.7:
        return wave, level - rng.uniform(7, 11), (str(rng.choice(QUIET)),)
    return wave, level + rng.uniform(5, 7), (str(rng.choice(LOUD)),)


def levelled(rng: np.random.Generator, wave: np.ndarray, level_db: float) -> np.ndarray:
    """float32 at level_db dBFS rms over a faint noise; its spikes are rounded off by at most 3 dB, to a peak of 0.9.

    What is made of spikes, as a clock is, stays below that level.
    """
    wave = unit(wave - np.mean(wave))
    wave *= min(10 ** (level_db / 20), 1.4 * PEAK / np.max(np.abs(wave)))
    knee = 0.6 * PEAK
    over = np.abs(wave) > knee
    wave[over] = np.sign(wave[over]) * (knee + (PEAK - knee) * np.tanh((np.abs(wave[over]) - knee) / (PEAK - knee)))
    floor = noise(rng, len(wave), -2.0) * 10 ** (-68 / 20)
    return (wave + floor).clip(-PEAK, PEAK).astype(np.float32)
