"""The training set: captioned log-mel spectrograms of synthesised clips, made once and kept beside the host's data."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..safa_core.sound.mel import MelScale
from .sounds import SAMPLE_RATE, clip

MEL = MelScale(sample_rate=SAMPLE_RATE, bins=64, hop=160, fmin=0.0, fmax=8000.0)  # AudioLDM's
SECONDS = 8.0  # of a clip; a training window is cut out of it
FRAMES = round(SECONDS * SAMPLE_RATE / MEL.hop)
MIXTURES = 0.3
CHUNK = 50  # clips per task


@dataclass(frozen=True)
class ClipSet:
    """mels: float16 [N, FRAMES, 64], natural logarithm; captions: N of them."""

    mels: np.ndarray
    captions: list[str]


def clip_set(folder: Path, count: int, workers: int | None = None) -> ClipSet:
    """The first `count` clips of the stream "training", made where they are not in `folder` yet."""
    folder.mkdir(parents=True, exist_ok=True)
    mels_file, captions_file = folder / f"mels_{count}.npy", folder / f"captions_{count}.json"
    if not captions_file.is_file():
        captions = []
        mels = np.lib.format.open_memmap(mels_file, mode="w+", dtype=np.float16, shape=(count, FRAMES, MEL.bins))
        with ProcessPoolExecutor(workers) as pool:
            for start, (part, texts) in zip(range(0, count, CHUNK), pool.map(_made, _ranges(count)), strict=True):
                mels[start : start + len(part)] = part
                captions += texts
        mels.flush()
        captions_file.write_text(json.dumps(captions), encoding="utf-8")  # last: its presence says that all is there
    return ClipSet(np.load(mels_file, mmap_mode="r"), json.loads(captions_file.read_text(encoding="utf-8")))


def _ranges(count):
    return [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]


def _made(numbers) -> tuple[np.ndarray, list[str]]:
    torch.set_num_threads(1)
    clips = [clip("training", number, SECONDS, MIXTURES) for number in numbers]
    waves = torch.from_numpy(np.stack([c.wave for c in clips]))
    return MEL.spectrogram(waves).numpy().astype(np.float16), [c.caption for c in clips]
