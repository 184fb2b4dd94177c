"""Captioned sounds of thunder and of boats at a pier: each generator returns a 24 kHz mono wave and its caption."""

from __future__ import annotations

import numpy as np

from .dsp import SAMPLE_RATE, bandpass, decibels, lowpass, noise, resonator, smooth_random, unit
from .strokes import add, burst, caption, levelled, log_uniform, room, samples, word


def _clap(rng: np.random.Generator, near: float) -> np.ndarray:
    """One clap: the crack of the channel's nearest part, then its far parts, later and duller, rolling for seconds."""
    length = rng.uniform(3.5, 7.0)
    n = samples(length)
    t = np.arange(n) / SAMPLE_RATE
    arrivals = np.sort(rng.exponential(length / 5, rng.integers(8, 22)))
    rolling = np.zeros(n)
    for at in arrivals:
        rise, fall = rng.uniform(0.02, 0.15), rng.uniform(0.2, 0.9)
        x = np.maximum(t - at, 0)
        rolling += rng.uniform(0.2, 1.0) * np.minimum(x / rise, 1) * np.exp(-x / fall) * np.exp(-0.5 * at)
    body = noise(rng, n, -7, low=25, high=120 * 4**near) * rolling
    body += noise(rng, n, -5, low=80, high=500 * 4**near) * rolling**1.5 * decibels(-16 + 10 * near)
    if near > 0.5:
        crack = np.zeros(n)
        for at in rng.exponential(0.06, rng.integers(4, 10)):
            add(crack, burst(rng, samples(0.25), 0.001, rng.uniform(0.02, 0.07)), samples(at), rng.uniform(0.3, 1.0))
        body = unit(body) + near * unit(lowpass(crack, 2500 + 5000 * near)) * 0.5
    return body


def thunder(rng: np.random.Generator, seconds: float) -> tuple[np.ndarray, str]:
    """Thunder: claps that crack where they are near and roll for seconds, over the faint noise of a storm."""
    n = samples(seconds)
    near = rng.uniform()
    wave = np.zeros(n)
    at = rng.uniform(-3.0, 0.4)
    while at < seconds - 0.5:
        add(wave, unit(_clap(rng, np.clip(near + rng.normal(0, 0.15), 0, 1))), samples(at), rng.uniform(0.5, 1.0))
        at += rng.uniform(2.5, 6.0)
    storm = noise(rng, n, -2, low=300, high=rng.uniform(4000, 9000)) * decibels(rng.uniform(-40, -26))
    forms = (
        "{far} thunder",
        "{far} thunder rumbling" if near < 0.5 else "{far} thunder cracking",
        "a {far} thunderstorm",
        "{far} rolling thunder",
    )
    words = {"far": word(near, 0.35, 0.65, "distant", "loud")}
    return levelled(rng, unit(wave) + storm), caption(rng, forms, **words)


def _creak(rng: np.random.Generator) -> np.ndarray:
    """Wood under a slow strain: stick and slip at 20 to 90 jerks a second, through the modes of a plank."""
    n = samples(rng.uniform(0.3, 1.4))
    t = np.arange(n) / SAMPLE_RATE
    rate = rng.uniform(20, 60) * (1 + rng.uniform(-0.4, 0.9) * t / t[-1])
    turns = np.cumsum(rate * (1 + 0.1 * smooth_random(rng, n, 6.0))) / SAMPLE_RATE
    jerks = np.diff(np.floor(turns), prepend=0.0) * rng.uniform(0.4, 1.0, n)
    modes = log_uniform(rng, 250, 600) * np.array([1, 1.8, 3.1])
    body = sum(resonator(jerks, hz, rng.uniform(0.004, 0.012)) for hz in modes)
    return unit(body) * np.sin(np.pi * np.arange(n) / n) ** 0.7


def harbour(rng: np.random.Generator, seconds: float) -> tuple[np.ndarray, str]:
    """A harbour: small waves that slap against hulls, creaking wood and ropes, now and then a far bell or a gull."""
    n = samples(seconds)
    lap = np.exp(0.9 * smooth_random(rng, n, rng.uniform(0.5, 1.2)))
    wave = noise(rng, n, -5, low=120, high=rng.uniform(700, 1800)) * lap
    wave += noise(rng, n, -3, low=900, high=7000) * lap**1.6 * decibels(rng.uniform(-22, -12))
    wave = unit(wave)
    wood = np.zeros(n)
    for _ in range(rng.poisson(0.55 * seconds) + 1):
        add(wood, _creak(rng), samples(rng.uniform(-1, seconds)), rng.uniform(0.3, 1.0))
    wave += room(rng, wood, 0.3, 0.2)[:n] * decibels(rng.uniform(-6, 3))
    if rng.random() < 0.4:
        for _ in range(rng.poisson(0.3 * seconds)):
            add(wave, _gull(rng), samples(rng.uniform(0, seconds)), decibels(rng.uniform(-8, 0)))
    forms = (
        "a {size} harbour",
        "boats creaking in a {size} harbour",
        "a {size} wooden boat in the harbour",
        "water lapping in a {size} harbour",
    )
    words = {"size": str(rng.choice(["", "quiet", "small", "old", "calm"]))}
    return levelled(rng, wave), caption(rng, forms, **words)


def _gull(rng: np.random.Generator) -> np.ndarray:
    """Cries of a gull: two to six falling calls with strong overtones."""
    base = rng.uniform(900, 1500)
    calls = []
    for _ in range(rng.integers(2, 7)):
        n = samples(rng.uniform(0.15, 0.45))
        x = np.arange(n) / n
        hz = base * (1 + 0.35 * np.sin(np.pi * x**0.5) - 0.3 * x) * rng.uniform(0.95, 1.05)
        phase = 2 * np.pi * np.cumsum(hz) / SAMPLE_RATE
        voice = sum(np.sin(k * phase) / k for k in range(1, 6))
        calls += [voice * np.sin(np.pi * x) ** 0.6, np.zeros(samples(rng.uniform(0.05, 0.15)))]
    return room(rng, bandpass(np.concatenate(calls), 700, 6000), 0.8, 0.5)
