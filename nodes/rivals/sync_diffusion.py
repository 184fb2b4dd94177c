"""SyncDiffusion as a node: MultiDiffusion whose views follow the middle one by a perceptual gradient."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch

import comfy.k_diffusion.sampling
import comfy.model_management
import comfy.model_sampling
import comfy.sampler_helpers
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor, WrappersMP
from comfy.samplers import Sampler
from comfy_api.latest import io

from ...safa_core import AverageJoin
from ...safa_core.methods.sync_diffusion import SyncSchedule, anchor_view, carried_shift, view_shifts
from ..canvas import Canvas
from ..errors import named
from ..joint.host_batch import HostBatch
from ..joint.joint_run import JointRun
from ..joint.patch import KEY, JointPatch
from ..joint.schedule import sampler_name
from ..joint.windows import Chosen
from ..mel_vae import vae_kind
from ..sockets import CATEGORY, SaFaPlan
from .attention_swap import METHOD
from .differentiable import check_weights, clone_inference_tensors, gradients_enabled
from .distance import FOLDER, VAE_FEATURES, Distance, Pictures, backbones, perceptual_distance

NAME = "SyncDiffusion"
NO_MEMORY = ("allocate memory", "not enough memory", "out of memory")  # CPU on Linux and Windows, MPS
NO_GRADIENT = ("does not require grad", "derivative", "Inference tensors", "inplace operation")


class SyncRun(JointRun):
    """A joint run in which views may be predicted one by one, and shifted apart for one model call.

    alone: the view that is predicted alone now. shift: of all views side by side, during one call.
    """

    alone: int | None = None
    shift: torch.Tensor | None = None
    _last_first = -1  # the step that `first_call_of_step` returned last

    @cached_property
    def steps_before(self) -> int:
        """Steps of the stages before this one."""
        return 0 if self.start.adds_noise else self.start.stage.before

    @cached_property
    def networks(self) -> list[torch.nn.Module]:
        """What predicts a view: the model and its controls."""
        controls, _ = comfy.sampler_helpers.get_additional_models(self.start.guider.conds, self.start.noise.dtype)
        return [self.model.diffusion_model, *(control.model for control in controls)]

    def first_call_of_step(self) -> int | None:
        """The sampler's step that the coming model call is the first one of, else None.

        Samplers of higher order call again within a step, after the callback.
        """
        calls, step = self.calls, self.calls.callbacks
        if step <= self._last_first or step >= len(self.start.sigmas) - 1:
            return None
        if step and calls.calls_since < calls.extra_calls:
            return None
        self._last_first = step
        return step

    def predict_alone(self, i: int, executor: Callable, x: torch.Tensor, *args: Any) -> torch.Tensor:
        """The denoised latent of view i, x [B, C, ..., view], after guidance and whatever else is on the model."""
        self.alone = i
        try:
            return executor(x, *args)
        finally:
            self.alone = None

    def calc_cond_batch(self, host: HostBatch, x: torch.Tensor) -> list[torch.Tensor]:
        """The host's batch over all views; or over the one view that is alone, x."""
        if self.alone is None:
            return super().calc_cond_batch(host, x)
        (group,) = self.groups(host, (self.alone,))
        return self.run(host, group, x)

    def cut(self, source: torch.Tensor, windows: Chosen) -> torch.Tensor:
        """Windows of the canvas, moved by the shift while there is one."""
        views = super().cut(source, windows)
        if self.shift is None:
            return views
        shifts = self.shift.unflatten(self.axis, (len(self.plan), -1)).movedim(self.axis, 0)
        return views + shifts[list(windows)].flatten(0, 1)


