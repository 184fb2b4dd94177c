"""Reference-Guided Latent Swap (Eq. 10) while the host samples: guided places of the canvas follow one more view.

The sampler's state is [canvas | reference] along the long axis. Guided places are tied to the reference before the
first step, in every prediction and in injected noise: then any sampler keeps them equal, and nothing is written into
its state (but where a sampler adds noise that cannot be tied). Algorithm 1's J_T is not tied, so the first model call
sees the canvas as it was.

Guiders and other nodes' guidance functions see the canvas alone, and then the reference alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

import comfy.model_management

from ...safa_core.fold import on_axes
from ..canvas import Canvas, Guide
from .host_batch import HostBatch
from .injected_noise import TiedNoise, host_noise_sampler, takes_noise_sampler
from .other_nodes import GUIDANCE, UNFIT, culprit
from .picture_seeds import picture_noise
from .schedule import GuidedCalls, early_steps, moves_on_its_own, sampler_name
from .start import StageMemory, Start

REFERENCE_SEED = 0x5AFA  # the reference's noise: the user's seed, another stream
CACHE = "easycache"  # of the host's transformer_options: EasyCache's or LazyCache's
AFTER_CFG = "sampler_post_cfg_function"  # of the host's model_options

Guidance = Callable[[torch.Tensor, dict], torch.Tensor]  # guided prediction of a latent, under model_options


@dataclass
class Call:
    """One model call of the sampler's, in its two parts.

    state, canvas, reference: x whole and in parts.
    options: the model_options of this very call; functions that predict something else bring their own.
    runs:    whether the reference is predicted too.
    of_reference: whether the guider predicts the reference now.
    """

    state: torch.Tensor
    canvas: torch.Tensor
    reference: torch.Tensor
    options: dict
    runs: bool
    of_reference: bool = False
    _kept: dict[tuple, list] = field(default_factory=dict)

    def keep(self, host: HostBatch, outs: list[torch.Tensor | None]) -> None:
        """Keep the reference's predictions by lists of conds, made together with the views'."""
        self._kept[_key(host)] = outs

    def kept(self, host: HostBatch) -> list[torch.Tensor | None] | None:
        """What `keep` was given for these lists, or None."""
        return self._kept.get(_key(host))


def _key(host: HostBatch) -> tuple:
    return (id(host.model), *(None if c is None else tuple(map(id, c)) for c in host.conds))


class NoReference:
    """A sampling without a guide: the state is the canvas alone. The interface of `Reference`, which explains it."""

    windows = 0
    runs = False
    call: Call

    def __init__(self, start: Start):
        self.inputs = start.inputs
        self.calls = GuidedCalls(start.sampler, start.stage.sigmas, 0)

    def crop(self, state: torch.Tensor) -> torch.Tensor:
        return state

    def enter(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        self.calls.enter(sigma)
        return x

    def predict(self, guide: Guidance, x: torch.Tensor, model_options: dict) -> torch.Tensor:
        self.call = Call(x, x, x, model_options, False)
        return guide(x, model_options)

    def tied_options(self, options: dict) -> dict:
        return options

    def end(self, state: torch.Tensor) -> torch.Tensor | None:
        return None


class Reference:
    """The reference of one sampling.

    guide, canvas: which places follow it, and for how long.
    start:  what the host hands to this sampling.
    memory: of the patch, for samplings in several stages.
    who:    the node's name in messages.
    finish: denoise the reference to the end, not only while it guides.

    inputs:  noise, latent and mask of the state, tied, for the sampler.
    windows: how many views more than the canvas's the model gets.
    calls:   counts which model calls are guided; `guided` is whether the current one is.
    """

    windows = 1
    call: Call

    def __init__(self, guide: Guide, canvas: Canvas, start: Start, memory: StageMemory, who: str, finish: bool = False):
        noise, plan = start.noise, canvas.plan
        self.start, self.memory, self.who, self.finish = start, memory, who, finish
        self.canvas = canvas
        self.axis, self.length, self.view = canvas.axis_in(noise), plan.length, plan.view
        self.model = start.guider.inner_model
        places, column = guide.resolve(canvas).places(plan, canvas.rows_in(noise))
        self.places = on_axes(places, noise.ndim, self.axis).to(noise.device)
        self.column = column.to(noise.device)
        if start.mask is not None:  # what is kept or half kept cannot follow the reference
            self.places = self.places & (start.mask >= 1)
        steps = early_steps(guide.rate, start.guider, start.sampler, start.adds_noise, start.stage)
        self.calls = GuidedCalls(start.sampler, start.stage.sigmas, steps)
        self.guided = False
        self.warned = False
        self.plain = False
        self.caches = Caches(start.guider.inner_model.model_sampling)
        self.last: dict[str, torch.Tensor] = {}  # the reference's last prediction, and what it was guided from
        self._begin(guide, plan.indices(0).to(noise.device))

    # ---- Before the sampling ----

    def _begin(self, guide: Guide, first: torch.Tensor) -> None:
        """Make the inputs. first: the canvas columns of the first view."""
        start = self.start
        _, window, mask = start.window(first, self.axis)
        later_stage = not start.adds_noise
        carried = self.memory.find(start.latent) if later_stage else None
        if later_stage:  # no new noise: it goes on where the first stage left it
            noise, latent = torch.zeros_like(window), window if carried is None else carried
        else:
            noise, latent = self._noise(window), window if guide.latent is None else self._users_latent(guide, window)
        loose = self.append(start.noise, noise), self.append(start.latent, latent)
        tied = loose
        if self.calls.steps > 0:
            tied = self.tie(loose[0]), self.tie(loose[1])
            if later_stage and carried is None:
                logging.warning(
                    f"{self.who}: this stage adds no noise and no earlier stage of the same patch left a reference "
                    "for it; the canvas's first view is the reference now."
                )
        self.inputs = (*tied, None if mask is None else self.append(start.mask, torch.ones_like(mask)))
        self._begins_tied = carried is not None

    def _noise(self, window: torch.Tensor) -> torch.Tensor:
        start = self.start
        noise = picture_noise(start.probes, start.noise.shape, window.shape, start.seed or 0, REFERENCE_SEED)
        return noise.to(start.noise)

    def _users_latent(self, guide: Guide, window: torch.Tensor) -> torch.Tensor:
        """The guide's latent in the model's scale; refuses one that is not one view (ValueError)."""
        given = guide.latent["samples"]
        latent = given.unsqueeze(2) if (given.ndim, window.ndim) == (4, 5) else given  # a picture for a video model
        if latent.shape[1:] != window.shape[1:] or latent.shape[0] not in (1, window.shape[0]):
            raise ValueError(f"{self.who}: {self._misfit(given, latent, window)}")
        return self.model.process_latent_in(latent).expand(window.shape).to(self.start.noise)

    def _misfit(self, given: torch.Tensor, latent: torch.Tensor, window: torch.Tensor) -> str:
        """What is wrong with a user's latent, in the words of its sound or picture."""
        if latent.shape[1] != window.shape[1] or latent.ndim != window.ndim:
            return (
                f"the reference's latent is {list(given.shape)}, but one view is {[1, *window.shape[1:]]}; encode "
                "picture or clip with the VAE of the model that is sampled."
            )
        if latent.shape[0] not in (1, window.shape[0]):
            return (
                f"the reference's latent holds {len(latent)} pictures or clips, but the canvas {len(window)}; connect "
                "one, or one for each."
            )
        length, view = (self.canvas.measure(part.shape[self.axis]) for part in (latent, window))
        if self.canvas.audio:
            if latent.shape[self.axis] > self.view:
                return f"your recording is {length}, one view is {view}: cut it with Trim Audio Duration."
            return (
                f"your recording is {length}, one view is {view}: connect a longer one and cut it with Trim Audio "
                "Duration, or set `view` of the Subview Planner to its length."
            )
        rows, view_rows = (self.canvas.measure(self.canvas.rows_in(part)) for part in (latent, window))
        return (
            f"your picture is {length} along the canvas and {rows} across, one view is {view} and {view_rows}: bring "
            "it to that size with Upscale Image."
        )

    def _x(self, noise: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
        """The sampler's x before the first step."""
        start = self.start
        return self.model.model_sampling.noise_scaling(start.sigmas[0], noise, latent, start.is_whole)

    # ---- The state ----

    def append(self, canvas: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """The state of a canvas and a reference."""
        return torch.cat([canvas, reference], dim=self.axis)

    def crop(self, state: torch.Tensor) -> torch.Tensor:
        """The canvas of a state."""
        return state.narrow(self.axis, 0, self.length)

    def crop_reference(self, state: torch.Tensor) -> torch.Tensor:
        """The reference of a state."""
        return state.narrow(self.axis, self.length, self.view)

    def tie(self, state: torch.Tensor) -> torch.Tensor:
        """Eq. 10: the guided places of the canvas become the reference's."""
        return self._tied(self.crop(state), self.crop_reference(state))

    def _tied(self, canvas: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        state = self.append(canvas, reference)
        followed = reference.index_select(self.axis, self.column)
        torch.where(self.places, followed, canvas, out=self.crop(state))
        return state

    def _state_of(self, canvas: torch.Tensor, reference: torch.Tensor | None) -> torch.Tensor:
        """The state of two predictions in the current call; nothing is known of a reference that never ran."""
        if reference is None:
            reference = torch.zeros_like(self.call.reference)
        return self._tied(canvas, reference) if self.guided else self.append(canvas, reference)

    # ---- While the host samples ----

    @property
    def runs(self) -> bool:
        """Whether the reference is predicted in the current model call."""
        return self.finish or self.guided or self.calls.callbacks < self.calls.steps

    def enter(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Note a model call at sigma [B]; returns x as the model is to see it."""
        first = self.calls.calls == 0
        self.guided = self.calls.enter(sigma)
        if self.guided and first:
            return x if self._begins_tied else self._untied(x)
        if self.guided and moves_on_its_own(self.start.sampler):
            self._repair(x)
        return x

    def _untied(self, x: torch.Tensor) -> torch.Tensor:
        noise, latent, _ = self.inputs
        tied, canvas = self._x(self.crop(noise), self.crop(latent)), self.crop(x)
        untied = self._x(self.start.noise, self.start.latent) + (canvas - tied)
        # a sampler that begins with the bare noise (the host's VOID sampler)
        untied = torch.where(canvas == self.crop(noise), self.start.noise, untied)
        return self.append(torch.where(self.places, untied, canvas), self.crop_reference(x))

    def _repair(self, x: torch.Tensor) -> None:
        drift = (self.tie(x) - x).abs().max()
        if drift > 0:
            if not self.warned:
                logging.warning(
                    f"{self.who}: the sampler {sampler_name(self.start.sampler)} adds noise of its own, which cannot "
                    f"be tied: guided places have moved from the reference by up to {float(drift):.3g}; the model sees "
                    "them moved back at every call, but what the sampler keeps of earlier steps stays as it is."
                )
            self.warned = True
            x.copy_(self.tie(x))

    def predict(self, guide: Guidance, x: torch.Tensor, model_options: dict) -> torch.Tensor:
        """The guided prediction of a state, tied while guided."""
        options, of_sampler = self._split_functions(model_options)
        seen: list[dict] = []  # what the guidance of this call ended with

        def note(args: dict) -> torch.Tensor:
            seen.append(args)
            return args["denoised"]

        if of_sampler:
            options = {**options, AFTER_CFG: [*options.get(AFTER_CFG, []), note]}
        canvas, reference = self.crop(x), self.crop_reference(x)
        if not self.runs:
            self.caches.end(options)
        self.call = Call(x, canvas, reference, options, self.runs)
        parts = {"denoised": guide(canvas, options)}
        guided_from = seen.pop() if seen else None  # nothing where a cache has answered
        parts.update(_tensors_like(canvas, guided_from))
        if self.runs:
            self.last = {"denoised": self._predict_alone(guide, reference)}
            self.last.update(_tensors_like(reference, seen.pop() if seen else None))
        whole = {name: self._state_of(part, self.last.get(name)) for name, part in parts.items()}
        denoised = whole["denoised"]
        if guided_from is None:
            return denoised
        for function in of_sampler:
            denoised = function({**guided_from, **whole, "input": x, "denoised": denoised})
        return denoised

    def _split_functions(self, model_options: dict) -> tuple[dict, list[Callable]]:
        """The options without functions that the sampler added (CFG++), and those: they are made for the state."""
        functions = model_options.get(AFTER_CFG, [])
        of_users = self.start.options.get(AFTER_CFG, [])
        of_sampler = [f for f in functions if not any(f is known for known in of_users)]
        if not of_sampler:
            return model_options, []
        return {**model_options, AFTER_CFG: [f for f in functions if f not in of_sampler]}, of_sampler

    def _predict_alone(self, guide: Guidance, x: torch.Tensor) -> torch.Tensor:
        """The guided prediction of the reference; with plain guidance where a function is made for the canvas."""
        call = self.call
        call.of_reference = True
        call.options = self.caches.of_reference(call.options)
        if not self.plain:
            try:
                return guide(x, call.options)
            except UNFIT as error:
                function = culprit(error, {name: call.options.get(name) for name in GUIDANCE})
                if function is None:
                    raise
                self.plain = True
                logging.warning(
                    f"{self.who}: {function} cannot guide the reference, which is one view long, while it guides the "
                    f"canvas ({error}); the reference is guided without it."
                )
        call.options = _without_users(call.options, self.start.options)
        return guide(x, call.options)

    def tied_options(self, options: dict) -> dict:
        """The sampler's options with its injected noise tied."""
        start, (noise, *_) = self.start, self.inputs
        if not takes_noise_sampler(start.sampler):
            return options
        canvas = options.get("noise_sampler") or host_noise_sampler(
            start.sampler, self.crop(noise), start.sigmas, start.seed
        )
        seed = None if start.seed is None else (start.seed + REFERENCE_SEED) % 2**63
        reference = host_noise_sampler(start.sampler, self.crop_reference(noise), start.sigmas, seed)
        tied = TiedNoise(canvas, reference, self.axis, self.tie, self.calls.noise_is_guided)
        return {**options, "noise_sampler": tied}

    def end(self, state: torch.Tensor) -> torch.Tensor | None:
        """Keep the reference of a final state for a later stage; returns its latent, or None where it is unfinished."""
        reference = self.crop_reference(state)
        if self.start.sigmas[-1] > 0:
            self.memory.keep(self.crop(state), reference)
        if not self.finish:
            return None
        latent = self.model.process_latent_out(reference.float())
        return latent.to(comfy.model_management.intermediate_device())


class Caches:
    """The host's EasyCache and LazyCache beside a reference: they hold what they saw of one latent, or one batch."""

    def __init__(self, model_sampling: Any):
        self.model_sampling = model_sampling
        self._own: Any = None
        self._ended = False

    def of_reference(self, options: dict) -> dict:
        """Model options with a cache of the reference's own."""
        options_of_network = options.get("transformer_options", {})
        cache = options_of_network.get(CACHE)
        if cache is None:
            return options
        if self._own is None:
            self._own = cache.clone().prepare_timesteps(self.model_sampling)
        return {**options, "transformer_options": {**options_of_network, CACHE: self._own}}

    def end(self, options: dict) -> None:
        """Once the reference has stopped, the network sees another batch."""
        cache = options.get("transformer_options", {}).get(CACHE)
        if not self._ended and hasattr(cache, "first_cond_uuid"):
            cache.reset()
        self._ended = True


def _tensors_like(x: torch.Tensor, args: dict | None) -> dict[str, torch.Tensor]:
    """What a guidance function was given that has the shape of x, but for x itself."""
    tensors = {name: value for name, value in (args or {}).items() if isinstance(value, torch.Tensor)}
    return {name: tensor for name, tensor in tensors.items() if tensor.shape == x.shape and name != "input"}


def _without_users(options: dict, of_users: dict) -> dict:
    """Options without the guidance functions that other nodes have put on the model."""
    plain = {name: value for name, value in options.items() if name not in GUIDANCE}
    known = of_users.get(AFTER_CFG, [])
    plain[AFTER_CFG] = [f for f in options.get(AFTER_CFG, []) if not any(f is other for other in known)]
    return plain
