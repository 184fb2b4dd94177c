"""The training set: captioned log-mel spectrograms of clips, made once and kept beside the host's data."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..safa_core.sound.mel import MelScale
from .clips import Bank, read_bank, training_clip
from .sounds import SAMPLE_RATE

MEL = MelScale(sample_rate=SAMPLE_RATE, bins=64, hop=240, fmin=0.0, fmax=12000.0)
SECONDS = 8.0  # of a clip; a training window is cut out of it
FRAMES = round(SECONDS * SAMPLE_RATE / MEL.hop)
CHUNK = 32  # clips per task
WAVES = 1600  # of the clips: those whose samples are kept too, for the vocoder; the autoencoder learns from them alone


@dataclass(frozen=True)
class ClipSet:
    """mels: float16 [N, FRAMES, 64], ln; captions: N of them; waves: int16 [M, samples] of the first M clips."""

    mels: np.ndarray
    captions: list[str]
    waves: np.ndarray

    def first(self, count: int) -> ClipSet:
        """The first `count` clips."""
        return ClipSet(self.mels[:count], self.captions[:count], self.waves[:count])


def clip_set(folder: Path, count: int, recordings: Path | None = None, workers: int | None = None) -> ClipSet:
    """The first `count` clips, made where they are not in `folder` yet.

    recordings: their folder; None for synthesised sounds alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = (f"mels_{count}.npy", f"waves_{count}.npy", f"clips_{count}.json")
    mels_file, waves_file, words_file = (folder / name for name in names)
    if not words_file.is_file():
        shapes = {mels_file: (count, FRAMES, MEL.bins), waves_file: (min(count, WAVES), FRAMES * MEL.hop)}
        kinds = {mels_file: np.float16, waves_file: np.int16}
        files = {f: np.lib.format.open_memmap(f, mode="w+", dtype=kinds[f], shape=shapes[f]) for f in shapes}
        clips = []
        with ProcessPoolExecutor(workers, initializer=_start, initargs=(recordings,)) as pool:
            for start, (mels, waves, told) in zip(range(0, count, CHUNK), pool.map(_made, _ranges(count)), strict=True):
                files[mels_file][start : start + len(mels)] = mels
                files[waves_file][start : start + len(waves)] = waves[: max(0, WAVES - start)]
                clips += told
        for file in files.values():
            file.flush()
        words_file.write_text(json.dumps(clips), encoding="utf-8")  # last: its presence says that all is there
    captions = [caption for caption, _ in json.loads(words_file.read_text(encoding="utf-8"))]
    return ClipSet(np.load(mels_file, mmap_mode="r"), captions, np.load(waves_file, mmap_mode="r"))


def _ranges(count):
    return [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]


_bank = Bank({})


def _start(recordings: Path | None) -> None:
    """Of every process that makes clips: the recordings are read once."""
    global _bank
    torch.set_num_threads(1)
    if recordings is not None:
        _bank = read_bank(recordings)


def _made(numbers) -> tuple[np.ndarray, np.ndarray, list[tuple[str, tuple[str, ...]]]]:
    clips = [training_clip(number, SECONDS, _bank) for number in numbers]
    waves = torch.from_numpy(np.stack([clip.wave for clip in clips]))
    mels = MEL.spectrogram(waves).numpy().astype(np.float16)
    return mels, (waves.numpy() * 32767).astype(np.int16), [(clip.caption, clip.kinds) for clip in clips]
