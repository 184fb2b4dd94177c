"""Captioned sounds made of recurring events: each generator returns a 24 kHz mono wave and its caption."""

from __future__ import annotations

import numpy as np

from .dsp import SAMPLE_RATE, bandpass, decibels, lowpass, smooth_random, unit
from .strokes import add, caption, levelled, log_uniform, ring, room, samples, word


def crickets(rng: np.random.Generator, seconds: float) -> tuple[np.ndarray, str]:
    """One to four crickets: carriers at 3-6 kHz keyed by pulses of 15-30 ms, in chirps or as a long trill."""
    n = samples(seconds)
    t = np.arange(n) / SAMPLE_RATE
    carrier = log_uniform(rng, 2900, 5800)
    chirp_rate = log_uniform(rng, 1.3, 4.5)
    trill = rng.random() < 0.25
    count = int(rng.choice([1, 2, 3, 4], p=[0.4, 0.25, 0.2, 0.15]))
    wave = np.zeros(n)
    for k in range(count):
        hz = carrier * (1 if k == 0 else rng.uniform(0.88, 1.13))
        pulse_rate = rng.uniform(24, 45)
        # Temperature and fatigue: the rhythm wanders a little.
        beat = rng.random() * 50 + chirp_rate * rng.uniform(0.93, 1.07) * t + 0.05 * smooth_random(rng, n, 0.7)
        if trill:
            pulse = pulse_rate * t + rng.random()
            gate = 1 + 0.25 * smooth_random(rng, n, 2.0)
        else:
            pulses = int(np.clip(round(pulse_rate / chirp_rate * rng.uniform(0.3, 0.6)), 2, 9))
            pulse = (beat % 1) * pulse_rate / chirp_rate
            gate = (pulse < pulses) * (0.55 + 0.45 * np.minimum((pulse + 0.5) / 2, 1))
            level = rng.uniform(0.75, 1, int(np.max(beat)) + 2)
            gate = gate * level[beat.astype(int)]
        duty = rng.uniform(0.5, 0.75)
        inside = np.minimum(pulse % 1 / duty, 1).astype(np.float32)
        envelope = np.maximum(gate, 0) * np.sin(np.float32(np.pi) * inside) ** 2
        # Each stroke of the wing falls slightly in pitch.
        turns = hz * t - hz * 0.012 / pulse_rate * duty * inside**2
        phase = (2 * np.pi * (turns % 1)).astype(np.float32)
        voice = np.sin(phase)
        if hz < 3900:
            voice *= 1 + rng.uniform(0.04, 0.24) * np.cos(phase)
        add(wave, voice * envelope, 0, 1 if k == 0 else decibels(rng.uniform(-16, -3)))
    wave = unit(wave)
    many = rng.random() < 0.35
    if many:
        # A meadow full of them blurs into narrow noise behind the near ones.
        edges = carrier * 0.95, carrier * 1.05
        far = bandpass(bandpass(rng.standard_normal(n), *edges), *edges)
        wave += unit(far * (1 + 0.35 * smooth_random(rng, n, 8))) * decibels(rng.uniform(-16, -6))
    forms = (
        "{pitch} {rate} crickets chirping",
        "{many} {pitch} crickets at night",
        "{rate} crickets singing in the night",
        "{pitch} crickets singing",
        "{many} crickets chirping at night",
    )
    rate = "" if trill else word(chirp_rate, 2.0, 3.2, "slow", "fast")
    words = {"pitch": word(carrier, 3500, 4800, "low", "high"), "rate": rate, "many": "many" if many else ""}
    return levelled(rng, wave), caption(rng, forms, **words)


def _syllable(rng: np.random.Generator, low: float, high: float) -> dict[str, float]:
    """The shape of one whistle: glide ends in Hz, bend, trill and length in seconds."""
    kind = rng.integers(4)
    start, end = rng.uniform(low, high, 2)
    return {
        "start": start,
        "end": start * rng.uniform(0.95, 1.05) if kind == 0 else end,
        "bend": rng.uniform(-0.25, 0.25) if kind != 2 else float(rng.choice([-0.35, 0.35])),
        "trill_hz": rng.uniform(18, 45) if kind == 3 else 0.0,
        "trill": rng.uniform(0.04, 0.14),
        "length": rng.uniform(0.05, 0.3) if kind != 3 else rng.uniform(0.15, 0.5),
        "gap": rng.uniform(0.02, 0.12),
        "level": rng.uniform(0.6, 1.0),
        "copies": float(rng.choice([1, 1, 1, 2, 3, 5])),
        "tail": rng.uniform(0.6, 2.0),
    }


def _whistle(shape: dict[str, float], scale: float, second: float) -> np.ndarray:
    n = int(shape["length"] * SAMPLE_RATE)
    x = np.arange(n) / n
    hz = shape["start"] * (shape["end"] / shape["start"]) ** x * (1 + shape["bend"] * np.sin(np.pi * x))
    wobble = np.sin(2 * np.pi * shape["trill_hz"] * shape["length"] * x)
    hz = np.clip(hz * scale * (1 + shape["trill"] * wobble), 1600, 7000)
    phase = 2 * np.pi * np.cumsum(hz) / SAMPLE_RATE
    envelope = np.sin(np.pi * x ** shape["tail"]) ** 0.8
    if shape["trill_hz"]:
        envelope *= 0.65 + 0.35 * wobble
    return envelope * (np.sin(phase) + second * np.sin(2 * phase) * (hz < 3800))


