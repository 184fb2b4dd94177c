"""The patch as a node, and the patch plus the host's own sampling as a node."""

from __future__ import annotations

import comfy.samplers
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

import nodes as host_nodes

from ...safa_core import Join, SwapJoin
from ..canvas import Canvas, Guide
from ..errors import named
from ..sockets import CATEGORY, SEARCH_WORDS, SaFaGuide, SaFaJoin, SaFaPlan
from .empty_latent import fit_latent
from .patch import JointPatch
from .size_nodes import prompt_of, warn_of_canvas_sizes

JOIN_TIP = "How neighbouring views share their overlap. Not connected: Self-Loop Swap with interval 1."
GUIDE_TIP = "Reference Swap, for one style over the whole canvas. Not connected: no reference (SaFa* of the paper)."


PATCH, SAMPLER = "SaFa Model Patch", "SaFa Sampler"


class SaFaModelPatch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaFaModelPatch",
            display_name=PATCH,
            category=CATEGORY,
            description=(
                "Makes any sampler node after it (KSampler, KSampler Advanced, SamplerCustomAdvanced, ...) denoise a "
                "long canvas in views of the model's own length that join without seams."
            ),
            search_aliases=["safa", "swap forward", "multidiffusion", "ksampler", *SEARCH_WORDS],
            inputs=[
                io.Model.Input("model", tooltip="The model, with its LoRAs and other patches."),
                SaFaPlan.Input("plan", tooltip="From Subview Planner. The sampler's latent must be the plan's size."),
                SaFaJoin.Input("join", optional=True, tooltip=JOIN_TIP),
                SaFaGuide.Input("guide", optional=True, tooltip=GUIDE_TIP),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="Connect to the sampler's model.")],
            hidden=[io.Hidden.prompt],
        )

    @classmethod
    def execute(
        cls, model: ModelPatcher, plan: Canvas, join: Join | None = None, guide: Guide | None = None
    ) -> io.NodeOutput:
        canvas = plan
        warn_of_canvas_sizes(PATCH, canvas, prompt_of(cls))
        return io.NodeOutput(JointPatch(canvas, join or SwapJoin(), guide, PATCH).install(model))


class SaFaSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaFaSampler",
            display_name=SAMPLER,
            category=CATEGORY,
            description=(
                "The host's KSampler for a long canvas: denoises it in views of the model's own length that join "
                "without seams (Swap Forward, arXiv:2502.05130)."
            ),
            search_aliases=["safa", "swap forward", "multidiffusion", "ksampler", *SEARCH_WORDS],
            inputs=[
                io.Model.Input("model", tooltip="The model, with its LoRAs and other patches, but no SaFa patch."),
                SaFaPlan.Input("plan", tooltip="From Subview Planner."),
                io.Conditioning.Input("positive", tooltip="What the canvas should show or sound like."),
                io.Conditioning.Input("negative", tooltip="What it should not show or sound like."),
                io.Latent.Input("latent", tooltip="The canvas, from Subview Planner, or one of the plan's size."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Seed of the noise; the reference's own noise is derived from it.",
                ),
                io.Int.Input("steps", default=20, min=1, max=10000, tooltip="Denoising steps."),
                io.Float.Input(
                    "cfg",
                    default=7.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Classifier-free guidance scale.",
                ),
                io.Combo.Input(
                    "sampler_name",
                    options=comfy.samplers.KSampler.SAMPLERS,
                    default="euler",
                    tooltip="Any sampler of the host.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=comfy.samplers.KSampler.SCHEDULERS,
                    default="simple",
                    tooltip="Any scheduler of the host.",
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Share of the noise range to run: 1 makes the canvas new, less keeps some of `latent`.",
                ),
                SaFaJoin.Input("join", optional=True, tooltip=JOIN_TIP),
                SaFaGuide.Input("guide", optional=True, tooltip=GUIDE_TIP),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The finished canvas."),
                io.Latent.Output(display_name="reference", tooltip="The finished reference, one view; needs a guide."),
            ],
            hidden=[io.Hidden.prompt],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        plan: Canvas,
        positive: list,
        negative: list,
        latent: dict,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        denoise: float,
        join: Join | None = None,
        guide: Guide | None = None,
    ) -> io.NodeOutput:
        if steps < 1 or denoise <= 0:
            raise ValueError(
                f"{SAMPLER}: expected at least one step and a denoise above 0, got {steps} steps at denoise "
                f"{denoise:g}; nothing would be sampled."
            )
        canvas = plan
        warn_of_canvas_sizes(SAMPLER, canvas, prompt_of(cls))
        patch = JointPatch(canvas, join or SwapJoin(), guide, SAMPLER, finish_reference=True)
        patched = patch.install(model)
        with named(SAMPLER):
            latent = fit_latent(model, latent)
            patch.check(model, latent["samples"])
        (out,) = host_nodes.common_ksampler(  # type: ignore[attr-defined]  # the host's `nodes`
            patched, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent, denoise=denoise
        )
        if guide is None:
            return io.NodeOutput(out, ExecutionBlocker(f"{SAMPLER}: there is no reference without a guide."))
        return io.NodeOutput(out, {"samples": patch.reference})
