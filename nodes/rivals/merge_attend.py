"""Merge-Attend-Diffuse as a node: a patch on the model, beside the SaFa patch that cuts the canvas into views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from comfy.ldm.modules.diffusionmodules.mmdit import MMDiT
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor, WrappersMP
from comfy.samplers import CFGGuider
from comfy_api.latest import io

from ...safa_core.methods.merge_attend import is_aligned, nearest_aligned
from ..canvas import Canvas
from ..errors import named
from ..joint.joint_run import TOGETHER, JointRun
from ..joint.patch import KEY as SAFA
from ..joint.patch import STAGE
from ..joint.schedule import GuidedCalls, early_steps
from ..sockets import CATEGORY, SaFaPlan
from .attention_swap import Processor, claim_self_attention, is_diffusers, swap_attention
from .merge_attend_layers import MergedBatch, attention_factors, diffusers_processors, host_unet_options, mmdit_options

NAME = "Merge-Attend-Diffuse"
KEY = "safa_merge"


class SaFaMergeAttend(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaFaMergeAttend",
            display_name=NAME,
            category=CATEGORY,
            description=(
                "Merge-Attend-Diffuse: in the early steps all views attend to the whole canvas together, which "
                "makes them agree without a reference. An alternative to Reference Swap: use it with SaFa Sampler or, "
                "in any order, SaFa Model Patch, with Overlap Average as the join and an overlap of 0.8. Takes the "
                "memory of one attention over the whole canvas."
            ),
            search_aliases=["safa", "mad", "merge attend diffuse", "multidiffusion", "attention", "panorama"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="SD 1.5, SD 2, SDXL, SD 3 or an audio UNet from SaFa Audio Model Loader."
                ),
                SaFaPlan.Input(
                    "plan",
                    tooltip="The plan of SaFa Sampler or SaFa Model Patch. Views must begin between the tokens of the "
                    "model's coarsest attention (8 latent columns in SD 1.5).",
                ),
                io.Float.Input(
                    "tau",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Share of the steps, the early ones, in which self-attention is merged: 0.5 for pictures "
                    "(25 of 50), 0.3 for the SaFa paper's sound (60 of 200). Queries of cross-attention are merged at "
                    "all steps.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model", tooltip="For SaFa Sampler, SaFa Model Patch or a sampler after the latter."
                )
            ],
        )

    @classmethod
    def execute(cls, model: ModelPatcher, plan: Canvas, tau: float) -> io.NodeOutput:
        canvas = plan
        with named(NAME):
            return io.NodeOutput(MergePatch(canvas, tau).install(model))


class MergePatch:
    """Merge-Attend-Diffuse for the views of a canvas.

    canvas: Canvas. tau: share of the steps, the early ones, in which self-attention merges; in [0, 1] (ValueError).
    """

    def __init__(self, canvas: Canvas, tau: float):
        if not 0 <= tau <= 1:
            raise ValueError(f"expected `tau` from 0 to 1, the share of steps that merge, got {tau:g}.")
        self.canvas, self.tau = canvas, tau

    def install(self, model: ModelPatcher) -> ModelPatcher:
        """A clone of the host's MODEL with this method; refuses models and plans that cannot merge (ValueError)."""
        network = model.get_model_object("diffusion_model")
        factors = attention_factors(network)
        if not factors:
            raise ValueError(
                f"{type(model.model).__name__} has no two-dimensional attention that can be merged; use SD 1.5, "
                "SD 2, SDXL, SD 3 or an audio UNet of SaFa Audio Model Loader, or leave this node out."
            )
        self._check_plan(max(factors))
        patched = model.clone()
        claim_self_attention(patched, NAME)
        for kind, wrapper in (
            (WrappersMP.OUTER_SAMPLE, self.outer_sample),
            (WrappersMP.SAMPLER_SAMPLE, self.sampler_sample),
            (WrappersMP.PREDICT_NOISE, self.predict_noise),
        ):
            patched.add_wrapper_with_key(kind, KEY, wrapper)
        if is_diffusers(network):
            swap_attention(patched, KEY, _choose_processors)
        else:
            patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, _apply_model)
        return patched

    def _check_plan(self, factor: int) -> None:
        """Refuse a plan whose views begin or end inside a token of so many latent columns (ValueError)."""
        canvas, plan = self.canvas, self.canvas.plan
        if len(canvas.shape) != 3 or canvas.axis not in (2, 3):
            raise ValueError(
                f"the plan is for a latent of {list(canvas.shape)}, which is no picture or spectrogram of this "
                "model; make the plan with the same model."
            )
        if is_aligned(plan, factor):
            return
        like, overlap = nearest_aligned(plan, factor)
        changes = [f"overlap {overlap:g}"]
        for name, now, then in (("view", plan.view, like.view), ("length", plan.length, like.length)):
            if now != then:
                unit = "" if canvas.unit == "latent" else f" ({then * canvas.scale:g} {canvas.unit})"
                changes.append(f"a {name} of {then} latent columns{unit}")
        raise ValueError(
            f"the views begin at {', '.join(map(str, plan.starts[:4]))}{', ...' if len(plan) > 4 else ''} and "
            f"are {plan.view} of {plan.length} latent columns long, but this model's coarsest attention sees "
            f"{factor} columns as one, so all of these must be multiples of {factor}; plan with "
            f"{' and '.join(changes)}."
        )

    def outer_sample(self, executor: WrapperExecutor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Refuse what cannot merge together with the rest of the model, before anything is loaded."""
        guider = executor.class_obj
        joint = [wrapper.__self__ for wrapper in guider.model_patcher.get_wrappers(WrappersMP.OUTER_SAMPLE, SAFA)]
        if not joint:
            raise ValueError(
                f"{NAME}: nothing cuts the canvas into views; add SaFa Model Patch to this model, or sample with SaFa "
                "Sampler."
            )
        other = joint[0].canvas
        if (other.plan, other.axis) != (self.canvas.plan, self.canvas.axis):
            raise ValueError(
                f"{NAME}: its plan is not that of {joint[0].who}; connect one Subview Planner's plan to both."
            )
        _check_alone(guider.model_options.get("transformer_options", {}))
        guider.model_options[TOGETHER] = len(self.canvas.plan) + 1
        return executor(*args, **kwargs)

    def sampler_sample(
        self,
        executor: WrapperExecutor,
        guider: CFGGuider,
        sigmas: torch.Tensor,
        extra_args: dict,
        callback: Callable | None,
        noise: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Count the steps of this sampling."""
        sampler = executor.class_obj
        options = extra_args["model_options"]
        steps = early_steps(self.tau, guider, sampler, bool(torch.any(noise)), options[STAGE])
        run = MergeRun(self.canvas, GuidedCalls(sampler, options[STAGE].sigmas, steps))
        options["transformer_options"][KEY] = run

        def on_step(*step: Any) -> None:
            run.calls.called_back()
            if callback is not None:
                callback(*step)

        return executor(guider, sigmas, extra_args, on_step, noise, *args, **kwargs)

    def predict_noise(
        self,
        executor: WrapperExecutor,
        x: torch.Tensor,
        timestep: torch.Tensor,
        model_options: dict | None = None,
        seed: int | None = None,
    ) -> torch.Tensor:
        """Note a model call of the sampler's."""
        model_options = model_options or {}
        run = model_options.get("transformer_options", {}).get(KEY)
        if run is not None:
            run.enter(timestep, model_options[SAFA])
        return executor(x, timestep, model_options, seed)


class MergeRun:
    """One sampling with merging views.

    canvas: Canvas. calls: GuidedCalls that counts the steps in which self-attention merges.
    """

    def __init__(self, canvas: Canvas, calls: GuidedCalls):
        self.canvas, self.calls = canvas, calls
        self.merging = False
        self.joint: JointRun | None = None

    def enter(self, sigma: torch.Tensor, joint: JointRun) -> None:
        """Before the sampler's model call; joint: the run that cuts this canvas."""
        self.merging = self.calls.enter(sigma)
        self.joint = joint

    def find_views(self, x: torch.Tensor, options: dict) -> MergedBatch | None:
        """Which items are which view in a model call with x [B, C, ...]; None for a single view, with none to merge.

        Refuses a call that lacks views (ValueError): merging some of them would be another method.
        """
        views = len(self.canvas.plan)
        windows = self.joint.running if self.joint is not None else ()
        if views == 1 or windows == (views,):  # the reference by itself
            return None
        if not set(windows) >= set(range(views)):
            raise ValueError(
                f"{NAME}: one call of the model has {len(windows)} windows, but merging needs all {views} views in it; "
                "free memory or plan fewer views (a lower overlap, a shorter canvas); with prompts for parts of the "
                "canvas (masks, areas, a timeline that blends by columns) set `blend` of Prompt Timeline to views, or "
                "use prompts of one length without masks and areas."
            )
        conds = len(options["cond_or_uncond"])
        return MergedBatch(
            plan=self.canvas.plan,
            axis=self.canvas.axis_in(x) - 2,
            size=tuple(x.shape[2:]),
            conds=conds,
            windows=len(windows),
            batch=len(x) // (conds * len(windows)),
            merging=self.merging,
            device=x.device,
        )


def _choose_processors(layers: dict[str, torch.nn.Module], x: torch.Tensor, options: dict) -> dict[str, Processor]:
    batch = options[KEY].find_views(x, options) if KEY in options else None
    return {} if batch is None else diffusers_processors(layers, batch)


def _apply_model(
    executor: Any,
    x: torch.Tensor,
    t: torch.Tensor,
    c_concat: torch.Tensor | None,
    c_crossattn: torch.Tensor | None,
    control: dict | None,
    transformer_options: dict,
    **kwargs: Any,
) -> torch.Tensor:
    run = transformer_options.get(KEY)
    batch = None if run is None else run.find_views(x, transformer_options)
    if batch is not None:
        network = executor.class_obj.diffusion_model
        options_for = mmdit_options if isinstance(network, MMDiT) else host_unet_options
        transformer_options = options_for(network, batch, transformer_options)
    return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)


def _check_alone(options: dict) -> None:
    """Refuse other nodes' work on the host UNets' self-attention, which reads views, not canvases (ValueError)."""
    patches = options.get("patches", {})
    replaced = options.get("patches_replace", {})
    if patches.get("attn1_patch") or patches.get("attn1_output_patch") or replaced.get("attn1"):
        raise ValueError(
            f"{NAME}: another node on this model changes its self-attention (HyperTile, Token Merging, Self-Attention "
            "Guidance, ...); remove one of the two."
        )
