"""One piece of work: canvases are made, their windows decoded and judged, everything saved."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache

import torch

from ..safa_core import ViewPlan
from ..safa_core.measures.spectrum import cut
from ..training.sounds import CLASSES, clip
from .classifier import Classifier, held_out
from .methods import method
from .model import MEL, PocketModel
from .protocol import Piece, Protocol
from .sampling import Task
from .store import Run
from .windows import apart_windows, evenly, seam_windows

REAL = "real"  # key of the real clips' line


def seams(protocol: Protocol, model: PocketModel) -> int:
    """Windows centred on overlaps that every canvas contributes: as many as the shortest loop has, for equal counts."""
    return min(len(plan) for plan in _long_plans(protocol, model))


def check(protocol: Protocol, model: PocketModel, features: int) -> None:
    """Refuse what would run for hours and give no figures (ValueError)."""
    for arm in protocol.arms:
        method(arm.method)
    if not _long_plans(protocol, model):
        raise ValueError(f"Expected a method besides single windows in protocol {protocol.name}.")
    for plan in _long_plans(protocol, model):
        if len(plan) < 2 or plan.length < 2 * plan.view:
            raise ValueError(
                f"Expected loops of at least two windows ({2 * plan.view} latent columns), got {plan.length} columns: "
                "ask for more windows or seconds."
            )
    count = protocol.seeds * len(CLASSES) * seams(protocol, model)
    if count <= features:
        raise ValueError(
            f"Expected more than {features} windows for a Fréchet distance on {features} features, got "
            f"{protocol.seeds} seeds x {len(CLASSES)} classes x {seams(protocol, model)} overlaps = {count}: "
            "raise --seeds."
        )


def _long_plans(protocol: Protocol, model: PocketModel) -> list[ViewPlan]:
    arms = [arm for arm in protocol.arms if arm.method != "single"]
    return [arm.plan(model.view, model.columns_per_second) for arm in arms]


@cache
def caption(name: str, seed: int) -> str:
    """Prompt number `seed` of a class: the caption of a held-out clip."""
    number = CLASSES.index(name) + len(CLASSES) * seed
    return clip("held-out", number, 5.12, 0.0).caption


def task(piece: Piece, protocol: Protocol, model: PocketModel) -> Task:
    """Prompts and random numbers of a piece. Single windows: two independent sets, each as many as overlaps."""
    copies = 2 * seams(protocol, model) if piece.arm.method == "single" else 1
    pairs = [(name, copy) for name in piece.classes for copy in range(copies)]
    captions = {name: caption(name, piece.seed) for name in piece.classes}
    # Copies are numbered from 1, so that no single window starts from the first view's noise.
    numbers = [(CLASSES.index(name), piece.seed, copy + (copies > 1)) for name, copy in pairs]
    plan = piece.arm.plan(model.view, model.columns_per_second)
    return Task(replace(protocol, **piece.arm.swaps), plan, [captions[name] for name, _ in pairs], numbers)


def looked_at(plan: ViewPlan, count: int) -> dict[str, list[int]]:
    """First columns of the windows that are judged, by kind; see windows.py."""
    if len(plan) == 1:
        return {"view": [0]}
    kinds = {"seam": evenly(seam_windows(plan), count), "view": evenly(plan.starts, count)}
    return kinds | {"apart": apart_windows(plan)}


def run_piece(piece: Piece, protocol: Protocol, model: PocketModel, classifier: Classifier, run: Run) -> None:
    """Make, judge, save."""
    asked = task(piece, protocol, model)
    begin, before = time.process_time(), model.evaluations  # other processes do not lengthen it
    canvas = method(piece.arm.method).generate(model, asked)
    seconds, evaluations = time.process_time() - begin, model.evaluations - before
    kinds = looked_at(asked.plan, seams(protocol, model))
    starts = sorted({start for part in kinds.values() for start in part})
    pieces = cut(canvas, starts, asked.plan.view)
    features, classes = classifier.judge(model.to_mel(pieces.flatten(0, 1)))
    line = {
        "arm": piece.arm.label,
        "seed": piece.seed,
        "classes": [CLASSES[numbers[0]] for numbers in asked.numbers],
        "prompts": asked.prompts,
        "starts": starts,
        "kinds": kinds,
        "seconds": seconds,
        "evaluations": evaluations,
    }
    tensors = {
        "canvas": canvas,
        "features": features.unflatten(0, (len(canvas), -1)),
        "classes": classes.unflatten(0, (len(canvas), -1)),
        **{f"before_step_{k}": recorded for k, recorded in asked.recorded.items()},
    }
    run.save(piece.key, line, tensors)


def run_real(model: PocketModel, classifier: Classifier, recipe, run: Run) -> None:
    """Real held-out clips, as they are and through the model's own VAE: what generations are to be measured against."""
    mels, numbers = held_out(recipe)
    features, classes = classifier.judge(mels)
    latents = model.to_latent(mels)
    through, through_classes = classifier.judge(model.to_mel(latents))
    tensors = {"features": features, "classes": classes, "vae_features": through, "vae_classes": through_classes}
    line = {"classes": [CLASSES[i] for i in numbers.tolist()], "frames": mels.shape[1], "hop": MEL.hop}
    run.save(REAL, line, tensors | {"latents": latents})


def autocast_difference(protocol: Protocol, model: PocketModel, classifier: Classifier) -> dict:
    """One single window per class in float32 and under autocast, from the same noise.

    Returns processor seconds of both, their ratio, the root-mean-square difference of the latents over their spread,
    and the share of windows that the classifier gives the same class.
    """
    plan = ViewPlan((0,), model.view, model.view)
    made, seconds, given = [], [], []
    for autocast in (False, True):
        model.autocast, begin = autocast, time.process_time()
        asked = Task(protocol, plan, [caption(name, 0) for name in CLASSES], [(i, 0, 1) for i in range(len(CLASSES))])
        made.append(method("single").generate(model, asked))
        seconds.append(time.process_time() - begin)
        given.append(classifier.judge(model.to_mel(made[-1]))[1].argmax(1))
    truth = torch.arange(len(CLASSES))
    return {
        "seconds": seconds,
        "ratio": seconds[0] / seconds[1],
        "difference": float((made[1] - made[0]).square().mean().sqrt() / made[0].std()),
        "agree": float((given[0] == given[1]).double().mean()),
        "accuracy": [float((g == truth).double().mean()) for g in given],
    }