class SyncPatch(JointPatch):
    """MultiDiffusion, with the views moved by SyncDiffusion's gradient before their first prediction of a step.

    schedule: SyncSchedule. vae: the host's or the audio loader's. distance: of `perceptual_distance`.
    """

    run_type = SyncRun

    def __init__(self, canvas: Canvas, schedule: SyncSchedule, vae: Any, distance: Distance, who: str = NAME):
        super().__init__(canvas, AverageJoin(), None, who)
        self.schedule, self.vae, self.distance = schedule, vae, distance
        self.anchor = anchor_view(canvas.plan)

    def install(self, model: ModelPatcher) -> ModelPatcher:
        patched = super().install(model)
        patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, self.apply_model)
        patched.set_additional_models(f"{KEY}_vae", [self.vae.patcher])  # the host loads it beside the model
        return patched

    def outer_sample(self, executor: WrapperExecutor, *args: Any, **kwargs: Any) -> torch.Tensor:
        # such methods need all views in one call, or their place in a layer while the gradient comes back
        other = executor.class_obj.model_patcher.get_attachment(METHOD)
        if other is not None:
            raise ValueError(f"{self.who}: the model also has {other}, and one excludes the other; remove one of them.")
        try:
            return super().outer_sample(executor, *args, **kwargs)
        finally:
            self.distance.to("cpu")

    def predict_noise(
        self,
        executor: WrapperExecutor,
        x: torch.Tensor,
        timestep: torch.Tensor,
        model_options: dict | None = None,
        seed: int | None = None,
    ) -> torch.Tensor:
        model_options = model_options or {}
        run = model_options.get(KEY)
        step = None if run is None else run.first_call_of_step()
        if run is None or step is None:
            return super().predict_noise(executor, x, timestep, model_options, seed)
        rate = self.schedule.at(run.steps_before + step)
        if not rate:
            return super().predict_noise(executor, x, timestep, model_options, seed)
        sigma = float(timestep[0])
        following = float(run.start.sigmas[step + 1])
        down = sigma_down(run.start.sampler, run.model.model_sampling, sigma, following)
        if down == sigma:  # a step that goes nowhere carries no shift
            return super().predict_noise(executor, x, timestep, model_options, seed)
        run.shift = self.shifts(run, executor, x, timestep, model_options, seed, rate)
        try:
            denoised = super().predict_noise(executor, x, timestep, model_options, seed)
            return denoised + carried_shift(sigma, down) * run.fold.scatter(run.shift)
        finally:
            run.shift = None

    def shifts(
        self,
        run: SyncRun,
        executor: WrapperExecutor,
        x: torch.Tensor,
        timestep: torch.Tensor,
        model_options: dict,
        seed: int | None,
        rate: float,
    ) -> torch.Tensor:
        """What every view of x moves by, side by side. The gradient is one of the model's own input, in its scale."""
        scale = float(run.model.model_sampling.calculate_input(timestep[:1], torch.ones(1, device=x.device)))
        pictures = Pictures(self.vae, run.model.process_latent_out)
        try:
            distance = self.distance.to(self.vae.device)
            with gradients_enabled([*run.networks, self.vae.first_stage_model, *distance.modules], x.device):
                views = run.fold.gather(x.clone()).split(run.plan.view, run.axis)
                sigma = timestep.clone()
                shifts = view_shifts(
                    lambda i, view: run.predict_alone(i, executor, view, sigma, model_options, seed),
                    lambda anchor: distance.distance_to(pictures, anchor),
                    views,
                    self.anchor,
                    rate / scale**2,
                )
        except RuntimeError as error:
            raise _explain(error, self.who) from error
        for i, shift in enumerate(shifts):
            if not torch.isfinite(shift).all():
                raise ValueError(
                    f"{self.who}: the gradient in {run.view_name(i)} is NaN or infinity; run model and VAE in float32 "
                    "(--fp32-unet, --fp32-vae)."
                )
        return torch.cat(shifts, run.axis)

    def apply_model(
        self,
        executor: WrapperExecutor,
        x: torch.Tensor,
        t: torch.Tensor,
        c_concat: Any = None,
        c_crossattn: Any = None,
        control: Any = None,
        options: dict | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Conds come from other nodes, which ran under inference mode; autograd may not keep those."""
        inputs = (t, c_concat, c_crossattn, control, kwargs)
        if not torch.is_inference_mode_enabled():
            inputs = clone_inference_tensors(inputs)
        *positional, named_inputs = inputs
        return executor(x, *positional, options or {}, **named_inputs)


def sigma_down(sampler: Sampler, model_sampling: Any, sigma: float, following: float) -> float:
    """The sigma that the sampler's own step goes down to from `sigma` before it adds noise.

    Right for euler, ddim, euler_ancestral and lcm, which so become SyncDiffusion exactly; others get Euler's.
    """
    kind = sampler_name(sampler)
    if kind == "sample_lcm":
        return 0.0
    if kind != "sample_euler_ancestral":
        return following
    eta = getattr(sampler, "extra_options", {}).get("eta", 1.0)
    if isinstance(model_sampling, comfy.model_sampling.CONST):
        return following * (1 + (following / sigma - 1) * eta)
    return float(comfy.k_diffusion.sampling.get_ancestral_step(torch.tensor(sigma), torch.tensor(following), eta)[0])


def _explain(error: RuntimeError, who: str) -> Exception:
    """One sentence for what goes wrong with gradients, else the error itself."""
    text = str(error)
    if comfy.model_management.is_oom(error) or any(sign in text for sign in NO_MEMORY):
        comfy.model_management.soft_empty_cache()
        return ValueError(
            f"{who}: not enough memory for the gradient through model and VAE of one view; plan smaller views, or use "
            "Overlap Average or Self-Loop Swap, which need none."
        )
    if isinstance(error, NotImplementedError) or any(sign in text for sign in NO_GRADIENT):
        return ValueError(
            f"{who}: a layer of this model or VAE, or another node's patch on it, gives no gradient ({text}); use the "
            "plain model in float16, bfloat16 or float32."
        )
    return error


def check_vae(vae: Any, canvas: Canvas, channels: int) -> None:
    """Refuse a VAE that does not decode these latents to pictures or a mel spectrogram (ValueError)."""
    coloured = vae_kind(vae) == "mel" or vae.output_channels == 3
    if len(canvas.shape) != 3 or vae.latent_dim != 2 or not coloured:
        raise ValueError(
            f"expected picture latents, or audio latents with the VAE of SaFa Audio Model Loader, got latents "
            f"{list(canvas.shape)} and a VAE with {vae.latent_dim}-dimensional latents; views are compared as pictures."
        )
    if vae.latent_channels != channels:
        raise ValueError(
            f"the VAE decodes latents of {vae.latent_channels} channels, but the model's have {channels}; "
            "connect the VAE of this model."
        )


class SaFaSyncGradient(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaFaSyncGradient",
            display_name=NAME,
            category=CATEGORY,
            description=(
                "MultiDiffusion whose views follow the middle one by a perceptual gradient (arXiv:2306.05178), in "
                "place of SaFa Model Patch, for comparison. Slow: every view of the first steps is differentiated "
                "through model, guidance and VAE, one at a time, which needs the memory of one view's gradient beside "
                "model and VAE. Use euler, ddim, euler_ancestral or lcm; with other samplers it is an approximation. "
                "For sound the SaFa paper found LPIPS insensitive."
            ),
            search_aliases=["safa", "syncdiffusion", "multidiffusion", "panorama", "lpips", "coherent", "gradient"],
            inputs=[
                io.Model.Input("model", tooltip="The model, with its LoRAs, not quantised, and no SaFa patch."),
                SaFaPlan.Input("plan", tooltip="From Subview Planner; 2 views or more. The authors' overlap is 0.75."),
                io.Vae.Input("vae", tooltip="The model's own VAE, which the gradient goes through."),
                io.Float.Input(
                    "weight",
                    default=20.0,
                    min=0.0,
                    max=10000.0,
                    step=0.1,
                    tooltip="How far views move along the gradient. 20 is the authors' for LPIPS with VGG; 0 is plain "
                    "MultiDiffusion.",
                ),
                io.Float.Input(
                    "decay",
                    default=0.95,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="The weight is multiplied by this after every step (the authors' gamma).",
                ),
                io.Int.Input(
                    "steps",
                    default=10,
                    min=0,
                    max=10000,
                    tooltip="How many of the first sampling steps have a gradient; each costs several plain ones.",
                ),
                io.Combo.Input(
                    "backbone",
                    options=backbones(),
                    default=VAE_FEATURES,
                    tooltip="What views are compared by. VAE features: Gram matrices within the VAE's decoder, no "
                    f"weights needed. A file in models/{FOLDER} (torchvision's vgg16, alexnet or squeezenet1_1): "
                    "LPIPS, as in the paper with vgg16; needs the package torchmetrics.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="Connect to the sampler's model (KSampler, ...).")],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        plan: Canvas,
        vae: Any,
        weight: float,
        decay: float,
        steps: int,
        backbone: str,
    ) -> io.NodeOutput:
        canvas = plan
        with named(NAME):
            schedule = SyncSchedule(weight, decay, steps)
            anchor_view(canvas.plan)
            check_vae(vae, canvas, model.get_model_object("latent_format").latent_channels)
            check_weights(model.model.diffusion_model, "model")
            check_weights(vae.first_stage_model, "VAE")
            distance = perceptual_distance(backbone, vae)
        return io.NodeOutput(SyncPatch(canvas, schedule, vae, distance).install(model))
