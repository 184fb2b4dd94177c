"""Spectrum Report: Fig. 2(b) for any latent and plan, seams, and R² of the linear map of Eq. 5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from comfy_api.latest import io

from ...safa_core.measures.linear_map import downsample, fit_linear_map
from ...safa_core.measures.spectrum import (
    LEAST,
    Measured,
    Seams,
    centre_spectrum,
    compared_width,
    measure,
    middle_regions,
    overlap_regions,
)
from ..canvas import Canvas
from ..errors import named
from ..mel_vae import check_latent, mel_vae, vae_kind
from ..node_text import show_preview
from ..sockets import CATEGORY, SaFaPlan
from .record_steps import Recorder, SaFaSteps, Step
from .spectrum_picture import spectrum_picture

NAME = "Spectrum Report"
FITTED = 4  # views that the linear map is fitted on, spread over the canvas
NO_PICTURE = "this VAE makes neither pictures nor mel spectrograms, which Eq. 5 is about; leave `vae` free."


def check(samples: torch.Tensor, canvas: Canvas) -> None:
    """Refuse a latent in which this plan has nothing to compare (ValueError)."""
    canvas.check(samples)
    if len(canvas.plan) == 1:
        raise ValueError(
            "the plan has a single view, so there is no overlap to compare with a middle; plan a canvas of "
            "two views or more."
        )
    if samples.shape[1] != canvas.shape[0]:
        raise ValueError(
            f"the latent has {samples.shape[1]} channels, but the plan is for a model with {canvas.shape[0]}; "
            "connect the plan that the latent was made with."
        )
    _check_finite(samples, "latent")


def _check_finite(samples: torch.Tensor, what: str) -> None:
    if not samples.numel():
        raise ValueError(f"the {what} {list(samples.shape)} is empty; there is nothing to measure.")
    if not torch.isfinite(samples).all():
        raise ValueError(f"the {what} holds NaN or infinity; look at the sampler that made it.")


def check_reference(reference: torch.Tensor, samples: torch.Tensor, canvas: Canvas) -> None:
    """Refuse a reference of another kind than the latent, or narrower than the compared regions (ValueError)."""
    axis = canvas.axis_in(samples)
    width = max(1, compared_width(canvas.plan))
    same_kind = reference.ndim == samples.ndim and _sizes_across(reference, axis) == _sizes_across(samples, axis)
    if not same_kind or reference.shape[axis] < width:
        raise ValueError(
            f"expected a reference like the latent {list(samples.shape)}, of any batch and of {width} columns "
            f"or more along dimension {axis}, got {list(reference.shape)}; connect SaFa Sampler's reference, or a "
            "latent of the same model."
        )
    _check_finite(reference, "reference")


def _sizes_across(samples: torch.Tensor, axis: int) -> list[int]:
    """The sizes of a latent but those of batch and long axis."""
    return [size for dimension, size in enumerate(samples.shape) if dimension not in (0, axis)]


@torch.no_grad()
def linear_map_r2(vae: Any, samples: torch.Tensor, canvas: Canvas) -> float:
    """R² of Eq. 5, X downsampled = W · Z, on views of the first latent of a batch, which the VAE decodes.

    The share of variance that a least-squares W and a constant explain, of all colours (or mel bins, for latents
    without rows) together. Of a video, the first frame.
    """
    count = min(FITTED, len(canvas.plan))
    picked = [canvas.plan.indices(i * len(canvas.plan) // count) for i in range(count)]
    axis = canvas.axis_in(samples)
    views = torch.cat([samples[:1].index_select(axis, columns.to(samples.device)) for columns in picked])
    if views.ndim == 5:
        views = views[:, :, :1]
    if mel_vae(vae) is not None:
        decoded = vae.latent_to_mel(views).float().cpu()
        layers = [decoded] if views.ndim == 4 else list(decoded.unsqueeze(2).unbind(3))
    else:
        decoded = vae.decode(views).float().cpu()
        layers = list(decoded.reshape(-1, *decoded.shape[-3:]).unbind(-1))
    _check_finite(decoded, "picture that the VAE made")
    rows_and_columns = views.shape[-2:] if views.ndim > 3 else (views.shape[2], 1)
    places = views.reshape(*views.shape[:2], *rows_and_columns)
    unexplained = total = 0.0
    for layer in layers:
        values = downsample(layer.double(), *places.shape[2:])
        spread = float((values - values.mean()).square().sum())
        if spread > 0:
            unexplained += (1 - fit_linear_map(places, layer).r2) * spread
            total += spread
    if not total:
        raise ValueError("the VAE decodes this latent to one even colour, which has no variance to explain.")
    return 1 - unexplained / total


@dataclass(frozen=True)
class Findings:
    """All that the report shows of a latent.

    measured: spectra and seams of the latent. reference: the spectrum [bins] of the reference, None without one.
    steps: spectra and seams of recorded steps. r2: of the linear map, None without a VAE.
    """

    measured: Measured
    reference: torch.Tensor | None
    steps: tuple[Step, ...]
    r2: float | None


@named(NAME)
def examine(
    samples: torch.Tensor,
    canvas: Canvas,
    vae: Any = None,
    reference: torch.Tensor | None = None,
    steps: Recorder | None = None,
) -> Findings:
    """Measure a latent [B, C, ...]; refuses what does not belong together, by the node's name (ValueError)."""
    check(samples, canvas)
    if reference is not None:
        check_reference(reference, samples, canvas)
    if vae is not None:
        if vae_kind(vae) not in ("mel", "picture"):
            raise ValueError(NO_PICTURE)
        check_latent(vae, samples)
    recorded = () if steps is None else steps.steps_to(samples, canvas)
    axis = canvas.axis_in(samples)
    measured = measure(samples, canvas.plan, axis)
    spectrum = None
    if reference is not None and measured.width:
        spectrum = centre_spectrum(reference, axis, measured.width)
    r2 = None if vae is None else linear_map_r2(vae, samples, canvas)
    return Findings(measured, spectrum, recorded, r2)


