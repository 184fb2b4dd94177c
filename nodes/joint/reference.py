"""Reference-Guided Latent Swap (Eq. 10) while the host samples: guided places of the canvas follow one more view.

The sampler's state is [canvas | reference] along the long axis. Guided places are tied to the reference before the
first step, in every prediction and in injected noise: then any sampler keeps them equal, and nothing is written into
its state (but where a sampler adds noise that cannot be tied). Algorithm 1's J_T is not tied, so the first model call
sees the canvas as it was.
"""

from __future__ import annotations

import logging

import torch

import comfy.model_management
from comfy.model_patcher import set_model_options_pre_cfg_function

from ...safa_core.fold import on_axes
from ..canvas import Canvas, Guide
from .injected_noise import TiedNoise, host_noise_sampler, takes_noise_sampler
from .schedule import GuidedCalls, early_steps, moves_on_its_own, sampler_name
from .start import StageMemory, Start

REFERENCE_SEED = 0x5AFA  # the reference's noise: the user's seed, another stream


class NoReference:
    """A sampling without a guide: the state is the canvas alone. The interface of `Reference`, which explains it."""

    windows = 0
    runs = False

    def __init__(self, start: Start):
        self.inputs = start.inputs
        self.calls = GuidedCalls(start.sampler, start.sigmas, 0)

    def crop(self, state: torch.Tensor) -> torch.Tensor:
        return state

    def join(self, i: int, canvas: torch.Tensor, reference: torch.Tensor | None) -> torch.Tensor:
        return canvas

    def enter(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        self.calls.enter(sigma)
        return x

    def leave(self, denoised: torch.Tensor) -> torch.Tensor:
        return denoised

    def tie_before_cfg(self, model_options: dict) -> None:
        pass

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

    def __init__(self, guide: Guide, canvas: Canvas, start: Start, memory: StageMemory, who: str, finish: bool = False):
        noise, plan = start.noise, canvas.plan
        self.start, self.memory, self.who, self.finish = start, memory, who, finish
        self.axis, self.length, self.view = canvas.axis_in(noise), plan.length, plan.view
        self.model = start.guider.inner_model
        places, column = guide.resolve(canvas).places(plan, canvas.rows_in(noise))
        self.places = on_axes(places, noise.ndim, self.axis).to(noise.device)
        self.column = column.to(noise.device)
        if start.mask is not None:  # what is kept or half kept cannot follow the reference
            self.places = self.places & (start.mask >= 1)
        steps = early_steps(guide.rate, start.guider, start.sampler, start.sigmas, noise, start.stage)
        self.calls = GuidedCalls(start.sampler, start.sigmas, steps)
        self.guided = False
        self.warned = False
        self.last: dict[int, torch.Tensor] = {}
        self._begin(guide, plan.indices(0).to(noise.device))

    # ---- Before the sampling ----

    def _begin(self, guide: Guide, first: torch.Tensor) -> None:
        """Make the inputs. first: the canvas columns of the first view."""
        start = self.start
        _, window, mask = start.window(first, self.axis)
        later_stage = not torch.any(start.noise)
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
        self._first_x = self._x(*(tied if carried is not None else loose)), self._x(*tied)

    def _noise(self, window: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(((self.start.seed or 0) + REFERENCE_SEED) % 2**63)
        return torch.randn(window.shape, generator=generator).to(self.start.noise)

    def _users_latent(self, guide: Guide, window: torch.Tensor) -> torch.Tensor:
        """The guide's latent in the model's scale; refuses one that is not one view (ValueError)."""
        given = guide.latent["samples"]
        latent = given.unsqueeze(2) if given.ndim == window.ndim - 1 else given
        if latent.shape[1:] != window.shape[1:] or latent.shape[0] not in (1, window.shape[0]):
            raise ValueError(
                f"{self.who}: the reference's latent is {list(given.shape)}, but one view is "
                f"{[1, *window.shape[1:]]}; encode a picture or clip of exactly one view."
            )
        return self.model.process_latent_in(latent).expand(window.shape).to(self.start.noise)

    def _x(self, noise: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
        """The sampler's x before the first step."""
        start = self.start
        most = start.sampler.max_denoise(start.guider, start.sigmas)
        return self.model.model_sampling.noise_scaling(start.sigmas[0], noise, latent, most)

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
        reference = self.crop_reference(state)
        followed = reference.index_select(self.axis, self.column)
        return self.append(torch.where(self.places, followed, self.crop(state)), reference)

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
            return self._untied(x)
        if self.guided and moves_on_its_own(self.start.sampler):
            self._repair(x)
        return x

    def _untied(self, x: torch.Tensor) -> torch.Tensor:
        untied, tied = self._first_x
        canvas = torch.where(self.places, self.crop(untied + (x - tied)), self.crop(x))
        return self.append(canvas, self.crop_reference(x))

    def _repair(self, x: torch.Tensor) -> None:
        drift = (self.tie(x) - x).abs().max()
        if drift > 0:
            if not self.warned:
                logging.warning(
                    f"{self.who}: the sampler {sampler_name(self.start.sampler)} adds noise of its own; guided places "
                    f"had moved from the reference by up to {float(drift):.3g} and were put back."
                )
            self.warned = True
            x.copy_(self.tie(x))

    def join(self, i: int, canvas: torch.Tensor, reference: torch.Tensor | None) -> torch.Tensor:
        """The state of the predictions by the i-th list of conds; without a new one of the reference its last."""
        if reference is not None:
            self.last[i] = reference
        elif i not in self.last:
            self.last[i] = torch.zeros_like(self.crop_reference(self.inputs[0]))
        state = self.append(canvas, self.last[i])
        return self.tie(state) if self.guided else state

    def tie_before_cfg(self, model_options: dict) -> None:
        """Tie after other nodes' pre-CFG functions: CFG++ samplers use the prediction without the prompt by itself."""

        def before_cfg(args: dict) -> list[torch.Tensor]:
            return [self.tie(out) for out in args["conds_out"]] if self.guided else args["conds_out"]

        set_model_options_pre_cfg_function(model_options, before_cfg)

    def leave(self, denoised: torch.Tensor) -> torch.Tensor:
        """After CFG and post-CFG functions, which may have moved guided places."""
        return self.tie(denoised) if self.guided else denoised

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
