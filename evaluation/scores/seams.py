"""Where views of a sound meet, against its own middles: the step between two samples, and the change of spectrum.

1 is no seam. The pieces are centred on what is measured: on a ring its loop point, on an open canvas every overlap, and
on either the middles of the views.
"""

from __future__ import annotations

from pathlib import Path

import torch

from .interface import Measures, Samples, Score

SEAM, MIDDLE = 0, 1  # canvases of the pieces
BLOCK = 0.05  # seconds before and after, whose spectra are compared
BANDS = 24
DEPTH = 1e-8  # power below the loudest, -80 dB, that counts as silence


def pieces_at(sound: torch.Tensor, places: list[int], length: int) -> torch.Tensor:
    """Pieces [n, length] of a sound [samples], around its ends, each centred on a place."""
    around = torch.arange(length) - length // 2
    return torch.stack([sound[(place + around) % len(sound)] for place in places])


def jumps(pieces: torch.Tensor) -> torch.Tensor:
    """The step in the middle of each piece [n, samples], in the pieces' own loudness: [n]."""
    middle = pieces.shape[1] // 2
    return (pieces[:, middle] - pieces[:, middle - 1]).abs() / pieces.square().mean().sqrt().clamp_min(1e-8)


def changes(pieces: torch.Tensor, rate: int) -> torch.Tensor:
    """Root-mean-square difference in dB of the bands' levels before and after the middle of each piece: [n]."""
    block = round(BLOCK * rate)
    middle = pieces.shape[1] // 2
    both = torch.stack([pieces[:, middle - block : middle], pieces[:, middle : middle + block]])
    power = torch.fft.rfft(both.double() * torch.hann_window(block, dtype=torch.float64)).abs().square()
    edges = torch.logspace(0, torch.tensor(float(power.shape[-1])).log10().item(), BANDS + 1).round().long()
    bands = [power[..., first:last].sum(-1) for first, last in zip(edges, edges[1:], strict=False) if last > first]
    level = torch.stack(bands, -1)
    level = 10 * torch.log10(level.clamp_min(DEPTH * float(level.max()) + 1e-20))
    return (level[0] - level[1]).square().mean(-1).sqrt()


def against_middles(samples: Samples, models: Path) -> Measures:
    """describe(): one row [2, 2] of a canvas: jump and change, each at its seams and in its middles."""
    values = torch.stack([jumps(samples.windows), changes(samples.windows, samples.sample_rate)])
    means = [values[:, samples.canvases[part]].mean(1) for part in (SEAM, MIDDLE)]
    return Measures(torch.stack(means, 1)[None], samples.prompts[:1], (0,))


def _ratio(which: int):
    def value(generated: Measures, real: Measures | None = None) -> float:
        """Mean at the seams over mean in the middles."""
        seam, middle = generated.rows[:, which].double().mean(0)
        return float(seam / middle)

    return value


def _error(which: int):
    def error(generated: Measures, real: Measures | None = None) -> float | None:
        """Standard error: the jackknife, without one canvas each time."""
        rows = generated.rows[:, which].double()
        if len(rows) < 2:
            return None
        left = (rows.sum(0) - rows) / (len(rows) - 1)
        ratios = left[:, SEAM] / left[:, MIDDLE]
        return float(((len(rows) - 1) * (ratios - ratios.mean()).square().mean()).sqrt())

    return error


def _score(name: str, title: str, which: int) -> Score:
    measure = (lambda models: None, against_middles, _ratio(which))
    return Score(
        name, title, "audio", "lower", False, *measure, windows="joints", within=True, error=_error(which), form=".3f"
    )


SCORES = (_score("jump@seam", "jump↓", 0), _score("change@seam", "change↓", 1))