def figures(canvas: Canvas, findings: Findings) -> str:
    """All numbers as text, a line each."""
    measured = findings.measured
    lines = [
        _describe_regions(canvas, measured, findings.reference),
        *_describe_deficits(measured, findings.reference),
        _describe_seams(canvas, measured.seams),
    ]
    if findings.r2 is not None:
        lines.append(f"linear map of Eq. 5 on this latent's views: R² {findings.r2:.3f}")
    for step in findings.steps:
        lines.append(f"step {step.number} of {step.total}: {_describe_step(step.measured)}")
    return "\n".join(lines)


def _describe_regions(canvas: Canvas, measured: Measured, reference: torch.Tensor | None) -> str:
    views = canvas.plan
    overlaps = overlap_regions(views)
    middles = middle_regions(views)
    if not overlaps:
        return "views do not overlap: no spectra, the seam score alone"
    parts = [f"{len(overlaps)} overlaps and {len(middles)} middles"]
    if measured.width:
        parts[0] += f", {measured.width} latent columns of each"
    else:
        narrowest = min(width for _, width in overlaps)
        parts.append(f"no spectra: overlaps of {narrowest} latent columns, {LEAST} are needed")
    if not middles:
        parts.append("no middles: every column is in two views or more, as at overlaps above 0.5")
    elif max(views.overlaps) * 2 > views.view and not views.loop:
        parts.append("overlaps above 0.5 leave middles at the canvas's ends only")
    if measured.width and middles and measured.middle is None:
        narrowest = min(width for _, width in middles)
        parts.append(f"middles of {narrowest} latent columns are too narrow for a spectrum")
    if measured.width and measured.middle is None and reference is None:
        parts.append("connect a `reference` to compare with")
    return "; ".join(parts)


