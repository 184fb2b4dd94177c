"""The MODEL patch: where joint diffusion meets the host, through its own wrappers and nothing else."""

from __future__ import annotations

import collections

import torch

import comfy.model_management
from comfy.model_patcher import set_model_options_pre_cfg_function
from comfy.patcher_extension import WrappersMP

from ...safa_core.joins import Join
from ..canvas import Canvas, Guide
from ..errors import named
from .joint_run import JointRun
from .schedule import place_in_schedule
from .timbre import keep_timbres_apart
from .view_conds import add_reference_prompt

KEY = "safa"
STAGE = "safa_stage"


class JointPatch:
    """Joint diffusion over a canvas, for any sampler of the host.

    canvas: Canvas. join: a join operator. guide: Guide or None. who: the node's name in messages.
    finish_reference: denoise the reference to the end (for its own output), not only while it guides.
    After sampling, `reference` holds its final latent where it was finished.
    """

    run_type = JointRun  # a method with state of its own in a run puts its kind here

    def __init__(self, canvas: Canvas, join: Join, guide: Guide | None, who: str, finish_reference: bool = False):
        self.canvas, self.join, self.guide, self.who = canvas, join, guide, who
        self.finish_reference = finish_reference
        self.reference = None
        self._carried = collections.deque(maxlen=4)
        self._fit(canvas.rows)

    def _fit(self, rows: int) -> None:
        """Refuse operators that have no room on this plan, by the node's name (ValueError)."""
        with named(self.who):
            self.join.weights(self.canvas.plan, rows)
            if self.guide is not None:
                self.guide.resolve(self.canvas).places(self.canvas.plan, rows)

    def install(self, model):
        """A clone of the host's MODEL with this patch; refuses a second one (ValueError)."""
        for wrapper in model.get_wrappers(WrappersMP.CALC_COND_BATCH, KEY):
            other = wrapper.__self__.who
            raise ValueError(
                f"{self.who}: the model already has a SaFa patch, {other}'s; connect the model from before {other}, "
                "or leave this node out and sample with KSampler."
            )
        patched = model.clone()
        keep_timbres_apart(patched)
        for kind, wrapper in (
            (WrappersMP.OUTER_SAMPLE, self.outer_sample),
            (WrappersMP.PREPARE_SAMPLING, self.prepare_sampling),
            (WrappersMP.SAMPLER_SAMPLE, self.sampler_sample),
            (WrappersMP.PREDICT_NOISE, self.predict_noise),
            (WrappersMP.CALC_COND_BATCH, self.calc_cond_batch),
        ):
            patched.add_wrapper_with_key(kind, KEY, wrapper)
        return patched

    def check(self, model, latent: torch.Tensor) -> None:
        """Refuse a latent that neither plan nor model was made for, before anything is loaded (ValueError)."""
        with named(self.who):
            self.canvas.check(latent)
        self._fit(self.canvas.rows_in(latent))
        channels = model.get_model_object("latent_format").latent_channels
        if latent.shape[1] != channels:
            raise ValueError(
                f"{self.who}: the latent has {latent.shape[1]} channels, but this model needs {channels}; connect a "
                "Subview Planner with the same model."
            )

    def outer_sample(self, executor, noise, latent_image, sampler, sigmas, *args, **kwargs):
        guider, shapes = executor.class_obj, kwargs.get("latent_shapes") or ()
        if len(shapes) > 1:
            raise ValueError(
                f"{self.who}: expected one latent, got a pack of {len(shapes)} (audio with video); split it first."
            )
        if len(sigmas) < 2:
            raise ValueError(f"{self.who}: expected a schedule of at least one step, got {len(sigmas)} sigmas.")
        if "context_handler" in guider.model_options:
            raise ValueError(f"{self.who}: Context Windows and SaFa both cut the canvas; remove one of them.")
        self.check(guider.model_patcher, noise)
        guider.model_options[STAGE] = place_in_schedule(sigmas)  # before the host copies them to the device
        if self.guide is not None and self.guide.conditioning is not None:
            add_reference_prompt(guider.conds, self.guide.conditioning)
        return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)

    def prepare_sampling(self, executor, model, noise_shape, conds, *args, **kwargs):
        """Ask for memory for the views that fit beside the weights, not for a canvas that never runs whole."""
        shape = list(noise_shape)
        shape[self.canvas.axis + len(shape) - len(self.canvas.shape) - 1] = self.canvas.plan.view
        each = max(1, model.model.memory_required([2 * shape[0], *shape[1:]]))
        room = comfy.model_management.get_total_memory(model.load_device) - model.model_size()
        views = len(self.canvas.plan) + (self.guide is not None)
        shape[0] *= max(1, min(views, int(room / (1.5 * each))))  # 1.5: the host's own margin when it batches
        return executor(model, shape, conds, *args, **kwargs)

    def sampler_sample(
        self,
        executor,
        guider,
        sigmas,
        extra_args,
        callback,
        noise,
        latent_image=None,
        denoise_mask=None,
        *args,
        **kwargs,
    ):
        sampler = executor.class_obj
        if latent_image is None:
            latent_image = torch.zeros_like(noise)
        model_options, seed = extra_args["model_options"], extra_args.get("seed")
        state = (noise, latent_image, denoise_mask)
        run = self.run_type(self, guider, sampler, sigmas, model_options[STAGE], seed, *state)
        model_options[KEY] = run
        if self.guide is not None:
            set_model_options_pre_cfg_function(model_options, run.before_cfg)

        def on_step(step, denoised, x, total):
            run.calls.called_back()
            if callback is not None:
                callback(step, run.crop(denoised), run.crop(x), total)

        options = getattr(sampler, "extra_options", None)
        try:
            if options is not None:
                sampler.extra_options = run.extra_options(options)
            state = executor(guider, sigmas, extra_args, on_step, *run.start, *args, **kwargs)
        finally:
            if options is not None:
                sampler.extra_options = options
        run.watch.check(wait=True)
        if self.guide is not None:
            self._keep_reference(run, state, sigmas)
        return run.crop(state)

    def _keep_reference(self, run, state, sigmas):
        reference = run.reference_of(state)
        if self.finish_reference:
            self.reference = run.model.process_latent_out(reference.float()).to(
                comfy.model_management.intermediate_device()
            )
        if sigmas[-1] > 0:
            self._carried.appendleft((run.crop(state).cpu().clone(), reference.cpu().clone()))

    def carried(self, latent_image):
        """The reference that an earlier stage left together with this very canvas, or None.

        It stays here: a workflow may run its second stage again and take the first from the host's cache.
        """
        here = latent_image.cpu()
        for canvas, reference in self._carried:
            # the host takes the canvas out of the model's scale and back between the stages
            if canvas.shape == here.shape and torch.allclose(canvas, here, rtol=1e-3, atol=1e-3):
                return reference.to(latent_image)
        return None

    def reference_latent(self, model, shape) -> torch.Tensor:
        """The user's latent for the reference in the model's scale; refuses one that is not one view (ValueError)."""
        given = self.guide.latent["samples"]
        latent = given.unsqueeze(2) if given.ndim == len(shape) - 1 else given
        if list(latent.shape[1:]) != list(shape[1:]) or latent.shape[0] not in (1, shape[0]):
            raise ValueError(
                f"{self.who}: the reference's latent is {list(given.shape)}, but one view is {[1, *shape[1:]]}; "
                "encode a picture or clip of exactly one view."
            )
        return model.process_latent_in(latent).expand(shape[0], *[-1] * (latent.ndim - 1))

    def predict_noise(self, executor, x, timestep, model_options=None, seed=None):
        run = (model_options or {}).get(KEY)
        if run is None:
            return executor(x, timestep, model_options, seed)
        return run.leave(executor(run.enter(x, timestep), timestep, model_options, seed))

    def calc_cond_batch(self, executor, model, conds, x, timestep, model_options):
        run = model_options.get(KEY)
        if run is None:
            return executor(model, conds, x, timestep, model_options)
        return run.calc_cond_batch(executor, model, conds, x, timestep, model_options)
