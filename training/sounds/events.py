"""Captioned sounds made of recurring events: each generator returns a 16 kHz mono wave and its caption."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .dsp import SAMPLE_RATE, bandpass, decibels, finish, lowpass, noise, resonator, smooth_random, unit

# Membrane modes of a circular drum skin and partials of a tuned bell, as multiples of the note.
_MEMBRANE = np.array([1.0, 1.59, 2.14, 2.30, 2.65, 2.92, 3.16, 3.60])
_BELL = np.array([0.5, 1.0, 1.19, 1.5, 2.0, 2.5, 2.67, 3.0, 4.0, 5.33, 6.7])
_PENTATONIC = np.array([0, 2, 4, 7, 9, 12, 14, 16])


def _samples(seconds: float) -> int:
    return round(SAMPLE_RATE * seconds)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(low * (high / low) ** rng.random())


def _word(value: float, below: float, above: float, low_word: str, high_word: str) -> str:
    """The adjective of an extreme value; none in between."""
    return low_word if value < below else high_word if value > above else ""


def _caption(rng: np.random.Generator, forms: Sequence[str], **words: str) -> str:
    return " ".join(str(rng.choice(forms)).format(**words).split())


def _finish(rng: np.random.Generator, wave: np.ndarray, crest: float = 20.0) -> np.ndarray:
    """Final level; rare spikes above crest times the RMS are rounded off, else they would push the rest too low."""
    wave = unit(wave)
    if np.max(np.abs(wave)) > 0.7 * crest:
        wave = crest * np.tanh(wave / crest)
    return finish(rng, wave, rng.uniform(-32, -18))


def _ring(hz: np.ndarray, t60: np.ndarray, amplitude: np.ndarray, phase: np.ndarray, n: int) -> np.ndarray:
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


def _add(wave: np.ndarray, piece: np.ndarray, start: int, gain: float = 1.0) -> None:
    """Mixes a piece in at a start that may lie before the clip or run past its end."""
    first, last = max(start, 0), min(start + len(piece), len(wave))
    if last > first:
        wave[first:last] += gain * piece[first - start : last - start]


def _burst(rng: np.random.Generator, n: int, rise_seconds: float, decay_seconds: float) -> np.ndarray:
    """White noise with a linear rise and an exponential decay."""
    t = np.arange(n) / SAMPLE_RATE
    return rng.standard_normal(n) * np.minimum(t / rise_seconds, 1) * np.exp(-t / decay_seconds)


def _room(rng: np.random.Generator, piece: np.ndarray, t60: float, wet: float) -> np.ndarray:
    """A piece with a diffuse tail of t60 seconds appended, wet relative to the direct sound's energy."""
    n = int(t60 * SAMPLE_RATE)
    tail = _burst(rng, n, 0.01, t60 / 6.9)
    tail = lowpass(tail, 2500)
    size = len(piece) + n
    bins = 1 << (size - 1).bit_length()
    late = np.fft.irfft(np.fft.rfft(piece, bins) * np.fft.rfft(tail, bins), bins)[:size]
    late *= wet * np.sqrt(np.sum(piece**2) / max(np.sum(late**2), 1e-12))
    late[: len(piece)] += piece
    return late


