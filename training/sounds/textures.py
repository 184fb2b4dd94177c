"""Synthesised sound textures with captions: rain, wind, waves, stream, fire, crowd and engine, mono at 24 kHz."""

from __future__ import annotations

import numpy as np
from scipy import fft

from .dsp import (
    SAMPLE_RATE,
    bandpass,
    decibels,
    finish,
    impulses,
    lowpass,
    noise,
    poisson_starts,
    pulses_to_wave,
    resonator,
    smooth_random,
    unit,
)

# First three formants in Hz of five vowels of a man; other voices scale them.
VOWELS = np.array(
    [
        [270, 2290, 3010],
        [530, 1840, 2480],
        [660, 1720, 2410],
        [730, 1090, 2440],
        [300, 870, 2240],
    ]
)


# Slow envelopes are made at this rate in Hz and then stretched to the wave: a tenth of the cost.
CONTROL_RATE = 200


def _slow(rng: np.random.Generator, n: int, rate_hz: float) -> np.ndarray:
    """smooth_random at the control rate, for a wave of n samples; rate_hz at most 12."""
    hop = SAMPLE_RATE // CONTROL_RATE
    return smooth_random(rng, n // hop + 2, rate_hz * hop)


def _stretch(envelope: np.ndarray, n: int) -> np.ndarray:
    """An envelope at the control rate, interpolated to n samples."""
    return np.interp(np.arange(n) * (CONTROL_RATE / SAMPLE_RATE), np.arange(len(envelope)), envelope)


def rain(rng: np.random.Generator, seconds: float) -> tuple[np.ndarray, str]:
    """Rain: Poisson drops with log-normal sizes ring short surface resonances over the hiss of far drops."""
    n = round(SAMPLE_RATE * seconds)
    density = rng.uniform()
    surface = rng.choice(["", "leaves", "roof", "ground"], p=[0.4, 0.2, 0.2, 0.2])
    low, high, decay = {
        "": (1200, 6500, 0.002),
        "leaves": (1800, 5000, 0.0012),
        "roof": (350, 2200, 0.007),
        "ground": (700, 3500, 0.0018),
    }[str(surface)]
    decay *= np.exp(rng.normal(0, 0.25))
    drops_hz = 35 * 22**density
    drops = np.zeros(n)
    for hz in np.geomspace(low, high, 14) * np.exp(rng.normal(0, 0.08, 14)):
        starts = poisson_starts(rng, n, drops_hz / 14)
        sizes = np.exp(rng.normal(0, 0.8, len(starts))).clip(0, 6) * rng.choice([-1, 1], len(starts))
        drops += resonator(impulses(n, starts, sizes), hz, decay * (hz / low) ** -0.3) * (hz / low) ** -0.2
    bed = noise(rng, n, rng.uniform(-0.5, 2.0), low=rng.uniform(500, 1100), high=rng.uniform(5500, 12000))
    patter = noise(rng, n, -3, low=150, high=900) * decibels(rng.uniform(-18, -10) + 4 * density)
    bed = bed * np.exp(0.08 * smooth_random(rng, n, 0.7)) + patter
    wave = unit(drops) + bed * decibels(rng.uniform(-9, -3) + 7 * density)
    size = "light" if density < 0.33 else "heavy" if density > 0.67 else "steady"
    place = {"": "", "leaves": " on leaves", "roof": " on a roof", "ground": " on the ground"}[str(surface)]
    caption = rng.choice([f"{size} rain", f"{size} rain falling", f"the sound of {size} rain"]) + place
    return finish(rng, wave, -30 + 9 * density + rng.uniform(-2, 2)), str(caption)


def wind(rng: np.random.Generator, seconds: float) -> tuple[np.ndarray, str]:
    """Wind: dark noise and wandering narrow whistles driven by a gust envelope with a Kolmogorov f^-5/3 spectrum."""
    n = round(SAMPLE_RATE * seconds)
    strength, gusts = rng.uniform(size=2)
    howl = rng.uniform() < 0.4
    rates = 0.12 * 2.0 ** np.arange(7)
    # A power spectrum of f^-5/3 holds f^-2/3 in each octave: amplitude f^-1/3.
    gust = sum(rate ** (-1 / 3) * _slow(rng, n, rate) for rate in rates)
    gust = gust / np.sqrt(np.sum(rates ** (-2 / 3)))
    swing = (0.18 + 0.36 * gusts) * gust.clip(-2, 2.2)
    loud = _stretch(np.exp(swing), n)
    top = 220 * 2 ** (1.6 * strength) * np.exp(rng.normal(0, 0.15))
    wave = noise(rng, n, rng.uniform(-5, -3), low=50, high=top) * loud
    # Faster air is also brighter, hence the steeper law of the upper band.
    wave += noise(rng, n, -5, low=250, high=3 * top) * loud * loud * decibels(-13 + 5 * strength)
    for _ in range(2 + howl):
        centre = rng.uniform(300, 520) * (1 + strength * rng.uniform(0.2, 1.0))
        hz = _stretch(centre * np.exp(rng.uniform(0.12, 0.25) * gust + 0.06 * _slow(rng, n, 0.8)), n)
        phase = (2 * np.pi / SAMPLE_RATE * np.cumsum(hz)).astype(np.float32)
        width = rng.uniform(8, 20) if howl else rng.uniform(40, 110)
        whistle = smooth_random(rng, n, width) * np.cos(phase) + smooth_random(rng, n, width) * np.sin(phase)
        level = decibels(rng.uniform(-7, -1) if howl else rng.uniform(-13, -8))
        wave += whistle * _stretch(level * np.exp(1.6 * swing), n)
    if howl:
        size = "howling"
    elif gusts > 0.7:
        size = "gusty"
    else:
        size = "gentle" if strength < 0.4 else "strong" if strength > 0.6 else "steady"
    caption = rng.choice([f"{size} wind", f"{size} wind blowing", f"a {size} wind", f"the sound of {size} wind"])
    return finish(rng, wave, -30 + 9 * strength + rng.uniform(-2, 2)), str(caption)


def waves(rng: np.random.Generator, seconds: float) -> tuple[np.ndarray, str]:
    """Sea waves: noise swells of 3 to 8 s; each builds low, brightens where it breaks, and leaves a hiss of foam."""
    n = round(SAMPLE_RATE * seconds)
    size = rng.uniform()
    period = rng.uniform(3, 8)
    rumble, body, foam = (
        noise(rng, n, -4, low=40, high=350),
        noise(rng, n, -4, low=200, high=rng.uniform(1200, 2200)),
        noise(rng, n, rng.uniform(-4, -1), low=1500, high=rng.uniform(5000, 12000)),
    )
    swell, wash = 0.0, 0.0
    for share, stretch in ((1.0, 1.0), (0.2, rng.uniform(0.6, 0.8))):
        rate = np.exp(0.15 * _slow(rng, n, 0.2)) / (period * stretch)
        phase = rng.uniform() + np.cumsum(rate) / CONTROL_RATE
        index = phase.astype(int)
        x = phase - index
        peak = rng.uniform(0.35, 0.5)
        heights = share * np.exp(rng.normal(0, 0.2, index[-1] + 1))[index]
        # Both ends of a cycle meet at the trough, so that the swells join without a step.
        rise = np.sin(0.5 * np.pi * np.minimum(x / peak, 1)) ** 3
        after = (x - peak).clip(0) / (1 - peak)
        swell = swell + rise * np.exp(-2.8 * after) * (1 - after**3) * heights
        # Foam comes at once as the crest breaks, and fades later than the body of the wave.
        late = (x - peak) / (1 - peak) - 0.05
        wash = wash + np.exp(np.where(late < 0, 10, -1.8) * late) * (1 - late.clip(0) ** 3) * rise * heights
    wave = (
        rumble * _stretch(0.16 + swell, n) * decibels(-6 + 6 * size)
        + body * _stretch(0.12 + swell**1.3, n)
        + foam * _stretch(0.12 + wash, n) * decibels(rng.uniform(-8, -3))
    )
    word = "gentle" if size < 0.35 else "large" if size > 0.65 else "slow" if period > 5.5 else "sea"
    sea = "waves" if word == "sea" else "sea waves"
    endings = ["", " on a beach", " on the shore", " breaking on the shore" if size > 0.35 else " on the beach"]
    caption = f"{word} {rng.choice(['waves', sea])}{rng.choice(endings)}"
    return finish(rng, wave, -30 + 9 * size + rng.uniform(-2, 2)), caption


def stream(rng: np.random.Generator, seconds: float) -> tuple[np.ndarray, str]:
    """Stream: Minnaert bubbles, damped sines of 400 to 3000 Hz whose pitch rises, over the soft noise of water."""
    n = round(SAMPLE_RATE * seconds)
    flow = rng.uniform()
    centre = 650 * 2 ** rng.uniform(0, 1.1)
    bubbles_hz = 45 * 5**flow
    wave = np.zeros(n)
    # Small bubbles die sooner: two banks of kernels spare the sum of their silent tails.
    for share, low, high, length in ((0.5, 0.55 * centre, centre, 1440), (0.5, centre, 3 * centre, 840)):
        count = 120
        hz = np.exp(rng.uniform(np.log(max(low, 400)), np.log(min(high, 3000)), count))[:, None]
        t = np.arange(length) / SAMPLE_RATE
        tau = rng.uniform(9, 22, count)[:, None] / (np.pi * hz) * 1.4
        lift = rng.uniform(0.0, 0.12, count)[:, None] / tau
        kernels = np.sin(2 * np.pi * hz * (t + 0.5 * lift * t**2)) * np.exp(-t / tau) * (1 - (t / t[-1]) ** 4)
        kernels *= (1 - np.exp(-t / 0.0008)) * (hz / centre) ** -0.5
        starts = poisson_starts(rng, n, 1.6 * share * bubbles_hz, length / SAMPLE_RATE)
        # Bubbles come in bunches, as the water folds air in by turns.
        bunch = 1 / (1 + np.exp(-1.3 * smooth_random(rng, n, 5.0) - 0.9))
        starts = starts[rng.uniform(size=len(starts)) < bunch[starts.clip(0)]]
        sizes = np.exp(rng.normal(0, 0.7, len(starts))).clip(0, 5)
        wave += pulses_to_wave(n, starts, sizes, kernels, rng.integers(0, count, len(starts)))
    soft = noise(rng, n, -4, low=250, high=rng.uniform(2500, 5000)) * np.exp(0.12 * smooth_random(rng, n, 3.0))
    wave = unit(wave) + soft * decibels(rng.uniform(-15, -10) + 5 * flow)
    word = "gentle" if flow < 0.35 else "fast" if flow > 0.65 else "small"
    caption = rng.choice(
        [
            f"a {word} stream",
            f"a {word} stream of water",
            f"water flowing in a {word} stream",
            f"bubbling water in a {word} stream",
        ]
    )
    return finish(rng, wave, -30 + 8 * flow + rng.uniform(-2, 3)), str(caption)


def fire(rng: np.random.Generator, seconds: float) -> tuple[np.ndarray, str]:
    """Fire: a fluttering low rumble and faint hiss under Poisson crackles with Pareto (heavy-tailed) amplitudes."""
    n = round(SAMPLE_RATE * seconds)
    size = rng.uniform()
    crackle = rng.uniform()
    flutter = np.exp(0.35 * smooth_random(rng, n, rng.uniform(3, 7)) + 0.15 * smooth_random(rng, n, 0.5))
    rumble = noise(rng, n, -4, low=40, high=150 * 2 ** (1.3 * size)) * flutter
    hiss = noise(rng, n, -2, low=1200, high=9500) * np.exp(0.3 * smooth_random(rng, n, 1.0)) * decibels(-24)
    cracks_hz = 7 * 5**crackle
    count, length = 64, 600
    t = np.arange(length) / SAMPLE_RATE
    hz = np.exp(rng.uniform(np.log(900), np.log(5500), count))[:, None]
    tau = np.exp(rng.uniform(np.log(0.0005), np.log(0.004), count))[:, None]
    # Each crackle is a click of wood: a broad burst with a weak pitch, at once loud, then gone in milliseconds.
    kernels = (rng.standard_normal((count, length)) + 1.5 * np.sin(2 * np.pi * hz * t)) * np.exp(-t / tau)
    kernels /= np.sqrt(np.sum(kernels**2, axis=1, keepdims=True))
    parents = poisson_starts(rng, n, cracks_hz / 2, 0.1)
    family = rng.poisson(1.0, len(parents))
    children = np.repeat(parents, family) + (rng.exponential(0.03, family.sum()) * SAMPLE_RATE).astype(int)
    starts = np.concatenate([parents, children])
    sizes = (1 + rng.pareto(1.5, len(starts))).clip(0, 9)
    cracks = pulses_to_wave(n, starts, sizes, kernels, rng.integers(0, count, len(starts)))
    # The mean power of the crackles follows from their rate, so a clip with few of them is not made louder.
    cracks *= decibels(rng.uniform(-9, -3) - 3 * size) * np.sqrt(SAMPLE_RATE / (cracks_hz * 8)) * 0.8
    # Distance and walls dull the crackles.
    cracks = lowpass(cracks, rng.uniform(4000, 10000))
    word = "small" if size < 0.35 else "large" if size > 0.65 else "steady"
    ending = " crackling" if crackle > 0.5 else " burning"
    caption = rng.choice(
        [f"a {word} fire{ending}", f"a {word} fire", f"a fire{ending}", f"the sound of a {word} fire{ending}"]
    )
    return finish(rng, rumble + hiss + cracks, -31 + 8 * size + rng.uniform(-1, 3)), str(caption)


def _vowel_spectrum(hz: np.ndarray, formants: np.ndarray) -> np.ndarray:
    """Complex response of a voice at hz: a cascade of three formant resonances and the tilt of the glottis and lips."""
    s = 1j * hz
    response = 1 / (1 + s / 250)
    for centre, width in zip(formants, (80, 110, 170), strict=True):
        response = response * centre**2 / (s**2 + s * width + centre**2)
    # Parallel floor: a cascade of three alone leaves the top too dark, as the formants above them are missing.
    return response * (1 + s / 1800)


def _voice(rng: np.random.Generator, seconds: float, busy: float) -> tuple[np.ndarray, ...]:
    """Glottal pulses of one speaker: times in s, amplitudes, first and second vowel, mix; and syllable times in s."""
    pace = rng.uniform(3.2, 5.2)
    count = int((seconds + 2) * pace) + 4
    lengths = np.exp(rng.normal(0, 0.25, count)) / pace
    edges = np.cumsum(lengths) - rng.uniform(0.5, 1.5)
    # Phrases and pauses: a slow process over syllables says which of them are spoken.
    turn = np.convolve(rng.standard_normal(count + 5), np.ones(6) / np.sqrt(6), "valid")
    loud = np.exp(rng.normal(0, 0.35, count)) * (turn > -busy)
    vowel = rng.integers(0, len(VOWELS), count + 1)
    pitch = np.exp(rng.normal(0, 0.13, count)) * rng.choice([rng.uniform(85, 140), rng.uniform(160, 250)])
    grid = np.arange(int((seconds + 1) * 200)) / 200 - 0.5
    melody = np.interp(grid, edges, pitch) * (1 + 0.015 * rng.standard_normal(len(grid)))
    turns = np.cumsum(melody) / 200
    times = np.interp(np.arange(int(turns[-1])), turns, grid)
    syllable = (np.searchsorted(edges, times) - 1).clip(0, count - 2)
    x = ((times - edges[syllable]) / lengths[syllable + 1]).clip(0, 1)
    amplitude = loud[syllable] * np.sin(np.pi * x**0.7) ** 1.2
    return times, amplitude, vowel[syllable], vowel[syllable + 1], x, edges[loud > 0]


def crowd(rng: np.random.Generator, seconds: float) -> tuple[np.ndarray, str]:
    """Crowd: many voices, glottal pulses at voice pitch in 3 to 5 Hz syllables, through the formants of vowels."""
    n = round(SAMPLE_RATE * seconds)
    size = rng.uniform()
    speakers = round(6 * 4.5**size)
    kinds = (1.0, 1.17)
    trains = np.zeros((len(kinds), len(VOWELS), n + 1), np.float32)
    flat = trains.reshape(-1)  # np.add.at is quick on one axis and equal types alone
    breaths = []
    for _ in range(speakers):
        times, amplitude, first, second, mix, syllables = _voice(rng, seconds, rng.uniform(0.5, 1.4))
        near = np.exp(rng.normal(0, 0.45))
        at = times * SAMPLE_RATE
        inside = (at >= 0) & (at < n - 1)
        whole = at[inside].astype(int)
        part = at[inside] - whole
        kind = 1 if np.median(np.diff(times)) < 1 / 150 else 0
        for which, weight in ((first, 1 - mix), (second, mix)):
            power = near * (amplitude * weight)[inside]
            # A pulse between two samples is shared by them, else rounding would make the pitch hoarse.
            place = (kind * len(VOWELS) + which[inside]) * (n + 1) + whole
            np.add.at(flat, place, (power * (1 - part)).astype(np.float32))
            np.add.at(flat, place + 1, (power * part).astype(np.float32))
        breaths.append((syllables * SAMPLE_RATE).astype(int))
    length = fft.next_fast_len(n + 12000, real=True)
    hz = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
    coarse = np.arange(0, 12001, 10.0)
    spectrum = np.zeros(len(hz), np.complex64)
    for kind, scale in enumerate(kinds):
        lines = fft.rfft(trains[kind], length)
        for vowel, formants in enumerate(VOWELS):
            response = _vowel_spectrum(coarse, formants * scale * np.exp(rng.normal(0, 0.03, 3)))
            spectrum += lines[vowel] * np.interp(hz, coarse, response).astype(np.complex64)
    voices = unit(fft.irfft(spectrum, length)[:n])
    # Consonants: short bursts of noise at the syllables' starts.
    starts = np.concatenate(breaths)
    bursts = lowpass(impulses(n, starts, np.exp(rng.normal(0, 0.6, len(starts)))), 12, 2).clip(0)
    voices = voices + unit(noise(rng, n, -2, low=2200, high=9000) * bursts) * decibels(rng.uniform(-25, -19))
    # A room: far speakers reach the ear by a tail of decaying noise.
    tail = rng.standard_normal(9600) * np.exp(-np.arange(9600) / (SAMPLE_RATE * rng.uniform(0.04, 0.11)))
    far = fft.irfft(spectrum * fft.rfft(lowpass(tail, 2500).astype(np.float32), length), length)[:n]
    wave = voices + unit(far) * decibels(rng.uniform(-12, -5) + 4 * size)
    wave = unit(bandpass(wave, 110, 9000)) + noise(rng, n, -5, low=80, high=1500) * decibels(-24)
    word = "small" if size < 0.35 else "large" if size > 0.65 else "busy"
    caption = rng.choice(
        [
            f"a {word} crowd",
            f"a {word} crowd talking",
            f"a {word} crowd of people talking",
            f"people talking in a {word} crowd",
        ]
    )
    return finish(rng, wave, -30 + 8 * size + rng.uniform(-2, 3)), str(caption)


def engine(rng: np.random.Generator, seconds: float) -> tuple[np.ndarray, str]:
    """Engine: uneven exhaust pulses at a drifting firing rate of 25 to 120 Hz ring pipe resonances, with gas noise."""
    n = round(SAMPLE_RATE * seconds)
    speed, rough = rng.uniform(size=2)
    firing = 25 * 4.6**speed
    cylinders = int(rng.choice([2, 3, 4, 6]))
    drift = 0.015 + 0.05 * rng.uniform()
    hz = firing * np.exp(drift * smooth_random(rng, n + SAMPLE_RATE, rng.uniform(0.2, 0.6)).clip(-2, 2))
    turns = np.cumsum(hz) / SAMPLE_RATE
    count = int(turns[-1])
    jitter = (0.004 + 0.03 * rough**2) * rng.standard_normal(count)
    at = np.interp(np.arange(count) + jitter, turns, np.arange(len(turns))) - SAMPLE_RATE / 2
    uneven = 1 + (0.08 + 0.35 * rough) * rng.standard_normal(cylinders)
    sizes = uneven[np.arange(count) % cylinders] * (1 + (0.04 + 0.15 * rough) * rng.standard_normal(count))
    line = n + SAMPLE_RATE // 2
    whole = np.floor(at).astype(int) + SAMPLE_RATE // 4
    part = at - np.floor(at)
    pulses = impulses(line, whole, sizes * (1 - part)) + impulses(line, whole + 1, sizes * part)
    # One blow of the exhaust lasts a share of a cycle: its low-pass sets how many harmonics stand out.
    blow = lowpass(lowpass(pulses, firing * rng.uniform(1.5, 3.5)), 700 + 1800 * rng.uniform())
    wave = unit(blow - np.mean(blow))
    base = rng.uniform(90, 170)
    for mode in (1, 2, 3, 5, 8, 12):
        pipe = resonator(blow, base * mode * np.exp(rng.normal(0, 0.06)), rng.uniform(0.006, 0.014) / np.sqrt(mode))
        wave += unit(pipe) * decibels(2 - 1.2 * mode + rng.uniform(-3, 3))
    gust = lowpass(pulses, 1.5 * firing).clip(0)
    gas = noise(rng, line, -5, low=200, high=rng.uniform(2500, 6000)) * (0.3 * np.mean(gust) + gust)
    wave = unit(wave) + unit(gas) * decibels(rng.uniform(-20, -12))
    wave = wave[SAMPLE_RATE // 4 : SAMPLE_RATE // 4 + n]
    pace = "slow" if speed < 0.35 else "fast" if speed > 0.65 else "steady"
    force = rng.uniform()
    volume = "loud" if force > 0.7 else "quiet" if force < 0.25 else pace
    word = rng.choice([pace, "rough" if rough > 0.7 else pace, volume])
    caption = rng.choice(
        [f"a {word} engine", f"a {word} engine running", f"the sound of a {word} engine", f"{word} engine sound"]
    )
    return finish(rng, wave, -29 + 8 * force + rng.uniform(-2, 3)), str(caption)
