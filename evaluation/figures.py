"""From a run's saved features and latents to the paper's figures."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..safa_core import ViewPlan
from ..safa_core.measures.spectrum import (
    centred,
    cut,
    high_frequency_deficit,
    middle_regions,
    overlap_regions,
    radial_spectrum,
    relative,
)
from ..training.sounds import CLASSES
from .extrapolate import frechet_error, frechet_limit
from .metrics import class_divergence, frechet_distance, intra_similarity, kernel_distance, mean_distance
from .model import PocketModel
from .protocol import Arm, Protocol, pieces
from .store import Run
from .work import REAL, seams


@dataclass
class Made:
    """All canvases of one arm, in the same order of prompts for every arm.

    canvas [N, C, F, L]; features [N, windows, D] and log-probabilities [N, windows, K] of the windows of each kind;
    truth [N]; seed [N]; prompts; seconds and evaluations per canvas; before, by step, the canvases before some steps.
    """

    arm: Arm
    plan: ViewPlan
    canvas: torch.Tensor
    features: dict[str, torch.Tensor]
    classes: dict[str, torch.Tensor]
    truth: torch.Tensor
    seed: torch.Tensor
    seconds: float
    evaluations: float
    before: dict[int, torch.Tensor]


def gather(run: Run, protocol: Protocol, model: PocketModel, chunk: int) -> dict[str, Made]:
    """Every arm's canvases from the rounds that all arms have finished; empty when there is none."""
    rounds = [part for part in pieces(protocol, CLASSES, chunk) if all(piece.key in run for piece in part)]
    return {parts[0].arm.label: _join(run, parts, model) for parts in zip(*rounds, strict=True)}


def _join(run: Run, parts, model: PocketModel) -> Made:
    lines, saved = [run.lines[piece.key] for piece in parts], [run.tensors(piece.key) for piece in parts]
    starts, count = lines[0]["starts"], sum(len(line["classes"]) for line in lines)
    joined = {name: torch.cat([tensors[name] for tensors in saved]) for name in saved[0]}
    columns = {kind: [starts.index(start) for start in part] for kind, part in lines[0]["kinds"].items()}
    return Made(
        arm=parts[0].arm,
        plan=parts[0].arm.plan(model.view, model.columns_per_second),
        canvas=joined["canvas"],
        features={kind: joined["features"][:, part] for kind, part in columns.items()},
        classes={kind: joined["classes"][:, part] for kind, part in columns.items()},
        truth=torch.tensor([CLASSES.index(name) for line in lines for name in line["classes"]]),
        seed=torch.tensor([line["seed"] for line in lines for _ in line["classes"]]),
        seconds=sum(line["seconds"] for line in lines) / count,
        evaluations=sum(line["evaluations"] for line in lines) / count,
        before={int(name.split("_")[-1]): part for name, part in joined.items() if name.startswith("before_step_")},
    )


def accuracy(made: Made, kind: str) -> float:
    """Share of windows whose class the classifier names."""
    return float((made.classes[kind].argmax(-1) == made.truth[:, None]).double().mean())


