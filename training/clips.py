"""The training set's clips by number: recordings and synthesised sounds of sixteen kinds, alone and in pairs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import augment
from .kinds import BEDS, DISTANT, GUESTS, LOUD, NAMES, QUIET, dressed, joined, recorded_caption, renamed
from .recordings import Recording, manifest, read_recording
from .sounds import SAMPLE_RATE, SOUNDS
from .sounds.dsp import unit

MIXTURES = 0.3
# Of a kind's clips, those made of recordings: more where the synthesiser is poor, fewer where recordings are
RECORDED = {
    "rain": 0.65, "wind": 0.7, "waves": 0.6, "stream": 0.9, "fire": 0.75, "crowd": 1.0, "crickets": 0.5, "birds": 0.7,
    "bells": 0.35, "footsteps": 0.95, "thunder": 0.7, "drum": 0.65, "pad": 0.35, "harbour": 0.85, "engine": 0.0,
    "clock": 0.0,
}  # fmt: skip
SPEED = {"drum": 0.2, "pad": 0.25, "bells": 0.25, "thunder": 0.2, "footsteps": 0.12}  # of the others: 0.14
SOFTER = {"clock": -8.0}  # dB: what is made of spikes is as loud as the others at a lower rms
GAP = {"thunder": 4.0, "bells": 1.6}  # seconds between the events of kinds whose short files are one event each
# What the name of a file tells: (adjective, place)
HINTS = {
    "Sand": ("", "on sand"), "Grass": ("", "on grass"), "Gravel": ("", "on gravel"), "Rock": ("", "on stone"),
    "Wood": ("", "on wood"), "dirt": ("", "on dirt"), "Running": ("fast", ""), "Walking": ("slow", ""),
    "river_slow": ("slow", ""), "river_fast": ("fast", ""),
    "snowstorm": ("icy", "in winter"), "windstorm": ("strong", ""), "windgust": ("gusty", ""),
    "windleaves": ("", "in the trees"), "tropical": ("tropical", "in the jungle"), "waverocky": ("", "on rocks"),
    "wavecrash": ("crashing", "on a beach"), "tavern": ("", "in a tavern"), "trade": ("busy", "in a market"),
}  # fmt: skip
LEVELS = {**dict.fromkeys(QUIET, -8.0), **dict.fromkeys(LOUD, 6.0), **dict.fromkeys(DISTANT, -6.0)}


@dataclass(frozen=True)
class Bank:
    """The recordings of every kind: (recording, samples)."""

    sounds: dict[str, list[tuple[Recording, np.ndarray]]]


@dataclass(frozen=True)
class Clip:
    """Samples [n] at the sounds' rate, peak below 0.9; caption; kinds heard in it; recorded: files used."""

    wave: np.ndarray
    caption: str
    kinds: tuple[str, ...]
    recorded: tuple[str, ...] = ()


def read_bank(folder: Path, use: str = "training") -> Bank:
    """The recordings of one use that lie in `folder`."""
    sounds: dict[str, list] = {}
    for recording in manifest():
        if recording.use == use and (folder / recording.name).is_file():
            sounds.setdefault(recording.kind, []).append((recording, read_recording(folder, recording)))
    return Bank(sounds)


def training_clip(number: int, seconds: float, bank: Bank, seed: int = 0) -> Clip:
    """The clip of this number: always the same; of all kinds in turn, and now and then of two of them."""
    rng = np.random.default_rng([seed, number])
    if rng.random() < MIXTURES:
        return _mixture(rng, seconds, bank)
    kind = NAMES[number % len(NAMES)]
    wave, caption, files = _one(rng, kind, seconds, bank)
    level = _said_level(caption)
    if level is None:
        wave, level, said = augment.placed(rng, wave)
        caption = " ".join([*said, caption.removeprefix("a ").removeprefix("an ") if said else caption])
    wave = augment.levelled(rng, wave, level + SOFTER.get(kind, 0.0))
    return Clip(wave, dressed(rng, caption), (kind,), files)


def _said_level(caption: str) -> float | None:
    for word in caption.split():
        if word in LEVELS:
            return augment.LEVEL + LEVELS[word]
    return None


def _mixture(rng: np.random.Generator, seconds: float, bank: Bank) -> Clip:
    bed, guest = str(rng.choice(BEDS)), str(rng.choice(GUESTS))
    below, caption, files = _one(rng, bed, seconds, bank)
    above, heard, more = _one(rng, guest, seconds, bank)
    if rng.random() < 0.35:
        above = augment.at_distance(rng, above)
        heard = f"distant {heard.removeprefix('a ').removeprefix('an ')}"
        ratio_db = rng.uniform(-7, -2)
    else:
        ratio_db = rng.uniform(0, 7)
    wave = unit(below) + unit(above) * 10 ** (ratio_db / 20)
    level = augment.LEVEL + rng.uniform(-1, 1)
    caption = dressed(rng, joined(rng, caption, heard))
    return Clip(augment.levelled(rng, wave, level), caption, (bed, guest), files + more)


def _one(rng: np.random.Generator, kind: str, seconds: float, bank: Bank) -> tuple[np.ndarray, str, tuple[str, ...]]:
    """(wave of unit rms, caption, files) of one kind."""
    recordings = bank.sounds.get(kind, [])
    if not recordings or rng.random() >= RECORDED[kind]:
        wave, caption = SOUNDS[kind](rng, seconds)
        return unit(augment.filtered(rng, wave, 0.7)), renamed(rng, kind, caption), ()
    chosen = _chosen(rng, recordings)
    recording, sound = recordings[chosen]
    spread = SPEED.get(kind, 0.14)
    speed = float(np.exp(rng.uniform(-spread, spread)))
    files = [recording.name]
    if kind in GAP and len(sound) < 8 * SAMPLE_RATE:
        wave = augment.scattered(rng, [unit(augment.at_speed(sound, speed))], seconds, GAP[kind])
    else:
        tries = 6 if kind in GAP else 2  # pauses between the events are no sound of theirs
        wave = augment.excerpt(rng, sound, seconds * speed, kind in augment.REPEATED, tries)
        wave = augment.at_speed(wave, len(wave) / round(seconds * SAMPLE_RATE))
    if rng.random() < 0.15 and kind not in ("drum", "footsteps", "pad"):
        other, second = recordings[_chosen(rng, recordings)]
        files.append(other.name)
        wave = unit(wave) + unit(augment.excerpt(rng, second, seconds)) * 10 ** (rng.uniform(-12, -3) / 20)
    said, place = _hints(recording.path)
    return unit(augment.filtered(rng, wave, 1.0)), recorded_caption(rng, kind, said, place), tuple(files)


def _chosen(rng: np.random.Generator, recordings: list) -> int:
    """A recording, long ones more often: by the root of their length."""
    weights = np.sqrt([len(sound) for _, sound in recordings])
    return int(rng.choice(len(recordings), p=weights / weights.sum()))


def _hints(path: str) -> tuple[tuple[str, ...], str]:
    said, places = [], [""]
    for part, (adjective, place) in HINTS.items():
        if part in path:
            said += [adjective] if adjective else []
            places += [place] if place else []
    return tuple(said), places[-1]
