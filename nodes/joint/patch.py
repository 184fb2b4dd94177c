"""The MODEL patch: where joint diffusion meets the host, through its own wrappers and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

import comfy.model_management
import comfy.model_patcher
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor, WrappersMP
from comfy.samplers import CFGGuider, Sampler

from ...safa_core import Join
from ..canvas import Canvas, Guide, check_single, measure
from ..errors import named
from .held_pictures import Mover
from .host_batch import HostBatch
from .joint_run import JointRun, most_together
from .model_facts import measure_of
from .other_nodes import UNFIT, sentence_for
from .reference import NoReference, Reference
from .schedule import place_in_schedule
from .start import StageMemory, Start
from .timbre import keep_timbres_apart
from .view_conds import add_reference_prompt

KEY = "safa"
STAGE = "safa_stage"


class JointPatch:
    """Joint diffusion over a canvas, for any sampler of the host.

    canvas, join, guide: the views, how they share the canvas, and what else they follow.
    who: the node's name in messages.
    finish_reference: denoise the reference to the end (for its own output), not only while it guides.

    After sampling, `reference` holds the reference's final latent where it was finished, else None.
    """

    run_type = JointRun  # a rival with state of its own in a run puts its class here

    def __init__(self, canvas: Canvas, join: Join, guide: Guide | None, who: str, finish_reference: bool = False):
        self.canvas, self.join, self.guide, self.who = canvas, canvas.fit(join), guide, who
        self.finish_reference = finish_reference
        self.reference: torch.Tensor | None = None
        self.memory = StageMemory()
        self.mover = Mover()
        self._check_fit(canvas.rows)

    def _check_fit(self, rows: int) -> None:
        """Refuse operators that have no room on this plan, by the node's name (ValueError)."""
        with named(self.who):
            self.join.weights(self.canvas.plan, rows)
            if self.guide is not None:
                self.guide.resolve(self.canvas).places(self.canvas.plan, rows)

    def install(self, model: ModelPatcher) -> ModelPatcher:
        """A clone of the host's MODEL with this patch; refuses a second one, or another kind's plan (ValueError)."""
        with named(self.who):
            _check_measure(self.canvas, model)
        for wrapper in model.get_wrappers(WrappersMP.CALC_COND_BATCH, KEY):
            other = wrapper.__self__.who
            raise ValueError(
                f"{self.who}: the model already has a SaFa patch, {other}'s; connect the model from before {other}, "
                "or leave this node out and sample with KSampler."
            )
        patched = model.clone()
        keep_timbres_apart(patched)
        patched.set_model_patch(self.mover, Mover.NAME)
        for kind, wrapper in (
            (WrappersMP.OUTER_SAMPLE, self.outer_sample),
            (WrappersMP.PREPARE_SAMPLING, self.prepare_sampling),
            (WrappersMP.SAMPLER_SAMPLE, self.sampler_sample),
            (WrappersMP.PREDICT_NOISE, self.predict_noise),
            (WrappersMP.CALC_COND_BATCH, self.calc_cond_batch),
        ):
            patched.add_wrapper_with_key(kind, KEY, wrapper)
        return patched

    def check(self, model: ModelPatcher, latent: torch.Tensor) -> None:
        """Refuse a latent that neither plan nor model was made for, before anything is loaded (ValueError)."""
        with named(self.who):
            self.canvas.check(latent)
        self._check_fit(self.canvas.rows_in(latent))
        latent_format = model.get_model_object("latent_format")
        expected = (latent_format.latent_channels, latent_format.latent_dimensions)
        if (latent.shape[1], latent.ndim - 2) != expected:
            raise ValueError(
                f"{self.who}: {type(model.model.model_config).__name__} samples latents of {expected[0]} channels and "
                f"{expected[1]} more dimensions, but the latent is {list(latent.shape)}; connect the latent of a "
                "Subview Planner with the same model."
            )

    def outer_sample(
        self,
        executor: WrapperExecutor,
        noise: torch.Tensor,
        latent_image: torch.Tensor,
        sampler: Sampler,
        sigmas: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Refuse what cannot be sampled jointly, before anything is loaded."""
        guider = executor.class_obj
        with named(self.who):
            check_single(noise, kwargs.get("latent_shapes"))
        if len(sigmas) < 2:
            raise ValueError(f"{self.who}: expected a schedule of at least one step, got {len(sigmas)} sigmas.")
        if "context_handler" in guider.model_options:
            raise ValueError(f"{self.who}: Context Windows and SaFa both cut the canvas; remove one of them.")
        self.check(guider.model_patcher, noise)
        guider.model_options[STAGE] = place_in_schedule(sigmas)  # before the host copies them to the device
        if self.guide is not None and self.guide.conditioning is not None:
            add_reference_prompt(guider.conds, self.guide.conditioning)
        return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)

    def prepare_sampling(
        self,
        executor: WrapperExecutor,
        model: ModelPatcher,
        noise_shape: Sequence[int],
        conds: dict[str, list[dict]],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Ask for memory for the views of one call that fit beside the weights, not for a canvas that never runs."""
        shape = self.canvas.view_shape(noise_shape)
        each = max(1, model.model.memory_required([2 * shape[0], *shape[1:]]))
        room = comfy.model_management.get_total_memory(model.load_device) - model.model_size()
        views = len(self.canvas.plan) if self.guide is None else len(self.canvas.plan) + 1
        most = most_together(kwargs.get("model_options") or {}, math.prod(shape))
        shape[0] *= max(1, min(views, most, int(room / (1.5 * each))))  # 1.5: the host's own margin when it batches
        return executor(model, shape, conds, *args, **kwargs)

    def sampler_sample(
        self,
        executor: WrapperExecutor,
        guider: CFGGuider,
        sigmas: torch.Tensor,
        extra_args: dict,
        callback: Callable | None,
        noise: torch.Tensor,
        latent_image: torch.Tensor | None = None,
        denoise_mask: torch.Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Sample canvas and reference as one longer latent; gives the canvas."""
        sampler = executor.class_obj
        model_options = extra_args["model_options"]
        if latent_image is None:
            latent_image = torch.zeros_like(noise)
        seed = extra_args.get("seed")
        options = comfy.model_patcher.create_model_options_clone(model_options)
        stage = model_options[STAGE]
        if len(stage.sigmas) != len(sigmas):  # another node has changed the schedule since
            stage = place_in_schedule(sigmas)
        start = Start(guider, options, sampler, sigmas, stage, noise, latent_image, denoise_mask, seed)
        reference = self._make_reference(start)
        run = self.run_type(self.canvas, self.join, reference, start, self.who)
        model_options[KEY] = run
        self.mover.pictures = run.pictures

        def on_step(step: int, denoised: torch.Tensor, x: torch.Tensor, total: int) -> None:
            run.calls.called_back()
            if callback is not None:
                callback(step, reference.crop(denoised), reference.crop(x), total)

        extra_options = getattr(sampler, "extra_options", None)
        try:
            if extra_options is not None:
                sampler.extra_options = reference.tied_options(extra_options)
            state = executor(guider, sigmas, extra_args, on_step, *reference.inputs, *args, **kwargs)
        except UNFIT as error:
            sentence = sentence_for(error, start.options, sampler if reference.windows > 0 else None)
            if str(error).startswith(self.who) or sentence is None:
                raise
            raise ValueError(f"{self.who}: at step {run.calls.callbacks + 1} {sentence}") from error
        finally:
            run.close()
            self.mover.pictures = None
            if extra_options is not None:
                sampler.extra_options = extra_options
        run.watch.check(wait=True)
        self.reference = reference.end(state)
        return reference.crop(state)

    def _make_reference(self, start: Start) -> Reference | NoReference:
        if self.guide is None:
            return NoReference(start)
        return Reference(self.guide, self.canvas, start, self.memory, self.who, self.finish_reference)

    def predict_noise(
        self,
        executor: WrapperExecutor,
        x: torch.Tensor,
        timestep: torch.Tensor,
        model_options: dict | None = None,
        seed: int | None = None,
    ) -> torch.Tensor:
        """One guided model call of the sampler's, with the state as the model is to see it."""
        run = (model_options or {}).get(KEY)
        if run is None:
            return executor(x, timestep, model_options, seed)
        return run.predict(executor, x, timestep, model_options or {}, seed)

    def calc_cond_batch(
        self,
        executor: WrapperExecutor,
        model: torch.nn.Module,
        conds: list[list[dict] | None],
        x: torch.Tensor,
        timestep: torch.Tensor,
        model_options: dict,
    ) -> list[torch.Tensor]:
        """The host's batch of conds, over views."""
        run = model_options.get(KEY)
        if run is None:
            return executor(model, conds, x, timestep, model_options)
        return run.calc_cond_batch(HostBatch(executor, model, conds, timestep, model_options), x)


def _check_measure(canvas: Canvas, model: ModelPatcher) -> None:
    """Refuse a model whose latents are counted in something else than the plan's (ValueError)."""
    unit, scale = measure_of(model.get_model_object("latent_format"))
    if canvas.model and (canvas.unit != unit or not math.isclose(canvas.scale, scale)):
        raise ValueError(
            f"the plan is for {canvas.model}, where one latent column is {canvas.measure(1)}, but the model is "
            f"{type(model.model.model_config).__name__}, where it is {measure(1, unit, scale)}; connect planner and "
            "sampler to the same model."
        )