def single_sets(single: Made, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(features, log-probabilities) of the two sets of single windows, each [prompts * count, .], same prompts."""
    sets = []
    for half in (0, 1):
        features, classes = (
            part["view"][:, 0].unflatten(0, (-1, 2, count)) for part in (single.features, single.classes)
        )
        sets.append((features[:, half].flatten(0, 1), classes[:, half].flatten(0, 1)))
    return sets


def frechet(windows: torch.Tensor, single: torch.Tensor, count: int) -> dict:
    """The distance of windows [canvases * count, D] to equally many single ones, its error, its limit for many."""
    groups = [part.unflatten(0, (-1, count)) for part in (windows, single)]
    found = {"fd": frechet_distance(windows, single), "fd_error": frechet_error(*groups)}
    return found | {"fd_limit": frechet_limit(*groups)}


def quality(made: Made, single: Made, count: int) -> dict:
    """Table 2's figures of one arm; distances are to the first set of single windows, from equally many windows."""
    (features, classes), (other, other_classes) = single_sets(single, count)
    found = {"seconds": made.seconds, "evaluations": made.evaluations, "canvases": len(made.canvas)}
    if made is single:
        return found | {
            "windows": len(other),
            "accuracy": accuracy(made, "view"),
            **frechet(other, features, count),
            "kd": kernel_distance(other, features),
            "kl": class_divergence(classes, other_classes),
            "between": _between(made, made.canvas),
        }
    seam = made.features["seam"].flatten(0, 1)
    views = cut(made.canvas, list(made.plan.starts), made.plan.view)
    similarities = torch.tensor([intra_similarity(part) for part in made.features["apart"]])
    return found | {
        "windows": len(seam),
        "accuracy": accuracy(made, "seam"),
        "accuracy_all": (accuracy(made, "seam") + accuracy(made, "view")) / 2,
        **frechet(seam, features, count),
        "fd_views": frechet_distance(made.features["view"].flatten(0, 1), features),
        "kd": kernel_distance(seam, features),
        "kl": class_divergence(classes, made.classes["seam"].flatten(0, 1)),
        "similarity": float(similarities.mean()),
        "similarity_error": float(similarities.std() / len(similarities) ** 0.5),
        "similarity_views": _mean(intra_similarity(part) for part in made.features["view"]),
        "within": _mean(mean_distance(part) for part in views),
        "between": _between(made, views[:, 0]),
    }


def _mean(values) -> float:
    values = list(values)
    return sum(values) / len(values)


def _between(made: Made, windows: torch.Tensor) -> float | None:
    """Mean distance of latents [N, C, F, view] of one class that come from different seeds; None with one seed."""
    apart = []
    for number in range(len(CLASSES)):
        own = made.truth == number
        groups = [windows[own & (made.seed == seed)] for seed in made.seed.unique()]
        groups = [group for group in groups if len(group)]
        apart += [mean_distance(a, b) for i, a in enumerate(groups) for b in groups[:i]]
    return _mean(apart) if apart else None


def real_figures(run: Run, single: Made, count: int) -> dict:
    """What real clips reach, as they are and through the model's VAE."""
    saved, truth = run.tensors(REAL), torch.tensor([CLASSES.index(name) for name in run.lines[REAL]["classes"]])
    (features, _), _ = single_sets(single, count)
    found = {"clips": len(truth), "fd_vae": frechet_distance(saved["vae_features"], saved["features"])}
    for name in ("classes", "vae_classes"):
        found[name.replace("classes", "accuracy")] = float((saved[name].argmax(1) == truth).double().mean())
    return found | {"fd_single": frechet_distance(features, saved["features"]), "singles": len(features)}


def spectra(canvas: torch.Tensor, plan: ViewPlan, width: int) -> dict[str, torch.Tensor]:
    """Log-amplitude in dB by region, [N, bins] each (Fig. 2b): "overlap" and, where there is one, "middle"."""
    places = {"overlap": overlap_regions(plan), "middle": middle_regions(plan)}
    if len(plan) == 1:  # a single window: what its borders alone do to the spectrum
        places = {"overlap": [(0, width), (plan.view - width, width)], "middle": [(0, plan.view)]}
    found = {}
    for name, regions in places.items():
        if regions:
            cuts = cut(canvas, centred(regions, width, plan.length), width)
            found[name] = radial_spectrum(cuts.flatten(0, 1)).unflatten(0, cuts.shape[:2]).mean(1)
    return found


def region_width(mades: dict[str, Made]) -> int:
    """Columns of the compared regions: the narrowest overlap, or middle, of the arms that have middles."""
    sizes = [
        width
        for made in mades.values()
        if len(made.plan) > 1 and middle_regions(made.plan)
        for _, width in overlap_regions(made.plan) + middle_regions(made.plan)
    ]
    return min(sizes)


def deficit(reference: torch.Tensor, spectrum: torch.Tensor) -> dict:
    """High-frequency deficit in dB, mean and standard error over canvases, [N, bins] each.

    relative: both curves relative to their lowest frequency; absolute: as they are, so that lost variance counts.
    """
    if len(reference) != len(spectrum):  # other canvases: their mean is the reference
        reference = reference.mean(0)
    found = {}
    for name, curve in (("relative", relative), ("absolute", lambda s: s)):
        values = high_frequency_deficit(curve(reference), curve(spectrum))
        found[name] = float(values.mean())
        found[f"{name}_error"] = float(values.std() / len(values) ** 0.5) if len(values) > 1 else None
    return found


def spectrum_figures(mades: dict[str, Made]) -> dict[str, dict]:
    """By arm: curves and deficits of overlaps against the arm's own middles and against single windows' middles."""
    width, found = region_width(mades), {}
    alone = spectra(mades["single"].canvas, mades["single"].plan, width)["middle"]
    for label, made in mades.items():
        own = spectra(made.canvas, made.plan, width)
        figures = {"width": width, "curves": {name: part.mean(0).tolist() for name, part in own.items()}}
        if "middle" in own:
            figures["own"] = deficit(own["middle"], own["overlap"])
        figures["single"] = deficit(alone, own["overlap"])
        figures["steps"] = {}
        for k, canvas in sorted(made.before.items()):
            early = spectra(canvas, made.plan, width)
            if "middle" in early:
                figures["steps"][k] = deficit(early["middle"], early["overlap"])
        found[label] = figures
    return found


def summary(run: Run, protocol: Protocol, model: PocketModel, chunk: int) -> list[dict]:
    """One line per arm, ready for JSON; empty when no round is complete."""
    mades = gather(run, protocol, model, chunk)
    if not mades or "single" not in mades:
        return []
    count, spectrum = seams(protocol, model), spectrum_figures(mades)
    lines = []
    for label, made in mades.items():
        line = {"protocol": protocol.name, "arm": label, "method": made.arm.method, "overlap": made.arm.overlap}
        line |= {"columns": made.plan.length, "views": len(made.plan), "seeds": len(made.seed.unique())}
        line |= made.arm.swaps
        lines.append(line | quality(made, mades["single"], count) | {"spectrum": spectrum[label]})
    lines.append({"protocol": protocol.name, "arm": REAL} | real_figures(run, mades["single"], count))
    return lines
