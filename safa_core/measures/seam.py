"""Where the two ends of a loop meet: rolled into the middle, and measured."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..plan import ViewPlan
from .spectrum import REACH, planes, seams

LEAST = 2 * REACH + 2  # columns of a ring, so that REACH steps on either side of the seam differ
BLOCK = 0.05  # seconds of a spectrum
NEAR = 0.01  # seconds on either side of a jump
AUDIBLE = 1.0  # dB, about the least change of level that is heard
SHORTEST = 16  # samples of a block
BANDS = 24  # per spectrum, equally wide in log frequency
DEPTH = 1e-8  # power below the loudest, -80 dB, that counts as silence


def roll_half(ring: torch.Tensor, axis: int) -> torch.Tensor:
    """A loop that begins in its middle: what were its ends meet at length // 2. Same shape."""
    return ring.roll(ring.shape[axis] // 2, axis)


def picture_seam(image: torch.Tensor, axis: int) -> float:
    """The step where a picture's ends meet over the steps beside it; 1 is no seam.

    image: [B, H, W, C]; axis: 1 (top meets bottom) or 2 (right meets left), of at least LEAST pixels (ValueError).
    A step is the mean absolute difference of neighbouring columns, as in `spectrum.seams`.
    """
    length = image.shape[axis]
    if length < LEAST:
        raise ValueError(f"Expected a picture of at least {LEAST} pixels along the loop, got {length}.")
    closing = seams(planes(image.movedim(-1, 1), axis + 1), ViewPlan((0,), length, length, loop=True)).closing
    assert closing is not None  # LEAST pixels leave steps beside the seam
    return closing


@dataclass(frozen=True)
class SoundSeam:
    """How a sound's end meets its start; 1 or less is no seam.

    click:  the jump from the last sample to the first, over the largest other jump within NEAR seconds.
    change: the distance in dB between the spectra before and after the seam, over the mean distance of neighbouring
            blocks, REACH of them on either side, or over AUDIBLE where that is more.
    """

    click: float
    change: float

    @property
    def score(self) -> float:
        return max(self.click, self.change)


def sound_seam(waveform: torch.Tensor, sample_rate: int) -> SoundSeam:
    """Measure the seam of a looped sound [B, channels, samples]; sample_rate in Hz.

    The click is the worst of all channels, the change their mean. Raises ValueError for sounds too short to compare.
    """
    half = LEAST // 2
    least = LEAST * SHORTEST
    samples = waveform.shape[-1]
    if samples < least:
        raise ValueError(f"Expected a sound of at least {least} samples, got {samples}.")
    sound = waveform.detach().cpu().double()
    block = min(max(SHORTEST, round(BLOCK * sample_rate)), samples // LEAST)
    beside = torch.cat([sound[..., -half * block :], sound[..., : half * block]], -1).unflatten(-1, (LEAST, block))
    return SoundSeam(_click(sound, sample_rate), _change(_bands(beside)))


def _change(spectra: torch.Tensor) -> float:
    """SoundSeam.change of spectra [B, channels, blocks, bands] in dB, half of them before the seam, half after."""
    steps = spectra.diff(dim=2).abs().mean((0, 1, 3))
    middle = len(steps) // 2
    beside = torch.cat([steps[:middle], steps[middle + 1 :]]).mean()
    return float(steps[middle] / beside.clamp_min(AUDIBLE))


def _click(sound: torch.Tensor, sample_rate: int) -> float:
    """SoundSeam.click of a sound [B, channels, samples]."""
    near = min(max(REACH, round(NEAR * sample_rate)), sound.shape[-1] // 2 - 1)
    jumps = torch.cat([sound[..., -near - 1 :], sound[..., : near + 1]], -1).diff().abs()
    step = jumps[..., near].clone()
    jumps[..., near] = 0
    largest = jumps.amax(-1)
    return float(torch.where(step == 0, 0.0, step / largest).max())


def _bands(blocks: torch.Tensor) -> torch.Tensor:
    """Spectra of blocks of sound in dB, Hann window: [..., samples] -> [..., bands]."""
    window = torch.hann_window(blocks.shape[-1], dtype=blocks.dtype)
    power = torch.fft.rfft(blocks * window).abs().square()
    edges = torch.logspace(0, 1, BANDS + 1, base=power.shape[-1], dtype=torch.float64).round().long().unique()
    bands = torch.stack([power[..., a:b].mean(-1) for a, b in zip(edges, edges[1:], strict=False)], -1)
    loudest = bands.max()
    return 10 * torch.log10(bands.clamp_min(DEPTH * loudest)) if loudest > 0 else torch.zeros_like(bands)
