"""What sounds of single events are made of: rings, bursts, rooms, and the words that describe them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .dsp import SAMPLE_RATE, finish, lowpass, unit


def samples(seconds: float) -> int:
    """How many they are."""
    return round(SAMPLE_RATE * seconds)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Uniform in its logarithm."""
    return float(low * (high / low) ** rng.random())


def word(value: float, below: float, above: float, low_word: str, high_word: str) -> str:
    """The adjective of an extreme value; none in between."""
    return low_word if value < below else high_word if value > above else ""


def caption(rng: np.random.Generator, forms: Sequence[str], **words: str) -> str:
    """One of the forms with its words; empty ones leave no gap."""
    return " ".join(str(rng.choice(forms)).format(**words).split())


def levelled(rng: np.random.Generator, wave: np.ndarray, crest: float = 20.0) -> np.ndarray:
    """Final level; rare spikes above crest times the RMS are rounded off, else they would push the rest too low."""
    wave = unit(wave)
    if np.max(np.abs(wave)) > 0.7 * crest:
        wave = crest * np.tanh(wave / crest)
    return finish(rng, wave, rng.uniform(-32, -18))


def ring(hz: np.ndarray, t60: np.ndarray, amplitude: np.ndarray, phase: np.ndarray, n: int) -> np.ndarray:
    """Sum of decaying cosines, n samples; t60 in seconds. One matrix product: coarse steps times fine steps."""
    block = 256
    rate = (-6.908 / np.asarray(t60) + 2j * np.pi * np.asarray(hz)) / SAMPLE_RATE
    rate = np.broadcast_to(rate, np.shape(hz))[:, None]
    coarse = np.exp(rate * (block * np.arange(-(-n // block))) + 1j * np.asarray(phase)[:, None])
    coarse = coarse * np.broadcast_to(amplitude, np.shape(hz))[:, None]
    fine = np.exp(rate * np.arange(block))
    # Phases need double precision, their cosines do not.
    left = np.concatenate([coarse.real, -coarse.imag]).astype(np.float32)
    right = np.concatenate([fine.real, fine.imag]).astype(np.float32)
    return (left.T @ right).ravel()[:n]


def add(wave: np.ndarray, piece: np.ndarray, start: int, gain: float = 1.0) -> None:
    """Mixes a piece in at a start that may lie before the clip or run past its end."""
    first, last = max(start, 0), min(start + len(piece), len(wave))
    if last > first:
        wave[first:last] += gain * piece[first - start : last - start]


def burst(rng: np.random.Generator, n: int, rise_seconds: float, decay_seconds: float) -> np.ndarray:
    """White noise with a linear rise and an exponential decay."""
    t = np.arange(n) / SAMPLE_RATE
    return rng.standard_normal(n) * np.minimum(t / rise_seconds, 1) * np.exp(-t / decay_seconds)


def room(rng: np.random.Generator, piece: np.ndarray, t60: float, wet: float) -> np.ndarray:
    """A piece with a diffuse tail of t60 seconds appended, wet relative to the direct sound's energy."""
    n = int(t60 * SAMPLE_RATE)
    tail = burst(rng, n, 0.01, t60 / 6.9)
    tail = lowpass(tail, 2500)
    size = len(piece) + n
    bins = 1 << (size - 1).bit_length()
    late = np.fft.irfft(np.fft.rfft(piece, bins) * np.fft.rfft(tail, bins), bins)[:size]
    late *= wet * np.sqrt(np.sum(piece**2) / max(np.sum(late**2), 1e-12))
    late[: len(piece)] += piece
    return late
