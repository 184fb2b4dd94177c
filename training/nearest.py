"""Whether sounds are copies: the training clip that each of them is most like, at the offset where it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch
from scipy.signal import resample_poly

from .data import MEL, ClipSet

WINDOW = 256  # frames of a sound that are looked for: 2.56 s, its middle
CHUNK = 64  # clips at once


def likeness(windows: torch.Tensor, clips: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows [N, T, bins] against clips [M, longer, bins]: (correlation [N], number of the clip [N]).

    The largest correlation coefficient over clips and offsets, of log-mels without every band's own mean, so that
    neither level nor colour counts: 1 for a copy, about 0 for two sounds that share their spectrum alone.
    """
    windows = windows - windows.mean(1, keepdim=True)
    windows = windows / windows.square().sum((1, 2), keepdim=True).sqrt()
    count, size = windows.shape[1], clips.shape[1]
    shapes = torch.fft.rfft(windows, size, dim=1).conj()
    best, which = torch.full((len(windows),), -1.0), torch.zeros(len(windows), dtype=torch.long)
    for start in range(0, len(clips), CHUNK):
        part = torch.from_numpy(np.array(clips[start : start + CHUNK], dtype=np.float32))
        sums, squares = (_running(values, count) for values in (part, part.square()))
        energy = (squares - sums.square() / count).sum(2).clamp_min(1e-6).sqrt()  # of every piece without its means
        spectra = torch.fft.rfft(part, dim=1)
        for number, shape in enumerate(shapes):
            products = torch.fft.irfft((spectra * shape).sum(2), size, dim=1)[:, : size - count + 1]
            found = (products / energy).amax(1)
            if found.max() > best[number]:
                best[number], which[number] = found.max(), start + found.argmax()
    return best, which


def _running(values: torch.Tensor, count: int) -> torch.Tensor:
    """Sums of `count` neighbours along time, [M, T, bins] -> [M, T - count + 1, bins]."""
    total = torch.nn.functional.pad(values.double().cumsum(1), (0, 0, 1, 0))
    return (total[:, count:] - total[:, :-count]).float()


def report(sounds: list[Path], clips: ClipSet) -> list[str]:
    """One line for each sound file: how like a training clip it is, and the caption of that clip."""
    windows = torch.stack([_window(file) for file in sounds])
    best, which = likeness(windows, clips.mels)
    rows = zip(sounds, best.tolist(), which.tolist(), strict=True)
    return [f"{likest:.3f}  {file.name}: clip {number}, {clips.captions[number]}" for file, likest, number in rows]


def _window(file: Path) -> torch.Tensor:
    """The middle frames of a sound file, [WINDOW, bins]."""
    wave, rate = soundfile.read(file, dtype="float32", always_2d=True)
    common = np.gcd(rate, MEL.sample_rate)
    mono = torch.from_numpy(resample_poly(wave.mean(1), MEL.sample_rate // common, rate // common)).float()
    frames = len(mono) // MEL.hop
    if frames < WINDOW:
        least = WINDOW * MEL.hop / MEL.sample_rate
        raise ValueError(f"{file} lasts {len(mono) / MEL.sample_rate:.1f} s; expected at least {least:.2f} s.")
    mel = MEL.spectrogram(mono[None, : frames * MEL.hop])[0]
    start = (frames - WINDOW) // 2
    return mel[start : start + WINDOW]
