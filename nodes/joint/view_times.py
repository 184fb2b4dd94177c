"""Time-dependent conditioning (seconds, reference audio, audio codes), cut to each view.

What is no longer than one view describes a clip, and every view gets all of it; what is longer describes the canvas.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from comfy.conds import CONDRegular

from ...safa_core import ViewPlan

REFERENCE_AUDIO = "reference_audio_timbre_latents"  # cond key of the host's Set Reference Audio (ACE-Step 1.5)
ROUNDING = 1.0  # the host itself writes whole seconds
CODE_COLUMNS = 5  # ACE-Step 1.5: latent columns (25 Hz) that one audio code (5 Hz) covers
NO_CODE = 35847  # what the host fills up with after the last audio code


def times_of_views(cond: dict, plan: ViewPlan, scale: float, encode: Callable[[list[dict]], list[dict]]) -> list[dict]:
    """The model conds of every view that differ from those of a clip of the view's length; empty where none do.

    cond: processed for the canvas. scale: seconds per latent column. encode: gives a list of conds encoded for one
    view's size.
    """
    columns = [plan.indices(i) for i in range(len(plan))]
    if cond.get("seconds_total", 0) > plan.view * scale + ROUNDING:
        encoded = encode([_from(cond, start * scale) for start in plan.starts])
        return [view["model_conds"] for view in encoded]
    whole = cond["model_conds"]
    if _longer(cond.get(REFERENCE_AUDIO), plan.view) and "refer_audio" in whole:
        audio = whole["refer_audio"].cond
        return [{"refer_audio": CONDRegular(audio.index_select(2, c.to(audio.device)))} for c in columns]
    if "audio_codes" in whole and whole["audio_codes"].cond.shape[1] * CODE_COLUMNS > plan.view:
        codes = whole["audio_codes"].cond
        return [{"audio_codes": CONDRegular(codes_in(codes, c.to(codes.device)))} for c in columns]
    return []


def _from(cond: dict, seconds: float) -> dict:
    """Stable Audio: a window that begins so much later in the same piece (its training saw crops of longer files)."""
    return {**cond, "seconds_start": cond.get("seconds_start", 0) + seconds}


def _longer(latents: list[torch.Tensor] | None, columns: int) -> bool:
    return latents is not None and len(latents) > 0 and latents[-1].shape[2] > columns


def codes_in(codes: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Audio codes [B, N] of the canvas for a window of these columns: the code under the middle of each five.

    Where a window does not begin at a multiple of five columns its codes lie up to two columns (0.08 s) off.
    """
    middles = torch.arange(0, len(columns), CODE_COLUMNS, device=codes.device) + CODE_COLUMNS // 2
    places = columns[middles.clamp(max=len(columns) - 1)] // CODE_COLUMNS
    filled = torch.nn.functional.pad(codes, (0, max(0, int(places.max()) + 1 - codes.shape[1])), value=NO_CODE)
    return filled[:, places]
