"""Small signal helpers shared by the sound generators: all waves are mono, 24 kHz, vectorised."""

from __future__ import annotations

import numpy as np
from scipy import fft, signal

SAMPLE_RATE = 24000
FLOOR_DB = -62.0
PEAK = 0.95


def noise(
    rng: np.random.Generator, n: int, slope_db_per_octave: float = 0.0, low: float = 20, high: float = 12000
) -> np.ndarray:
    """Gaussian noise of unit RMS, n samples, band low..high Hz, falling or rising by a slope in dB per octave."""
    size = fft.next_fast_len(max(n, 1024), real=True)
    hz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE).astype(np.float32)
    hz[0] = hz[1]
    # Soft (order 3) edges: brick walls ring and show as hard lines in a spectrogram.
    gain = (hz / 1000) ** (slope_db_per_octave / 6.0206) / np.sqrt(1 + (low / hz) ** 6)
    if high < SAMPLE_RATE / 2:
        gain /= np.sqrt(1 + (hz / high) ** 6)
    spectrum = fft.rfft(rng.standard_normal(size, dtype=np.float32)) * gain.astype(np.float32)
    wave = fft.irfft(spectrum, size)[:n]
    return wave / max(float(np.sqrt(np.mean(wave**2))), 1e-9)


def smooth_random(rng: np.random.Generator, n: int, rate_hz: float) -> np.ndarray:
    """A stationary gaussian process of unit variance, n samples, changing about rate_hz times a second."""
    step = SAMPLE_RATE / (16 * rate_hz)
    taps = np.exp(-0.5 * (np.arange(-24, 25) / 5.0) ** 2)
    taps /= np.sqrt(np.sum(taps**2))
    points = np.convolve(rng.standard_normal(int(n / step) + 3 + 48), taps, "valid")
    return np.interp(np.arange(n) / step, np.arange(len(points)), points)


def poisson_starts(rng: np.random.Generator, n: int, rate_hz: float, lead_seconds: float = 0.0) -> np.ndarray:
    """Start samples of Poisson events; a lead lets some begin before the clip so that it does not fade in."""
    lead = int(lead_seconds * SAMPLE_RATE)
    count = rng.poisson(rate_hz * (n + lead) / SAMPLE_RATE)
    return rng.integers(-lead, n, count)


def impulses(n: int, starts: np.ndarray, amplitudes: np.ndarray) -> np.ndarray:
    """A train of single-sample impulses, n samples, to be sent through filters."""
    inside = (starts >= 0) & (starts < n)
    return np.bincount(starts[inside], weights=amplitudes[inside], minlength=n)


def pulses_to_wave(
    n: int, starts: np.ndarray, amplitudes: np.ndarray, kernels: np.ndarray, which: np.ndarray | None = None
) -> np.ndarray:
    """Sum of short events: kernels is (count, length); event i plays kernels[which[i]] (default i) at starts[i]."""
    waves = kernels if which is None else kernels[which]
    waves = waves * amplitudes[:, None]
    length = kernels.shape[1]
    # Events may begin before the clip or run past its end: the sum is made on a longer line and cut.
    at = np.clip(starts, -length, n)[:, None] + np.arange(length, 2 * length)
    return np.bincount(at.ravel(), weights=waves.ravel(), minlength=n + 2 * length)[length : length + n]


def resonator(x: np.ndarray, hz: float, decay_seconds: float) -> np.ndarray:
    """Two-pole filter whose impulse response is sin(2 pi hz t) exp(-t / decay_seconds)."""
    radius = np.exp(-1 / (decay_seconds * SAMPLE_RATE))
    angle = 2 * np.pi * hz / SAMPLE_RATE
    return signal.lfilter([0, radius * np.sin(angle)], [1, -2 * radius * np.cos(angle), radius**2], x)


def bandpass(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Second-order Butterworth band low..high Hz."""
    return signal.sosfilt(signal.butter(2, [low, high], "bandpass", fs=SAMPLE_RATE, output="sos"), x)


def lowpass(x: np.ndarray, hz: float, order: int = 1) -> np.ndarray:
    """Butterworth low pass; also smooths envelopes."""
    return signal.sosfilt(signal.butter(order, hz, fs=SAMPLE_RATE, output="sos"), x)


def unit(x: np.ndarray) -> np.ndarray:
    """The wave scaled to unit RMS."""
    return x / max(float(np.sqrt(np.mean(np.square(x)))), 1e-9)


def decibels(db: float) -> float:
    """Amplitude factor of a level in dB."""
    return 10 ** (db / 20)


def finish(rng: np.random.Generator, wave: np.ndarray, level_db: float) -> np.ndarray:
    """Float32 wave at level_db dBFS RMS over a faint room noise, scaled down where its peak would pass 0.95."""
    wave = unit(wave - np.mean(wave)) * decibels(level_db)
    wave = wave + noise(rng, len(wave), -3.0) * decibels(FLOOR_DB)
    peak = float(np.max(np.abs(wave)))
    return (wave * min(1.0, PEAK / max(peak, 1e-9))).astype(np.float32)