def crickets(rng: np.random.Generator, seconds: float) -> tuple[np.ndarray, str]:
    """One to four crickets: carriers at 3-6 kHz keyed by pulses of 15-30 ms, in chirps or as a long trill."""
    n = _samples(seconds)
    t = np.arange(n) / SAMPLE_RATE
    carrier = _log_uniform(rng, 2900, 5800)
    chirp_rate = _log_uniform(rng, 1.3, 4.5)
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
        _add(wave, voice * envelope, 0, 1 if k == 0 else decibels(rng.uniform(-16, -3)))
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
    rate = "" if trill else _word(chirp_rate, 2.0, 3.2, "slow", "fast")
    words = {"pitch": _word(carrier, 3500, 4800, "low", "high"), "rate": rate, "many": "many" if many else ""}
    return _finish(rng, wave), _caption(rng, forms, **words)


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
    n = _samples(seconds)
    wave = np.zeros(n)
    centre = _log_uniform(rng, 2300, 4900)
    count = int(rng.choice([1, 2, 3], p=[0.45, 0.35, 0.2]))
    tempo = _log_uniform(rng, 0.75, 1.5)
    for k in range(count):
        middle = centre * (1 if k == 0 else rng.uniform(0.8, 1.25))
        width = rng.uniform(1.15, 1.45)
        low, high = max(middle / width, 1800), min(middle * width, 6500)
        song = [_syllable(rng, low, high) for _ in range(rng.integers(2, 6))]
        second = rng.uniform(0, 0.15)
        level = 1.0 if k == 0 else decibels(rng.uniform(-14, -2))
        wet = rng.uniform(0.15, 0.5)
        pause = (0.25, 0.9) if k == 0 else (0.6, 2.5)
        pieces = [_room(rng, _whistle(s, 1.0, second), 0.5, wet) for s in song]
        at = -rng.uniform(0, 3)
        while at < seconds:
            phrase = rng.permutation(len(song)) if rng.random() < 0.25 else np.arange(len(song))
            for j in phrase[: max(2, int(rng.integers(len(song) // 2, len(song) + 1)))]:
                shape = song[j]
                for _ in range(int(shape["copies"])):
                    _add(wave, pieces[j], round(at * SAMPLE_RATE), level * shape["level"] * rng.uniform(0.75, 1))
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
        "pitch": _word(centre, 2900, 3900, "low", "high"),
        "rate": _word(tempo, 0.9, 1.25, "slow", "fast"),
        "many": "many" if count == 3 else "",
    }
    return _finish(rng, wave), _caption(rng, forms, **words)


def clock(rng: np.random.Generator, seconds: float) -> tuple[np.ndarray, str]:
    """Strictly periodic tick and tock, 1-4 Hz: escapement clicks of 2-6 ms through metal modes and a wooden body."""
    n = _samples(seconds)
    wave = np.zeros(n)
    rate = float(rng.choice([1, 2, 4])) if rng.random() < 0.4 else _log_uniform(rng, 1.0, 4.0)
    bright = _log_uniform(rng, 1700, 4600)
    body_hz = _log_uniform(rng, 350, 900)
    body = decibels(rng.uniform(-20, -7))
    length = int(0.12 * SAMPLE_RATE)
    modes = bright * rng.uniform(0.75, 1.65, 6)
    modes = np.minimum(np.append(modes, bright), 7400)
    decays = rng.uniform(0.012, 0.05, 7)
    parts = np.array([0.0, rng.uniform(0.004, 0.012), rng.uniform(0.014, 0.028)])
    t60, wet = rng.uniform(0.1, 0.4), rng.uniform(0.1, 0.35)
    contrast = rng.uniform(0.03, 0.2)
    pieces = []
    for side in (1 + contrast, 1 - contrast):
        click = np.zeros(length)
        for delay, gain in zip(parts, (rng.uniform(0.2, 0.7), 1.0, rng.uniform(0.1, 0.5)), strict=True):
            amplitude = rng.uniform(0.3, 1, 7)
            strike = _ring(np.minimum(modes * side, 7600), decays, amplitude, np.full(7, -np.pi / 2), length)
            snap = _burst(rng, 80, 0.0002, 0.0012)
            strike[:80] += rng.uniform(0.3, 0.9) * (snap - np.mean(snap))
            _add(click, strike, int(delay * SAMPLE_RATE), gain)
        wood = resonator(click, body_hz * side, 0.012) + 0.5 * resonator(click, 2.3 * body_hz, 0.006)
        level = 1.0 if side > 1 else rng.uniform(0.6, 1)
        pieces.append(level * _room(rng, unit(click) + body * 4 * unit(wood), t60, wet))
    at = -rng.random() * 2 / rate
    # A limping clock is still periodic over two beats.
    limp = rng.normal(0, 0.02)
    for k in range(int((seconds - at) * rate) + 1):
        start = at + (k + limp * (k % 2)) / rate
        _add(wave, pieces[k % 2], round(start * SAMPLE_RATE), rng.uniform(0.93, 1.0))
    forms = (
        "a {rate} ticking clock",
        "a {tone} clock ticking",
        "a {rate} {tone} clock",
        "a {tone} ticking clock in the room",
        "the {rate} ticking of a clock",
    )
    words = {
        "rate": _word(rate, 1.6, 2.6, "slow", "fast"),
        "tone": _word(bright, 2300, 3300, "low", "bright"),
    }
    return _finish(rng, wave), _caption(rng, forms, **words)


def bells(rng: np.random.Generator, seconds: float) -> tuple[np.ndarray, str]:
    """Bells of inharmonic partials (0.5, 1, 1.19, 1.5, 2 ...), high ones dying first, on a pentatonic set of notes."""
    n = _samples(seconds)
    wave = np.zeros(n)
    base = _log_uniform(rng, 170, 1100)
    gap = _log_uniform(rng, 0.7, 2.3)
    t60 = max(_log_uniform(rng, 2.2, 6.0), 1.7 * gap)
    slope = rng.uniform(0.3, 1.1)
    dull = rng.uniform(0.25, 1.3)
    free = rng.random() < 0.5
    notes = rng.permutation(_PENTATONIC)[: rng.integers(1, 6)]
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
        keep = pair < 7600
        phase = rng.uniform(0, 2 * np.pi, len(pair))
        piece = _ring(pair[keep], decay[keep], weight[keep], phase[keep], length)
        clang = min(480, length)
        piece[:clang] += rng.uniform(0.1, 0.6) * bandpass(_burst(rng, clang, 0.0005, 0.006), 1500, 6000)
        piece[:32] *= np.linspace(0, 1, 32)
        piece[-800:] *= np.linspace(1, 0, 800)
        pieces.append(piece)
    at, k = -length / SAMPLE_RATE - rng.random() * gap, 0
    while at < seconds:
        which = rng.integers(len(pieces)) if free else k % len(pieces)
        _add(wave, pieces[which], round(at * SAMPLE_RATE), rng.uniform(0.6, 1.0))
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
        "pitch": _word(base * 2 ** (np.mean(notes) / 12), 400, 850, "deep", "high"),
        "rate": _word(gap, 1.0, 1.6, "fast", "slow"),
        "tone": _word(dull, 0.5, 0.95, "bright", "warm"),
    }
    return _finish(rng, wave), _caption(rng, forms, **words)


_CHORDS = ([0, 7, 12, 16], [0, 7, 12, 15], [0, 7, 14, 16], [0, 4, 7, 12], [0, 3, 7, 12], [0, 7, 11, 16], [0, 5, 7, 12])
_DRONES = ([0, 7, 12], [0, 7, 12, 19], [0, 12, 19, 24])


def pad(rng: np.random.Generator, seconds: float) -> tuple[np.ndarray, str]:
    """Chords of 3-4 consonant voices, each of detuned partials beating at 0.1-3 Hz, under a slow filter; no gaps."""
    n = _samples(seconds)
    head = str(rng.choice(["drone", "pad", "chords"]))
    root = _log_uniform(rng, 55, 220)
    slope = rng.uniform(0.7, 1.7)
    cutoff = _log_uniform(rng, 350, 3500)
    detune = rng.uniform(0.0008, 0.005)
    harmonics = int(rng.integers(8, 17))
    # A drone keeps one chord; else the root moves every few seconds, by intervals that stay in one key's neighbourhood.
    cross = rng.uniform(0.4, 1.2)
    if head == "drone":
        edges = [-cross, seconds + cross]
    else:
        hold = rng.uniform(2.5, 7)
        edges = [-cross - rng.random() * hold]
        while edges[-1] < seconds + cross:
            edges.append(edges[-1] + hold * rng.uniform(0.8, 1.2))
    # Slow curves are drawn at a control rate: one opens and closes the filter, and each harmonic drifts by itself.
    stride = 64
    knots = np.arange(n // stride + 2)
    opening = np.exp(rng.uniform(0.1, 0.5) * smooth_random(rng, len(knots), stride * rng.uniform(0.1, 0.5)))
    swell = np.exp(rng.uniform(0.05, 0.25) * smooth_random(rng, len(knots), stride * 0.5))
    number = np.arange(n) / stride
    gains = []
    for h in range(1, harmonics + 1):
        response = (1 + (h * root * 1.5 / (cutoff * opening)) ** 2) ** -0.75
        drift = np.exp(0.3 * smooth_random(rng, len(knots), stride * 0.6))
        gains.append(np.interp(number, knots, h**-slope * response * drift * swell).astype(np.float32))
    wave = np.zeros(n)
    for begin, end in zip(edges[:-1], edges[1:], strict=True):
        first, last = max(int((begin - cross) * SAMPLE_RATE), 0), min(int((end + cross) * SAMPLE_RATE), n)
        if last <= first:
            continue
        if head == "drone":
            chord = np.array(_DRONES[rng.integers(len(_DRONES))])
        else:
            chord = np.array(_CHORDS[rng.integers(len(_CHORDS))]) + rng.choice([0, 5, -3, -4, 3, -5, 7])
        voices = root * 2.0 ** (chord / 12)
        spread = np.tile([-1.0, 0.07, 1.0], len(voices)) * rng.uniform(0.6, 1, 3 * len(voices))
        hz = np.repeat(voices, 3) * (1 + detune * spread)
        level = np.repeat(rng.uniform(0.6, 1, len(voices)) * voices**-0.25, 3)
        t = np.arange(first, last) / SAMPLE_RATE
        rise = np.clip((t - begin + cross) / (2 * cross), 0, 1) * np.clip((end + cross - t) / (2 * cross), 0, 1)
        envelope = np.sin(0.5 * np.pi * rise)
        sound = np.zeros(last - first, np.float32)
        for h in range(1, harmonics + 1):
            keep = hz * h < 7000
            phase = rng.uniform(0, 2 * np.pi, len(hz))[keep]
            part = _ring(hz[keep] * h, np.full(len(phase), 1e9), level[keep], phase, last - first)
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
    words = {"pitch": _word(root, 85, 140, "low", "high"), "tone": _word(cutoff / slope, 600, 1300, "warm", "bright")}
    return _finish(rng, wave), _caption(rng, forms, **words)


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
    n = _samples(seconds)
    wave = np.zeros(n)
    bpm = rng.uniform(70, 130)
    base = _log_uniform(rng, 60, 150)
    decay = rng.uniform(0.18, 0.6)
    slap = rng.uniform(0.05, 0.4)
    slap_hz = _log_uniform(rng, 900, 2600)
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
        hit = _burst(rng, 1600, 0.0008, 0.010 + 0.012 * rng.random())
        piece[:1600] += slap * hand * 1.5 * unit(bandpass(hit, 0.5 * slap_hz, slap_hz)) * 0.35
        piece *= np.minimum((len(t) - np.arange(len(t))) / 1000, 1)
        strokes[name] = [_room(rng, piece, t60, wet), lowpass(piece, 350 * pitch)]
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
        _add(wave, full, at, accents[name] * force**2)
        _add(wave, dull, at, accents[name] * (1 - force))
    forms = (
        "a {rate} {pitch} hand drum",
        "a {pitch} drum beat",
        "a steady {pitch} drum",
        "a {rate} steady drum beat",
        "a {rate} rhythm on a {pitch} drum",
    )
    words = {"rate": _word(bpm, 88, 112, "slow", "fast"), "pitch": _word(base, 80, 110, "deep", "high")}
    return _finish(rng, wave), _caption(rng, forms, **words)


def _crunch(rng: np.random.Generator, n: int, envelope: np.ndarray, grains_per_second: float) -> np.ndarray:
    """Sparse clicks of heavy-tailed size, dense where the envelope is high: grains breaking under a weight."""
    hit = rng.random(n) < envelope * grains_per_second / SAMPLE_RATE
    return hit * rng.standard_normal(n) * rng.exponential(1.0, n) * np.sqrt(envelope)


def _press(t: np.ndarray, begin: float, peak: float, decay: float) -> np.ndarray:
    """A push of the foot that begins, peaks and eases off, in seconds, of height 1."""
    x = np.maximum(t - begin, 0)
    return np.minimum(x / peak, 1) * np.exp(-np.maximum(x - peak, 0) / decay)


def footsteps(rng: np.random.Generator, seconds: float) -> tuple[np.ndarray, str]:
    """Heel and toe of 1.4-2.2 steps per second: granular gravel, dull squeezed snow, or knocking scuffed wood."""
    n = _samples(seconds)
    wave = np.zeros(n)
    ground = str(rng.choice(["gravel", "wood", "snow"]))
    rate = rng.uniform(1.4, 2.2)
    heavy = rng.random()
    roll = rng.uniform(0.09, 0.17) * 1.8 / rate
    size = int(0.5 * SAMPLE_RATE)
    t = np.arange(size) / SAMPLE_RATE
    fall = np.minimum((size - np.arange(size)) / 1000, 1)
    colour = _log_uniform(rng, 0.75, 1.35)
    thump = np.exp(-t / 0.025) * np.sin(2 * np.pi * _log_uniform(rng, 55, 95) * t) * fall
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
        if ground == "gravel":
            push = _press(t, 0, 0.012, 0.03) + rng.uniform(0.6, 1.1) * _press(t, toe, 0.03, rng.uniform(0.04, 0.08))
            _add(drive, _crunch(rng, size, push * fall, rng.uniform(900, 1700)), start, force)
        elif ground == "snow":
            push = _press(t, 0, 0.03, 0.035) * 0.7 + _press(t, toe * 0.8, 0.06, rng.uniform(0.025, 0.05))
            # Snow packs in tiny stick and slip jerks, which give the squeeze its creak.
            jerk = 0.2 + 0.8 * np.sin(np.pi * rng.uniform(70, 130) * t * (1 + 0.6 * t)) ** 2
            _add(drive, _crunch(rng, size, push * jerk * fall, 6000), start, force)
        else:
            strike = _press(t, 0, 0.001, 0.002) + rng.uniform(0.3, 0.6) * _press(t, toe, 0.002, 0.003)
            _add(drive, strike * rng.standard_normal(size), start, force)
            _add(scuff, rng.standard_normal(size) * _press(t, toe * 0.6, 0.04, 0.05) * fall, start, force)
        _add(low, thump, start, force)
        at += rng.normal(1, 0.035) / rate
        k += 1
    if ground == "gravel":
        wave = unit(bandpass(drive, 900 * colour, 5200 * colour)) + 0.5 * unit(
            bandpass(drive, 1400 * colour, 2600 * colour)
        )
        weight = 0.2 + 0.5 * heavy
    elif ground == "snow":
        wave = unit(bandpass(drive, 350 * colour, 1700 * colour)) + 0.35 * unit(
            bandpass(drive, 800 * colour, 1500 * colour)
        )
        weight = 0.1 + 0.25 * heavy
    else:
        wave = unit(bandpass(drive, 1200 * colour, 5000 * colour)) * 0.5
        wave += rng.uniform(0.15, 0.4) * unit(bandpass(scuff, 1500 * colour, 5000 * colour))
        board = np.zeros(n + lead)
        first = _log_uniform(rng, 170, 300)
        for ratio in np.array([1, 1.7, 2.6, 3.9, 5.2]) * rng.uniform(0.9, 1.1, 5):
            board += rng.uniform(0.5, 1) * resonator(drive, first * ratio, 0.016 * ratio**-0.5)
        wave += unit(board)
        wave = _room(rng, wave, rng.uniform(0.15, 0.5), rng.uniform(0.08, 0.25))[: n + lead]
        weight = 0.2 + 0.4 * heavy
    wave = (wave + weight * unit(low))[lead:]
    forms = (
        "{rate} footsteps on {ground}",
        "{heavy} footsteps on {ground}",
        "{rate} {heavy} footsteps on {ground}",
        "footsteps walking on {ground}",
        "{rate} walking footsteps in {ground}" if ground == "snow" else "{rate} walking footsteps on {ground}",
    )
    words = {
        "rate": _word(rate, 1.6, 1.95, "slow", "fast"),
        "heavy": _word(heavy, 0.3, 0.7, "soft", "heavy"),
        "ground": ground,
    }
    return _finish(rng, wave, crest=12), _caption(rng, forms, **words)
