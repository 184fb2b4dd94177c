"""What is measured of the pocket model: by a classifier of its synthesised sounds, and on latents.

Prompts are the classes' names. The real windows are single ones of the same prompts, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from ...safa_core import ViewPlan
from ...safa_core.measures.spectrum import (
    centred,
    cut,
    high_frequency_deficit,
    middle_regions,
    overlap_regions,
    radial_spectrum,
    relative,
)
from ...training.sounds import CLASSES
from . import classifier
from .backbones import Backbone, device, embedded
from .cost import mean
from .extrapolate import frechet_error, frechet_limit
from .interface import Measures, Samples, Score
from .metrics import class_divergence, intra_similarity, kernel_distance, mean_distance
from .tables import frechet, per_canvas, rows_of

RECIPE = classifier.Recipe()
OVERLAP, MIDDLE = 0, 1  # in the rows of `spectrum`


@dataclass(frozen=True)
class TrainedBackbone(Backbone):
    """A network that is trained where it is not there yet, and never missing."""

    def path(self, models: Path) -> Path:
        return models / self.folder

    def missing(self, models: Path) -> None:
        return None

    def open(self, models: Path) -> classifier.Classifier:
        return _trained(self.path(models), RECIPE)[0].to(device())

    def facts(self, models: Path) -> dict:
        """{"held_out": accuracy on held-out clips, "clips": how many, ...}."""
        return _trained(self.path(models), RECIPE)[1]


@lru_cache(maxsize=2)
def _trained(folder: Path, recipe: classifier.Recipe) -> tuple[classifier.Classifier, dict]:
    with torch.inference_mode(False), torch.enable_grad():  # it may have to be trained
        return classifier.load(folder, recipe)


POCKET = TrainedBackbone("pocket", "evaluation/pocket", "the pocket model's classifier", classifier.load)


# ---- Of windows, by the classifier ----


def recognised(generated: Measures, real: Measures | None = None) -> float:
    """Share of windows whose class the classifier names."""
    truth = torch.tensor([CLASSES.index(prompt) for prompt in generated.prompts])
    return float((generated.rows.argmax(1) == truth).double().mean())


def _canvas_groups(measures: Measures) -> torch.Tensor:
    """Rows [canvases, windows of one, D]."""
    return measures.rows.unflatten(0, (len(measures.canvases), -1))


def distance_error(generated: Measures, real: Measures) -> float:
    """Standard error of the Fréchet distance: windows of one canvas are alike, so canvases are left out in turn."""
    return frechet_error(_canvas_groups(generated), _canvas_groups(real))


def distance_limit(generated: Measures, real: Measures) -> float:
    """The Fréchet distance for infinitely many canvases."""
    return frechet_limit(_canvas_groups(generated), _canvas_groups(real))


def posterior_divergence(generated: Measures, real: Measures) -> float:
    """KL(real || generated) of class posteriors, window by window of the same prompt."""
    return class_divergence(real.rows, generated.rows)


def similarity(samples: Samples, numbers: list[int], models: Path) -> float:
    """Mean cosine of the features of a canvas's windows."""
    return intra_similarity(embedded(POCKET, samples, models)["embedding"][numbers])


def mean_error(generated: Measures, real: Measures | None = None) -> float | None:
    """Standard error of the mean of the rows."""
    return standard_error(generated.rows[:, 0])


def standard_error(values: torch.Tensor) -> float | None:
    """Of the mean of values [N]; None for one."""
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else None


# ---- Of latents ----


def of_latents(value: Callable[[Samples], torch.Tensor]) -> Callable[[Samples, Path], Measures]:
    """describe(): a row [...] per canvas, value(samples) gives all [N, ...]."""

    def describe(samples: Samples, models: Path) -> Measures:
        return Measures(value(samples), samples.prompts, samples.positions)

    return describe


def views_apart(samples: Samples) -> torch.Tensor:
    """Root-mean-square distance between the latents of the views of each canvas: [N, 1]."""
    views = cut(samples.windows, list(samples.plan.starts), samples.plan.view)
    return torch.tensor([[mean_distance(canvas)] for canvas in views])


def first_views(samples: Samples) -> torch.Tensor:
    """The latents of each canvas's first view: [N, numbers]."""
    return cut(samples.windows, [samples.plan.starts[0]], samples.plan.view).flatten(1)


