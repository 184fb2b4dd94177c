"""Sound as the backbones want it."""

from __future__ import annotations

from math import gcd

import torch

from ...safa_core.sound.mel import MelScale

SHORTEST, LONGEST = 1.0, 11.0  # seconds: the classifiers know clips of 10 s
MEL = MelScale(sample_rate=16000, bins=64, hop=160, fmin=0, fmax=8000)  # AudioLDM's


def at_rate(windows: torch.Tensor, rate: int, wanted: int, longest: float = LONGEST) -> torch.Tensor:
    """Windows [N, samples] resampled from `rate` to `wanted` Hz; ValueError for windows too short or too long."""
    seconds = windows.shape[1] / rate
    if not SHORTEST <= seconds <= longest:
        wanted_seconds = f"{SHORTEST:g} to {longest:g} s" if longest < float("inf") else f"at least {SHORTEST:g} s"
        raise ValueError(f"expected windows of {wanted_seconds}, got {seconds:.2f} s: cut the canvas accordingly.")
    return resampled(windows, rate, wanted)


def resampled(sound: torch.Tensor, rate: int, wanted: int) -> torch.Tensor:
    """Sound [..., samples] at `rate` Hz as float32 [..., ceil(samples * wanted / rate)] at `wanted` Hz."""
    if rate == wanted:
        return sound.float()
    from scipy.signal import resample_poly

    shared = gcd(rate, wanted)
    samples = resample_poly(sound.float().cpu().numpy(), wanted // shared, rate // shared, axis=-1)
    return torch.from_numpy(samples).to(sound.device)


def mel_pictures(windows: torch.Tensor, rate: int) -> torch.Tensor:
    """Windows [N, samples] of one canvas as grey pictures [N, 3, bins, frames] in 0 ... 1 of AudioLDM's ln mel.

    0 is the quietest place of all these windows, 1 the loudest; the paper does not say what range it used.
    """
    sound = at_rate(windows, rate, MEL.sample_rate, float("inf"))
    mel = MEL.spectrogram(sound[:, : sound.shape[1] // MEL.hop * MEL.hop]).transpose(1, 2)
    low, high = mel.amin(), mel.amax()
    return ((mel - low) / (high - low).clamp_min(1e-8))[:, None].expand(-1, 3, -1, -1)