def birds(rng: np.random.Generator, seconds: float) -> tuple[np.ndarray, str]:
    """One to three birds whistling phrases of gliding or trilled syllables at 1.8-6.5 kHz, each repeating its own."""
    n = samples(seconds)
    wave = np.zeros(n)
    centre = log_uniform(rng, 2300, 4900)
    count = int(rng.choice([1, 2, 3], p=[0.45, 0.35, 0.2]))
    tempo = log_uniform(rng, 0.75, 1.5)
    for k in range(count):
        middle = centre * (1 if k == 0 else rng.uniform(0.8, 1.25))
        width = rng.uniform(1.15, 1.45)
        low, high = max(middle / width, 1800), min(middle * width, 6500)
        song = [_syllable(rng, low, high) for _ in range(rng.integers(2, 6))]
        second = rng.uniform(0, 0.15)
        level = 1.0 if k == 0 else decibels(rng.uniform(-14, -2))
        wet = rng.uniform(0.15, 0.5)
        pause = (0.25, 0.9) if k == 0 else (0.6, 2.5)
        pieces = [room(rng, _whistle(s, 1.0, second), 0.5, wet) for s in song]
        at = -rng.uniform(0, 3)
        while at < seconds:
            phrase = rng.permutation(len(song)) if rng.random() < 0.25 else np.arange(len(song))
            for j in phrase[: max(2, int(rng.integers(len(song) // 2, len(song) + 1)))]:
                shape = song[j]
                for _ in range(int(shape["copies"])):
                    add(wave, pieces[j], round(at * SAMPLE_RATE), level * shape["level"] * rng.uniform(0.75, 1))
                    at += shape["length"] + shape["gap"] / tempo
            at += rng.uniform(*pause) / tempo
    forms = (
        "{pitch} {rate} birds singing",
        "{pitch} birds whistling in the morning",
        "{many} birds chirping in the morning",
        "{many} {pitch} birds singing",
        "{pitch} birds chirping",
    )
    words = {
        "pitch": word(centre, 2900, 3900, "low", "high"),
        "rate": word(tempo, 0.9, 1.25, "slow", "fast"),
        "many": "many" if count == 3 else "",
    }
    return levelled(rng, wave), caption(rng, forms, **words)


def _tick(rng: np.random.Generator, bright: float) -> np.ndarray:
    """One beat of an escapement, dry and high: three blows within 25 ms on small hard parts."""
    length = samples(0.08)
    click = np.zeros(length)
    for delay, gain in ((0.0, 0.5), (rng.uniform(0.008, 0.012), 1.0), (rng.uniform(0.018, 0.022), 0.3)):
        hz = rng.uniform(0.8, 3.0, 12) * bright
        decay = 6.9 * rng.uniform(0.002, 0.006, 12)
        strike = ring(np.minimum(hz, 11000), decay, rng.uniform(0.3, 1, 12), np.full(12, -np.pi / 2), samples(0.05))
        add(click, strike, samples(delay), gain)
    click = bandpass(click, bright, 11500)
    return click / np.max(np.abs(click))


def clock(rng: np.random.Generator, seconds: float) -> tuple[np.ndarray, str]:
    """Strictly periodic tick and tock, 2-5 Hz, in the faint noise of a quiet room.

    Dry and high: with a body below 1 kHz or with echoes it is heard as a block of wood or as music.
    """
    n = samples(seconds)
    wave = np.zeros(n)
    rate = float(rng.choice([2, 4, 4, 5])) if rng.random() < 0.6 else log_uniform(rng, 1.8, 5.0)
    bright = log_uniform(rng, 2600, 3800)
    pieces = [_tick(rng, bright * side) for side in (rng.uniform(1.0, 1.2), 1.0)]
    pieces[1] *= rng.uniform(0.6, 1)
    at = -rng.random() * 2 / rate
    # A limping clock is still periodic over two beats.
    limp = rng.normal(0, 0.02)
    for k in range(int((seconds - at) * rate) + 1):
        start = at + (k + limp * (k % 2)) / rate
        add(wave, pieces[k % 2], round(start * SAMPLE_RATE), rng.uniform(0.93, 1.0))
    wave += lowpass(rng.standard_normal(n), 2000) * rng.uniform(0.02, 0.045)
    forms = (
        "a {rate} ticking clock",
        "a {tone} clock ticking",
        "a {rate} {tone} clock",
        "a {tone} ticking clock in the room",
        "the {rate} ticking of a clock",
    )
    words = {
        "rate": word(rate, 2.4, 4.2, "slow", "fast"),
        "tone": word(bright, 2900, 3400, "low", "bright"),
    }
    return levelled(rng, wave, crest=60), caption(rng, forms, **words)
