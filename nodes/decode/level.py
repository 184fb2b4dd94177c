"""One gain for a whole sound, so that no file of it clips: dynamics and loops stay as they are."""

from __future__ import annotations

import math

import torch

LEVELS = ("limit", "normalise", "leave")
LOUDEST = 0.99  # of a sound that was given a gain
QUIETEST = 1e-4  # peak below which a sound is silence, which no gain makes audible (-80 dB)


def peaks(sound: torch.Tensor) -> torch.Tensor:
    """Of sounds [B, channels, samples]: [B]."""
    return sound.abs().amax(dim=(1, 2))


def gains(peak: torch.Tensor, level: str) -> torch.Tensor:
    """The gain of each sound, [B], by its peak.

    level: "limit" for sounds beyond ±1 alone, "normalise" for all but silent ones, or "leave".
    """
    needed = {"limit": peak > 1, "normalise": peak > QUIETEST, "leave": torch.zeros_like(peak, dtype=torch.bool)}
    return torch.where(needed[level], LOUDEST / peak.clamp_min(QUIETEST), 1.0)


def levelled(sound: torch.Tensor, level: str) -> tuple[torch.Tensor, list[str]]:
    """(sounds [B, channels, samples] with their gains, lines that say so); the sounds themselves where all are 1."""
    peak = peaks(sound)
    gain = gains(peak, level)
    if (gain != 1).any():
        sound = sound * gain[:, None, None]
    return sound, describe(peak, gain)


def describe(peak: torch.Tensor, gain: torch.Tensor) -> list[str]:
    """What was done to sounds of these peaks, for a node; a warning for one that is left beyond ±1."""
    lines = []
    for loudest, factor in zip(peak.tolist(), gain.tolist(), strict=True):
        if factor != 1:
            lines.append(f"peak {loudest:.3g}: one gain of {20 * math.log10(factor):+.1f} dB for the whole sound")
        elif loudest > 1:
            lines.append(f"warning: peak {loudest:.3g}, which 16- and 24-bit files clip; choose `level` limit")
    return list(dict.fromkeys(lines))