def _describe_deficits(measured: Measured, reference: torch.Tensor | None) -> list[str]:
    if measured.overlap is None:
        return []
    deficits = {}
    if measured.middle is not None:
        deficits["middles"] = measured.deficit()
    if reference is not None:
        deficits["reference"] = measured.deficit(reference)
    return [
        f"high-frequency deficit of the overlaps against the {what}: relative {_spread(deficit['relative'])}, absolute "
        f"{_spread(deficit['absolute'])}"
        for what, deficit in deficits.items()
    ]


def _spread(values: torch.Tensor) -> str:
    mean = f"{float(values.mean()):.2f} dB"
    return mean if len(values) == 1 else f"{mean} ({float(values.min()):.2f} to {float(values.max()):.2f})"


def _describe_seams(canvas: Canvas, seams: Seams) -> str:
    if seams.score is None and seams.closing is None:
        return "no seam score: a view begins or ends at every column"
    parts = []
    if seams.score is not None:
        worst = max(range(len(seams.scores)), key=lambda i: seams.scores[i])
        column = seams.columns[worst]
        unit = "" if canvas.unit == "latent" else f", {column * canvas.scale:.5g} {canvas.unit}"
        parts.append(
            f"seam score {seams.score:.3f} (1 = no seam) over {len(seams.scores)} borders of views, largest "
            f"{seams.scores[worst]:.3f} at latent column {column}{unit}"
        )
    if seams.closing is not None:
        parts.append(f"the loop's end meets its start at {seams.closing:.3f}")
    return "; ".join(parts)


def _describe_step(measured: Measured) -> str:
    parts = []
    if measured.middle is not None:
        deficit = measured.deficit()
        parts.append(f"deficit relative {_spread(deficit['relative'])}, absolute {_spread(deficit['absolute'])}")
    if measured.seams.score is not None:
        parts.append(f"seam score {measured.seams.score:.3f}")
    if measured.seams.closing is not None:
        parts.append(f"loop's end {measured.seams.closing:.3f}")
    return ", ".join(parts) or "nothing to compare"


class SaFaSpectrumReport(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaFaSpectrumReport",
            display_name=NAME,
            category=CATEGORY,
            description="What a join did to a canvas, Fig. 2(b) of the paper for any latent: Fourier spectra of the "
            "overlaps against the middles of the views, what overlaps lack at high frequencies in dB (averages lose "
            "detail there, swaps keep it), and a seam score.",
            search_aliases=["safa", "fourier", "fft", "seam score", "high frequency", "frequency analysis", "quality"],
            is_output_node=True,
            inputs=[
                io.Latent.Input("latent", tooltip="The finished canvas; a batch is measured together."),
                SaFaPlan.Input("plan", tooltip="The plan that the latent was made with, of two views or more."),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="The model's VAE, for pictures or mel spectrograms: R² of the linear map between them and "
                    "the latent (Eq. 5) is reported too.",
                ),
                io.Latent.Input(
                    "reference",
                    optional=True,
                    tooltip="What the overlaps are compared with besides the middles: SaFa Sampler's reference, or any "
                    "latent of the same model, whose centre is taken. Overlaps above 0.5 leave no middles, only this.",
                ),
                SaFaSteps.Input(
                    "steps", optional=True, tooltip="From Record Steps: the same figures while this latent was sampled."
                ),
            ],
            outputs=[
                io.Image.Output(display_name="plot", tooltip="Spectra, their difference, and the seams."),
                io.String.Output(display_name="figures", tooltip="All numbers, a line each."),
            ],
        )

    @classmethod
    def execute(
        cls,
        latent: dict,
        plan: Canvas,
        vae: Any = None,
        reference: dict | None = None,
        steps: Recorder | None = None,
    ) -> io.NodeOutput:
        canvas = plan
        findings = examine(latent["samples"], canvas, vae, None if reference is None else reference["samples"], steps)
        text = figures(canvas, findings)
        plot = spectrum_picture(canvas, findings.measured, findings.reference, findings.steps)
        return io.NodeOutput(plot, text, ui=show_preview(cls, plot, text))
