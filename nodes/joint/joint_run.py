"""One sampling with joint views: what is made once per run and used at every model call."""

from __future__ import annotations

import logging

import torch

from ...safa_core.fold import ViewFold, on_axes
from .finite import FiniteWatch
from .injected_noise import TiedNoise, host_noise_sampler, takes_noise_sampler
from .schedule import GuidedCalls, early_steps, moves_on_its_own, sampler_name
from .view_conds import SPAN, ViewConds, size_to_views

REFERENCE_SEED = 0x5AFA  # the reference's noise: the user's seed, another stream


class JointRun:
    """The extended state [canvas | reference] of one sampling, and the operations on it.

    patch: JointPatch. guider: the host's CFGGuider inside `inner_sample`. noise, latent_image, denoise_mask: the
    canvas's, [B, C, ..., length, ...]. stage: `place_in_schedule` of sigmas. Without a guide there is no reference
    and the state is the canvas alone.
    """

    def __init__(self, patch, guider, sampler, sigmas, stage, seed, noise, latent_image, denoise_mask):
        self.patch, self.model, self.sampler = patch, guider.inner_model, sampler
        self.plan, self.axis = patch.canvas.plan, patch.canvas.axis_in(noise)
        self.length, self.view, self.seed, self.sigmas = self.plan.length, self.plan.view, seed, sigmas
        device, ndim = noise.device, noise.ndim
        rows = patch.canvas.rows_in(noise)
        self.fold = ViewFold(self.plan, patch.join.weights(self.plan, rows), ndim, self.axis, device, noise.dtype)
        self.watch = FiniteWatch(patch.who, self._view_name)
        spans = any(SPAN in c for conds in guider.conds.values() for c in conds)
        self.whole = self.length == self.view and len(self.plan) == 1 and patch.guide is None and not spans
        self.guided = False
        self.called = False
        self.held = {}
        self.warned = False
        first = self.plan.indices(0).to(device)
        self.views_of_conds = ViewConds(
            self.plan, noise.shape[2:], self.axis, torch.cat([self.fold.columns, first]), patch.who
        )
        self._fit_conds(guider, noise, latent_image, denoise_mask, first)
        if patch.guide is None:
            self.calls = GuidedCalls(sampler, sigmas, 0)
            self.start = (noise, latent_image, denoise_mask)
        else:
            places, column = patch.guide.resolve(patch.canvas).places(self.plan, rows)
            self.places, self.column = on_axes(places, ndim, self.axis).to(device), column.to(device)
            self._start_reference(guider, stage, noise, latent_image, denoise_mask, first)
            self.state_columns = torch.cat([self.fold.columns, self.length + torch.arange(self.view, device=device)])

    def _fit_conds(self, guider, noise, latent_image, denoise_mask, first):
        if self.length == self.view and len(self.plan) == 1:
            return
        window = [t if t is None else t.index_select(self.axis, first) for t in (noise, latent_image, denoise_mask)]
        scale = self.patch.canvas.scale
        size_to_views(guider.conds, self.model, noise.device, *window, self.seed, self.plan, scale)

    def _start_reference(self, guider, stage, noise, latent_image, denoise_mask, first):
        """Append the reference and tie its places of the canvas (design, section 4)."""
        later_stage = not torch.any(noise)
        carried = self.patch.carried(latent_image) if later_stage else None
        sampling = self.model.model_sampling
        most = self.sampler.max_denoise(guider, self.sigmas)
        guided = early_steps(self.patch.guide.rate, guider, self.sampler, self.sigmas, noise, stage)
        self.calls = GuidedCalls(self.sampler, self.sigmas, guided)
        if later_stage and carried is None and self.calls.steps > 0:
            logging.warning(
                f"{self.patch.who}: this stage adds no noise and no earlier stage of the same patch left a reference "
                "for it; the canvas's first view is the reference now."
            )
        if denoise_mask is not None:  # what is kept or half kept cannot follow the reference
            self.places = self.places & (denoise_mask >= 1)
            ones = torch.ones_like(denoise_mask.index_select(self.axis, first))
            denoise_mask = self._append(denoise_mask, ones)
        reference = self._reference(noise, latent_image.index_select(self.axis, first), later_stage, carried)
        loose = tuple(self._append(c, r) for c, r in zip((noise, latent_image), reference, strict=True))
        tied = tuple(self.tie(t) for t in loose) if self.calls.steps > 0 else loose
        # x before the first step, as Algorithm 1 sees it (J_T, untied), and as the sampler will hold it
        seen = tied if carried is not None else loose
        self.first_x = tuple(sampling.noise_scaling(self.sigmas[0], n, latent, most) for n, latent in (seen, tied))
        self.start = (*tied, denoise_mask)

    def _reference(self, noise, window, later_stage, carried):
        """(noise, latent) of the reference at the start.

        Its latent is the user's, else the canvas's first view (`window`). A later stage gets no new noise; there the
        reference goes on where the first stage left it.
        """
        if later_stage:
            return torch.zeros_like(window), window if carried is None else carried
        generator = torch.Generator().manual_seed(((self.seed or 0) + REFERENCE_SEED) % 2**63)
        own = torch.randn(window.shape, generator=generator).to(noise)
        if self.patch.guide.latent is not None:
            window = self.patch.reference_latent(self.model, window.shape).to(noise)
        return own, window

    def _append(self, canvas, reference):
        return torch.cat([canvas, reference], dim=self.axis)

    def crop(self, state):
        """The canvas of a state."""
        return state.narrow(self.axis, 0, self.length)

    def reference_of(self, state):
        """The reference of a state."""
        return state.narrow(self.axis, self.length, self.view)

    def tie(self, state):
        """Eq. 10: the guided places of the canvas become the reference's."""
        reference = self.reference_of(state)
        looked_at = reference.index_select(self.axis, self.column)
        return self._append(torch.where(self.places, looked_at, self.crop(state)), reference)

    def extra_options(self, options: dict) -> dict:
        """The sampler's options with its noise tied."""
        if self.patch.guide is None or not takes_noise_sampler(self.sampler):
            return options
        canvas, reference = self.crop(self.start[0]), self.reference_of(self.start[0])
        seed = None if self.seed is None else (self.seed + REFERENCE_SEED) % 2**63
        drawn = options.get("noise_sampler") or host_noise_sampler(self.sampler, canvas, self.sigmas, self.seed)
        own = host_noise_sampler(self.sampler, reference, self.sigmas, seed)
        tied = TiedNoise(drawn, own, self.axis, self.tie, self.calls.noise_is_guided)
        return {**options, "noise_sampler": tied}

    def enter(self, x, sigma):
        """Before a model call: x as the model shall see it."""
        if x.shape != self.start[0].shape:
            raise ValueError(
                f"{self.patch.who}: the sampler {sampler_name(self.sampler)} changes the latent's size while it runs, "
                "and the plan is for one size; choose another sampler."
            )
        self.watch.check()
        first = self.calls.calls == 0
        self.guided = self.calls.enter(sigma)
        if not self.guided:
            return x
        if first:
            untied, tied = self.first_x
            canvas = torch.where(self.places, self.crop(untied + (x - tied)), self.crop(x))
            return self._append(canvas, self.reference_of(x))
        if moves_on_its_own(self.sampler):
            self._repair(x)
        return x

    def _repair(self, x):
        drift = (self.tie(x) - x).abs().max()
        if drift > 0:
            if not self.warned:
                logging.warning(
                    f"{self.patch.who}: the sampler {sampler_name(self.sampler)} adds noise of its own; guided places "
                    f"had moved from the reference by up to {float(drift):.3g} and were put back."
                )
            self.warned = True
            x.copy_(self.tie(x))

    def before_cfg(self, args):
        """After other nodes' pre-CFG functions: CFG++ samplers use the prediction without the prompt by itself."""
        return [self.tie(out) for out in args["conds_out"]] if self.guided else args["conds_out"]

    def leave(self, denoised):
        """After CFG and post-CFG functions: guided places are the reference's again."""
        if not self.called:  # ever: a cache may skip later calls
            raise ValueError(
                f"{self.patch.who}: another node on this model replaces the host's batch of conditionings, so views "
                "cannot be cut; remove that node or the SaFa patch."
            )
        return self.tie(denoised) if self.guided else denoised

    def calc_cond_batch(self, executor, model, conds, x, timestep, model_options):
        """The host's batch, over all views side by side, joined again (Eq. 4)."""
        self.called = True
        if self.whole:
            outs = executor(model, conds, x, timestep, model_options)
            self._watch(conds, outs)
            return outs
        with_reference = self.patch.guide is not None and (self.patch.finish_reference or self._guidance_left())
        columns = self.state_columns if with_reference else self.fold.columns
        views = [self.views_of_conds.of(c, with_reference, timestep) for c in conds]
        outs = executor(model, views, x.index_select(self.axis, columns), timestep, model_options)
        self._watch(conds, outs)
        return [self._join(i, out, with_reference) for i, out in enumerate(outs)]

    def _watch(self, conds, outs):
        for cond, out in zip(conds, outs, strict=True):
            if cond is not None:
                self.watch.note(out, self.axis, self.view, self.calls.callbacks)

    def _guidance_left(self) -> bool:
        return self.guided or self.calls.callbacks < self.calls.steps

    def _join(self, i, out, with_reference):
        canvas = self.fold.scatter(out)
        if self.patch.guide is None:
            return canvas
        if with_reference:
            self.held[i] = out.narrow(self.axis, len(self.plan) * self.view, self.view)
        if i not in self.held:
            self.held[i] = torch.zeros_like(self.reference_of(self.start[0]))
        state = self._append(canvas, self.held[i])
        return self.tie(state) if self.guided else state

    def _view_name(self, i: int) -> str:
        if i == len(self.plan):
            return "the reference"
        start = self.plan.starts[i]
        return f"view {i + 1} of {len(self.plan)} (latent columns {start} to {start + self.view - 1})"
