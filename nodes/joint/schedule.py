"""Which model calls of a sampler fall into the guided steps, the first K = round(rate * T)."""

from __future__ import annotations

import bisect
from itertools import pairwise
from typing import Any, NamedTuple

import torch

import comfy.samplers
from comfy.samplers import CFGGuider, Sampler

from ...safa_core import guided_steps

# Model calls per step, for samplers that evaluate again inside a step; the host calls back after the first.
CALLS_PER_STEP = {
    "sample_heun": 2,
    "sample_heunpp2": 3,
    "sample_exp_heun_2_x0": 2,
    "sample_exp_heun_2_x0_sde": 2,
    "sample_dpm_2": 2,
    "sample_dpm_2_ancestral": 2,
    "sample_dpmpp_2s_ancestral": 2,
    "sample_dpmpp_2s_ancestral_cfg_pp": 2,
    "sample_dpmpp_sde": 2,
    "sample_dpmpp_sde_gpu": 2,
    "sample_seeds_2": 2,
    "sample_seeds_3": 3,
}
BY_SIGMA = ("dpm_fast_function", "dpm_adaptive_function")  # their steps are not the schedule's
KNOWN = {f"sample_{name}" for name in comfy.samplers.KSAMPLER_NAMES} | {*BY_SIGMA, "sample_unipc", "sample_unipc_bh2"}


def sampler_name(sampler: Sampler) -> str:
    """The name of the function behind a host sampler, "sample_euler" for example."""
    function = getattr(sampler, "sampler_function", sampler)
    return getattr(function, "__name__", type(function).__name__)


def is_foreign(sampler: Sampler) -> bool:
    """Whether a sampler is a function of another pack's."""
    return hasattr(sampler, "sampler_function") and sampler_name(sampler) not in KNOWN


def moves_on_its_own(sampler: Sampler) -> bool:
    """Whether a sampler may add noise that the pack cannot tie: another pack's, or churned."""
    return sampler_name(sampler) not in KNOWN or getattr(sampler, "extra_options", {}).get("s_churn", 0) > 0


class Stage(NamedTuple):
    """A sampling's sigmas, on the CPU, and their place in a schedule.

    whole, before: steps of the whole schedule, and of it before these sigmas.
    """

    sigmas: torch.Tensor
    whole: int
    before: int


def place_in_schedule(sigmas: torch.Tensor) -> Stage:
    """The stage that sigmas are, as KSampler Advanced and Split Sigmas slice one tensor."""
    whole = sigmas.untyped_storage().nbytes() // sigmas.element_size() - 1
    return Stage(sigmas.cpu(), whole, sigmas.storage_offset())


def guided_steps_of_schedule(rate: float, sigmas: torch.Tensor, model_sampling: Any, stage: Stage | None) -> int:
    """How many of the schedule's first steps are guided, K = round(rate * T).

    rate:   r_guide.
    sigmas: the schedule.
    stage:  its `place_in_schedule` where it is one stage of a longer one, so that both stages agree on K. A stage
            that is a schedule of its own takes the share of the model's noise range instead, as the host's start and
            end percents do.

    A schedule that climbs (Flip Sigmas, to find the noise of a picture) is not guided.
    """
    steps = len(sigmas) - 1
    if sigmas[0] < sigmas[-1]:
        return 0
    if stage is None:
        return guided_steps(rate, steps)
    if stage.whole > steps:
        return min(max(guided_steps(rate, stage.whole) - stage.before, 0), steps)
    # share of the noise range that is done at each sigma: the inverse of the host's percent_to_sigma
    table = [-model_sampling.percent_to_sigma(p / 1000) for p in range(1, 1000)]
    done = [bisect.bisect_left(table, -s) / 1000 for s in sigmas.tolist()]
    return sum(1 for first, last in pairwise(done) if (first + last) / 2 <= rate + 0.001)


def early_steps(share: float, guider: CFGGuider, sampler: Sampler, adds_noise: bool, stage: Stage) -> int:
    """`guided_steps_of_schedule` for a sampling that is about to start.

    guider: the host's, inside `inner_sample`. adds_noise: whether the sampling begins with noise. stage: it counts
    where noise is left over or left off: there the sigmas are one stage of a longer schedule.
    """
    sigmas = stage.sigmas
    cut = bool(sigmas[-1] > 0) or not (adds_noise or sampler.max_denoise(guider, sigmas))
    return guided_steps_of_schedule(share, sigmas, guider.inner_model.model_sampling, stage if cut else None)


class GuidedCalls:
    """Counts callbacks and model calls, and decides which of them are guided.

    A sigma alone cannot tell: second-order samplers evaluate again at the sigma of the first free step.
    """

    def __init__(self, sampler: Sampler, sigmas: torch.Tensor, steps: int):
        name = sampler_name(sampler)
        options = getattr(sampler, "extra_options", {})
        self.steps = steps
        self.extra_calls = CALLS_PER_STEP.get(name, 1) - 1
        if name == "sample_heunpp2":  # looks fewer steps ahead near the end
            self.extra_calls = min(self.extra_calls, len(sigmas) - 1 - steps)
        if name == "sample_sa_solver_pece" or options.get("use_pece"):  # the first step has nothing to correct
            self.extra_calls = int(steps > 1 and options.get("corrector_order", 1) > 0)
        self.by_sigma = name in BY_SIGMA
        self.last_sigma = float(sigmas[steps]) if self.by_sigma else 0.0
        self.callbacks = 0
        self.calls = 0
        self.calls_since = 0

    def enter(self, sigma: torch.Tensor) -> bool:
        """Count a model call at `sigma` [B]; whether it is guided."""
        guided = self._is_guided(sigma)
        self.calls += 1
        self.calls_since += 1
        return guided

    def _is_guided(self, sigma: torch.Tensor) -> bool:
        if self.steps == 0:
            return False
        if self.by_sigma:
            return float(sigma.flatten()[0]) > self.last_sigma
        again = self.callbacks == self.steps and self.calls_since < self.extra_calls  # within the last guided step
        return self.callbacks < self.steps or again

    def called_back(self) -> None:
        """Count the sampler's callback, after the first evaluation of a step."""
        self.callbacks += 1
        self.calls_since = 0

    def noise_is_guided(self, sigma: torch.Tensor) -> bool:
        """Whether noise that the sampler injects now belongs to a guided step."""
        if self.by_sigma:
            return self.steps > 0 and float(sigma) > self.last_sigma
        return self.steps > 0 and self.callbacks <= self.steps
