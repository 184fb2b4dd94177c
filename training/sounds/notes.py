"""Captioned sounds of notes, struck or held: each generator returns a 24 kHz mono wave and its caption."""

from __future__ import annotations

import numpy as np

from .dsp import SAMPLE_RATE, bandpass, decibels, lowpass, noise, smooth_random, unit
from .strokes import add, burst, caption, levelled, log_uniform, ring, room, samples, word

# Membrane modes of a circular drum skin and partials of a tuned bell, as multiples of the note.
_MEMBRANE = np.array([1.0, 1.59, 2.14, 2.30, 2.65, 2.92, 3.16, 3.60])
_BELL = np.array([0.5, 1.0, 1.19, 1.5, 2.0, 2.5, 2.67, 3.0, 4.0, 5.33, 6.7])
_PENTATONIC = np.array([0, 2, 4, 7, 9, 12, 14, 16])


def bells(rng: np.random.Generator, seconds: float) -> tuple[np.ndarray, str]:
    """Bells of inharmonic partials (0.5, 1, 1.19, 1.5, 2 ...), high ones dying first, on a pentatonic set of notes."""
    n = samples(seconds)
    wave = np.zeros(n)
    base = log_uniform(rng, 380, 1500)
    gap = log_uniform(rng, 0.7, 2.3)
    t60 = max(log_uniform(rng, 2.8, 7.0), 1.7 * gap)
    slope = rng.uniform(0.4, 1.1)
    dull = rng.uniform(0.25, 1.3)
    free = rng.random() < 0.5
    # One bell or two: more of them are heard as an instrument that plays
    notes = rng.permutation(_PENTATONIC)[: rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1])]
    length = int(min(t60, 5.0) * SAMPLE_RATE)
    pieces = []
    for note in notes:
        hz = base * 2 ** (note / 12)
        partials = hz * _BELL * (1 + rng.normal(0, 0.004, len(_BELL)))
        weight = rng.uniform(0.4, 1, len(_BELL)) * np.maximum(_BELL, 1) ** -dull
        weight[0] *= rng.uniform(0.2, 0.9)
        # Casting is never perfectly round: each partial is a pair that beats slowly.
        pair = np.concatenate([partials, partials + rng.uniform(0.3, 2.5, len(_BELL))])
        weight = np.concatenate([weight, weight * rng.uniform(0.1, 0.6, len(_BELL))])
        decay = np.tile(t60 * _BELL**-slope * rng.uniform(0.8, 1.2, len(_BELL)), 2)
        decay[[0, len(_BELL)]] = t60
        keep = pair < 11000
        phase = rng.uniform(0, 2 * np.pi, len(pair))
        piece = ring(pair[keep], decay[keep], weight[keep], phase[keep], length)
        clang = min(720, length)
        piece[:clang] += rng.uniform(0.1, 0.6) * bandpass(burst(rng, clang, 0.0005, 0.006), 1500, 6000)
        piece[:48] *= np.linspace(0, 1, 48)
        piece[-1200:] *= np.linspace(1, 0, 1200)
        pieces.append(piece)
    at, k = -length / SAMPLE_RATE - rng.random() * gap, 0
    while at < seconds:
        which = rng.integers(len(pieces)) if free else k % len(pieces)
        add(wave, pieces[which], round(at * SAMPLE_RATE), rng.uniform(0.6, 1.0))
        at += float(np.clip(gap * (rng.uniform(0.6, 1.4) if free else rng.normal(1, 0.015)), 0.5, 2.5))
        k += 1
    forms = (
        "{pitch} {rate} bells",
        "{pitch} bells ringing",
        "{rate} {tone} bells ringing",
        "{tone} {pitch} bells",
        "the {rate} ringing of {pitch} bells",
    )
    words = {
        "pitch": word(base * 2 ** (np.mean(notes) / 12), 650, 1200, "deep", "high"),
        "rate": word(gap, 1.0, 1.6, "fast", "slow"),
        "tone": word(dull, 0.5, 0.95, "bright", "warm"),
    }
    return levelled(rng, wave), caption(rng, forms, **words)


_CHORDS = ([0, 7, 12, 16], [0, 7, 12, 15], [0, 7, 14, 16], [0, 4, 7, 12], [0, 3, 7, 12], [0, 7, 11, 16], [0, 5, 7, 12])
_DRONES = ([0, 7, 12], [0, 7, 12, 19], [0, 12, 19, 24])


