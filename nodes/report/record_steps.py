"""Record Steps: the spectra of overlaps and middles while the host samples, for Spectrum Report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from comfy_api.latest import io

from ...safa_core.measures.spectrum import Measured, measure
from ..canvas import Canvas, check_single
from ..errors import named
from ..sockets import CATEGORY, SaFaPlan

NAME = "Record Steps"
KEY = "safa_record"
KEPT = ["prediction", "latent"]
SaFaSteps = io.Custom("SAFA_STEPS")


@dataclass(frozen=True)
class Step:
    """number: of the step, from 1. total: steps of the sampling. measured: the canvas there."""

    number: int
    total: int
    measured: Measured


class Recorder:
    """Measures the canvas at every `every`th step and the last, of the latest sampling with its model.

    kept: one of KEPT. Keeps spectra, which are a few numbers per step, and not the canvas, which may be long.
    """

    def __init__(self, canvas: Canvas, every: int, kept: str):
        self.canvas = canvas
        self.every = every
        self.kept = kept
        self.steps: tuple[Step, ...] = ()
        self._end: torch.Tensor | None = None  # the middle column of the finished latent

    def install(self, model: ModelPatcher) -> ModelPatcher:
        """A clone of the host's MODEL that is recorded."""
        patched = model.clone()
        patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, self.outer_sample)
        return patched

    def outer_sample(
        self,
        executor: Any,
        noise: torch.Tensor,
        latent_image: torch.Tensor,
        sampler: Any,
        sigmas: torch.Tensor,
        denoise_mask: torch.Tensor | None = None,
        callback: Callable | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Wraps the joint patch, which crops its reference off before it calls back."""
        with named(NAME):
            check_single(noise, kwargs.get("latent_shapes"))
            self.canvas.check(noise)
        self.steps = ()
        self._end = None
        recorded = []
        model = executor.class_obj.model_patcher.model

        def on_step(step: int, denoised: torch.Tensor, x: torch.Tensor, total: int) -> None:
            if step % self.every == 0 or step == total - 1:
                latent = denoised if self.kept == "prediction" else x
                state = model.process_latent_out(latent.float().cpu())
                recorded.append(Step(step + 1, total, measure(state, self.canvas.plan, self.canvas.axis_in(state))))
            if callback is not None:
                callback(step, denoised, x, total)

        out = executor(noise, latent_image, sampler, sigmas, denoise_mask, on_step, *args, **kwargs)
        self.steps = tuple(recorded)
        self._end = self._middle_column(out)
        return out

    def _middle_column(self, latent: torch.Tensor) -> torch.Tensor:
        axis = self.canvas.axis_in(latent)
        return latent.select(axis, self.canvas.plan.length // 2).float().cpu().flatten()

    def steps_to(self, latent: torch.Tensor, canvas: Canvas) -> tuple[Step, ...]:
        """The steps that led to this latent; refuses one that they did not lead to (ValueError)."""
        if canvas.plan != self.canvas.plan:
            raise ValueError("the steps were recorded with another plan; connect the same plan to both nodes.")
        end = self._end
        if not self.steps or end is None:
            raise ValueError(
                f"no step was recorded; connect {NAME}'s model to the sampler, or, where ComfyUI took the "
                "latent from its cache, sample again with another seed."
            )
        column = self._middle_column(latent)
        # the host may have stored the latent in half precision since
        near = {"rtol": 0.01, "atol": 0.01 * float(column.std())}
        if column.shape != end.shape or not torch.allclose(column, end, **near):
            raise ValueError(
                "the recorded steps led to another latent; connect the latent that comes straight from the "
                f"sampler behind {NAME}, or sample again with another seed where ComfyUI took it from its cache."
            )
        return self.steps


class SaFaRecordSteps(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaFaRecordSteps",
            display_name=NAME,
            category=CATEGORY,
            description="Measures the canvas while the sampler after it runs, for Spectrum Report: what overlaps lack "
            "against middles, and the seams, step by step. Keeps a few numbers per step and changes no result.",
            search_aliases=["safa", "spectrum", "trace steps", "fourier", "intermediate latents", "high frequency"],
            inputs=[
                io.Model.Input("model", tooltip="The model, before or after SaFa Model Patch, or for SaFa Sampler."),
                SaFaPlan.Input("plan", tooltip="The plan of the canvas, from Subview Planner."),
                io.Int.Input(
                    "every",
                    default=1,
                    min=1,
                    max=10000,
                    tooltip="Measure every so many steps, from the first on; the last one always.",
                ),
                io.Combo.Input(
                    "keep",
                    options=KEPT,
                    default=KEPT[0],
                    tooltip="prediction: the clean canvas as the model foresees it at a step, its noise removed. "
                    "latent: the noisy canvas before the step.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="Connect to the sampler, or to SaFa Model Patch."),
                SaFaSteps.Output(display_name="steps", tooltip="Connect to Spectrum Report."),
            ],
        )

    @classmethod
    def execute(cls, model: ModelPatcher, plan: Canvas, every: int, keep: str) -> io.NodeOutput:
        canvas = plan
        recorder = Recorder(canvas, every, keep)
        return io.NodeOutput(recorder.install(model), recorder)