def seeds_apart(generated: Measures, real: Measures | None = None) -> float:
    """Mean distance of rows of one prompt that come from different seeds; NaN with one seed."""
    by_prompt: dict[str, list[torch.Tensor]] = {}
    for numbers in generated.canvases:
        by_prompt.setdefault(generated.prompts[numbers[0]], []).append(generated.rows[numbers])
    distances = []
    for seeds in by_prompt.values():
        for i, seed in enumerate(seeds):
            distances += [mean_distance(seed, other) for other in seeds[:i]]
    return sum(distances) / len(distances) if distances else float("nan")


def spectra(canvas: torch.Tensor, plan: ViewPlan, width: int) -> dict[str, torch.Tensor]:
    """Log-amplitude in dB by region, [N, bins] each (Fig. 2b): "overlap" and, where there is one, "middle".

    Of single windows: what their borders alone do to the spectrum, and all of them.
    """
    if len(plan) == 1:
        places = {"overlap": [(0, width), (plan.view - width, width)], "middle": [(0, plan.view)]}
    else:
        places = {"overlap": overlap_regions(plan), "middle": middle_regions(plan)}
    curves = {}
    for name, regions in places.items():
        if regions:
            pieces = cut(canvas, centred(regions, width, plan.length), width)
            curves[name] = radial_spectrum(pieces.flatten(0, 1)).unflatten(0, pieces.shape[:2]).mean(1)
    return curves


def spectrum(samples: Samples) -> torch.Tensor:
    """`spectra` of each canvas as [N, 2, bins], NaN where there is no middle."""
    curves = spectra(samples.windows, samples.plan, samples.width)
    overlap = curves["overlap"]
    return torch.stack([overlap, curves.get("middle", torch.full_like(overlap, torch.nan))], 1)


def deficits(reference: torch.Tensor, spectrum: torch.Tensor, kind: str) -> torch.Tensor:
    """High-frequency deficits [N] in dB of spectra [N, bins] against those of reference [N, bins] or [M, bins].

    kind: "relative", both curves to their lowest frequency as in Fig. 2(b), or "absolute", which counts lost variance.
    """
    if len(reference) != len(spectrum):
        reference = reference.mean(0)
    curve = relative if kind == "relative" else torch.clone
    return high_frequency_deficit(curve(reference), curve(spectrum))


def _deficit(name: str, title: str, kind: str, against_single: bool) -> Score:
    def values(generated: Measures, real: Measures | None) -> torch.Tensor:
        reference = real if against_single else generated
        return deficits(reference.rows[:, MIDDLE], generated.rows[:, OVERLAP], kind)

    return _latent(
        name, title, spectrum,
        lambda generated, real=None: float(values(generated, real).mean()),
        error=lambda generated, real=None: standard_error(values(generated, real)),
        needs_real=against_single, form="+.2f",
    )  # fmt: skip


# ---- The scores ----


def _window(name, title, better, what, reduce, **more) -> Score:
    measure = (POCKET.missing, rows_of(POCKET, what), reduce)
    return Score(name, title, "pocket", better, more.pop("needs_real", False), *measure, **more)


def _alike(name, title, windows) -> Score:
    measure = (POCKET.missing, per_canvas(similarity), mean)
    more = {"windows": windows, "within": True, "error": mean_error, "form": ".4f"}
    return Score(name, title, "pocket", "higher", False, *measure, **more)


def _latent(name, title, value, reduce, needs_real=False, **more) -> Score:
    measure = (POCKET.missing, of_latents(value), reduce)
    return Score(name, title, "pocket", "", needs_real, *measure, windows="canvas", **more)


def _distance(name, title, reduce, what="embedding", **more) -> Score:
    return _window(name, title, "lower", what, reduce, needs_real=True, windows="seams", **more)


SCORES = (
    _window("recognised", "recognised", "higher", "classes", recognised, windows="seams", form=".1%"),
    _window("recognised_all", "all windows", "higher", "classes", recognised, windows="all", form=".1%"),
    _distance("fd@pocket", "FD", frechet, error=distance_error, form=".3g"),
    _distance("fd_limit@pocket", "FD∞", distance_limit, form=".3g"),
    _distance("kid@pocket", "KD", lambda a, b: kernel_distance(a.rows, b.rows), form=".3g"),
    _distance("kl@pocket", "KL", posterior_divergence, "classes", form=".3f"),
    _alike("similarity", "similarity", "apart"),
    _alike("similarity_views", "of views", "views"),
    _latent("within", "within", views_apart, mean, within=True, error=mean_error, form=".3f"),
    _latent("between", "between", first_views, seeds_apart, form=".3f"),
    _deficit("deficit", "relative", "relative", False),
    _deficit("deficit_absolute", "absolute", "absolute", False),
    _deficit("deficit@single", "relative to single", "relative", True),
    _deficit("deficit_absolute@single", "absolute to single", "absolute", True),
)