def _changes(rng: np.random.Generator, seconds: float, cross: float, drone: bool) -> list[float]:
    """When chords begin, in seconds, with one edge past the end: a drone keeps its chord, else every few seconds."""
    if drone:
        return [-cross, seconds + cross]
    hold = rng.uniform(2.5, 7)
    edges = [-cross - rng.random() * hold]
    while edges[-1] < seconds + cross:
        edges.append(edges[-1] + hold * rng.uniform(0.8, 1.2))
    return edges


def _gains(rng: np.random.Generator, n: int, harmonics: int, slope: float, place: float) -> list[np.ndarray]:
    """Slow curves of n samples, one per harmonic; place is the root over the filter's cutoff.

    They are drawn at a control rate: one opens and closes the filter, and each harmonic drifts by itself.
    """
    stride = 64
    knots = np.arange(n // stride + 2)
    opening = np.exp(rng.uniform(0.1, 0.5) * smooth_random(rng, len(knots), stride * rng.uniform(0.1, 0.5)))
    swell = np.exp(rng.uniform(0.05, 0.25) * smooth_random(rng, len(knots), stride * 0.5))
    number = np.arange(n) / stride
    gains = []
    for h in range(1, harmonics + 1):
        response = (1 + (h * place * 1.5 / opening) ** 2) ** -0.75
        drift = np.exp(0.3 * smooth_random(rng, len(knots), stride * 0.6))
        gains.append(np.interp(number, knots, h**-slope * response * drift * swell).astype(np.float32))
    return gains


def _voices(rng: np.random.Generator, root: float, detune: float, drone: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pitches in Hz and levels of a chord, three partials per voice; its root stays in one key's neighbourhood."""
    if drone:
        chord = np.array(_DRONES[rng.integers(len(_DRONES))])
    else:
        chord = np.array(_CHORDS[rng.integers(len(_CHORDS))]) + rng.choice([0, 5, -3, -4, 3, -5, 7])
    voices = root * 2.0 ** (chord / 12)
    spread = np.tile([-1.0, 0.07, 1.0], len(voices)) * rng.uniform(0.6, 1, 3 * len(voices))
    hz = np.repeat(voices, 3) * (1 + detune * spread)
    return hz, np.repeat(rng.uniform(0.6, 1, len(voices)) * voices**-0.25, 3)


def pad(rng: np.random.Generator, seconds: float) -> tuple[np.ndarray, str]:
    """Chords of 3-4 consonant voices, each of detuned partials beating at 0.1-3 Hz, under a slow filter; no gaps."""
    n = samples(seconds)
    head = str(rng.choice(["drone", "pad", "chords"]))
    root = log_uniform(rng, 55, 220)
    slope = rng.uniform(0.7, 1.7)
    cutoff = log_uniform(rng, 350, 3500)
    detune = rng.uniform(0.0008, 0.005)
    harmonics = int(rng.integers(8, 17))
    cross = rng.uniform(0.4, 1.2)
    edges = _changes(rng, seconds, cross, head == "drone")
    gains = _gains(rng, n, harmonics, slope, root / cutoff)
    wave = np.zeros(n)
    for begin, end in zip(edges[:-1], edges[1:], strict=True):
        first, last = max(int((begin - cross) * SAMPLE_RATE), 0), min(int((end + cross) * SAMPLE_RATE), n)
        if last <= first:
            continue
        hz, level = _voices(rng, root, detune, head == "drone")
        t = np.arange(first, last) / SAMPLE_RATE
        rise = np.clip((t - begin + cross) / (2 * cross), 0, 1) * np.clip((end + cross - t) / (2 * cross), 0, 1)
        envelope = np.sin(0.5 * np.pi * rise)
        sound = np.zeros(last - first, np.float32)
        for h in range(1, harmonics + 1):
            keep = hz * h < 10000
            phase = rng.uniform(0, 2 * np.pi, len(hz))[keep]
            part = ring(hz[keep] * h, np.full(len(phase), 1e9), level[keep], phase, last - first)
            part *= gains[h - 1][first:last]
            sound += part
        wave[first:last] += sound * envelope
    air = decibels(rng.uniform(-48, -34))
    wave = unit(wave) + air * noise(rng, n, -4, 100, 3000)
    forms = {
        "drone": ("a {tone} {pitch} drone", "a {pitch} drone", "a slow {tone} drone", "the soft {pitch} drone"),
        "pad": ("a {tone} {pitch} pad", "a soft {pitch} pad", "a slow {tone} pad", "a soft {tone} pad"),
        "chords": ("{tone} {pitch} chords", "slow {tone} chords", "soft {pitch} chords", "{tone} pad chords"),
    }[head]
    words = {"pitch": word(root, 85, 140, "low", "high"), "tone": word(cutoff / slope, 600, 1300, "warm", "bright")}
    return levelled(rng, wave), caption(rng, forms, **words)


# Strokes on a grid of sixteenths: D low centre stroke, t higher edge stroke, k soft edge stroke.
_PATTERNS = (
    "D---t---D---t---",
    "D---D-t-D---t---",
    "D--tt--kD---t-k-",
    "D-t-k-t-D-t-t---",
    "D--D--t-D--D--t-",
    "DkkkDkkktkkkDkkk",
    "D--k--D-t--kt---",
    "D---t-k-D-D-t-k-",
    "D-k-D-k-D-k-D-t-",
)


def drum(rng: np.random.Generator, seconds: float) -> tuple[np.ndarray, str]:
    """A hand drum loop at 70-130 bpm: membrane modes from 60-180 Hz whose pitch falls after the slap of the hand."""
    n = samples(seconds)
    wave = np.zeros(n)
    bpm = rng.uniform(70, 130)
    base = log_uniform(rng, 60, 150)
    decay = rng.uniform(0.18, 0.6)
    slap = rng.uniform(0.05, 0.4)
    slap_hz = log_uniform(rng, 900, 2600)
    edge = rng.uniform(1.3, 1.9)
    t60, wet = rng.uniform(0.2, 0.6), rng.uniform(0.1, 0.35)
    glide = rng.uniform(0.06, 0.3)
    t = np.arange(int(0.75 * SAMPLE_RATE)) / SAMPLE_RATE
    strokes = {}
    for name, pitch, damping, hand in (("D", 1.0, 1.0, 0.5), ("t", edge, 0.55, 1.4), ("k", edge * 1.08, 0.35, 1.0)):
        # The stretched skin falls in pitch as it calms: time runs faster at first.
        warped = t + glide * 0.035 * (1 - np.exp(-t / 0.035))
        piece = np.zeros(len(t))
        for m, ratio in enumerate(_MEMBRANE):
            level = rng.uniform(0.5, 1) * (0.45 if name == "D" else 0.75) ** m
            fade = np.exp(-t * 6.9 / (decay * damping * 1.6 * ratio**-0.7))
            piece += level * fade * np.sin(2 * np.pi * base * pitch * ratio * warped)
        hit = burst(rng, 2400, 0.0008, 0.010 + 0.012 * rng.random())
        piece[:2400] += slap * hand * 1.5 * unit(bandpass(hit, 0.5 * slap_hz, slap_hz)) * 0.35
        piece *= np.minimum((len(t) - np.arange(len(t))) / 1500, 1)
        strokes[name] = [room(rng, piece, t60, wet), lowpass(piece, 350 * pitch)]
    pattern = str(rng.choice(_PATTERNS))
    turn = int(rng.integers(4)) * 4
    pattern = pattern[turn:] + pattern[:turn]
    step = 60 / bpm / 4
    swing = rng.choice([0.0, 0.0, rng.uniform(0.1, 0.3)])
    accents = dict(D=1.0, t=rng.uniform(0.45, 0.9), k=rng.uniform(0.2, 0.4))
    phase = rng.random() * 16
    for k in range(int(phase) - 8, int(phase + seconds / step) + 2):
        name = pattern[k % 16]
        if name == "-":
            continue
        start = (k - phase + swing * (k % 2)) * step + rng.normal(0, 0.003)
        force = rng.uniform(0.8, 1.0)
        # A harder stroke is brighter: the full stroke and its dull part are mixed by force.
        full, dull = strokes[name]
        at = round(start * SAMPLE_RATE)
        add(wave, full, at, accents[name] * force**2)
        add(wave, dull, at, accents[name] * (1 - force))
    forms = (
        "a {rate} {pitch} hand drum",
        "a {pitch} drum beat",
        "a steady {pitch} drum",
        "a {rate} steady drum beat",
        "a {rate} rhythm on a {pitch} drum",
    )
    words = {"rate": word(bpm, 88, 112, "slow", "fast"), "pitch": word(base, 80, 110, "deep", "high")}
    return levelled(rng, wave), caption(rng, forms, **words)
