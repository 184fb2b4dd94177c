"""What the figures of the pocket model can be held against: real clips, its own VAE, bfloat16, and known damage."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ..safa_core import ViewPlan
from ..training.sounds import CLASSES
from . import windows
from .making.methods import method
from .making.pocket import PocketModel
from .making.sampling import Task
from .protocol import Part
from .scores import classifier, pocket
from .scores.metrics import frechet_distance
from .summary import Merged, copies
from .work import Job

LOSSES = (3.0, 6.0, 12.0)  # dB; averaging two independent noises loses 3


def facts(results: Merged, folder: Path, autocast: bool) -> dict:
    """{"sentences": sentences, "controls": [{"change", "fd"}]} of a run; what takes long is kept in its folder."""
    job, part = results.job, results.job.part
    judge = pocket.POCKET.open(job.weights)
    known = pocket.POCKET.facts(job.weights)
    sentences = [
        f"{part.steps} steps, {len(results.seeds) * len(part.prompts) * job.seams} windows per line.",
        f"DDIM with eta {part.eta:g}, guidance {part.guidance:g}; {len(results.seeds)} seeds of {len(part.prompts)} "
        f"classes; spectra of regions of {windows.region_width(job.model, part)} columns.",
        f"The classifier saw real synthetic clips only; it recognises {known['held_out']:.1%} of {known['clips']} "
        "held-out clips.",
    ]
    if autocast:
        sentences += _kept(folder / "autocast.json", [], lambda: [autocast_sentence(job, judge)])
    single = results.measures(results.canvases(part.single), "fd@pocket") if results.seeds else None
    if single is None:
        return {"sentences": sentences, "controls": []}
    features, other = (half.rows for half in copies(single))
    sentences += _kept(folder / "real.json", results.seeds, lambda: [real_sentence(job, judge, features)])
    damage = _kept(folder / "controls.json", results.seeds, lambda: changes(results, judge, features, other))
    return {"sentences": sentences, "controls": damage}


def _kept(path: Path, seeds: list[int], compute: Callable[[], list]) -> list:
    """What `compute` returned for these seeds, from the file where it has it."""
    if path.is_file():
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["seeds"] == seeds:
            return content["values"]
    values = compute()
    path.write_text(json.dumps({"seeds": seeds, "values": values}), encoding="utf-8")
    return values


# ---- Known damage ----


def dampen(latents: torch.Tensor, first: int, width: int, decibel: float) -> torch.Tensor:
    """Latents [N, C, F, T] whose detail, what a 3 x 3 mean leaves out, is so much weaker in `width` columns."""
    smooth = torch.nn.functional.avg_pool2d(latents, 3, 1, 1, count_include_pad=False)
    columns = slice(first, first + width)
    changed = latents.clone()
    changed[..., columns] = (smooth + (latents - smooth) * 10 ** (-decibel / 20))[..., columns]
    return changed


def changes(results: Merged, judge: classifier.Classifier, features: torch.Tensor, other: torch.Tensor) -> list[dict]:
    """[{"change", "fd"}]: Fréchet distances of changed single windows to the other set of them."""
    job, count = results.job, results.job.seams
    latents = torch.cat([results.tensors(of)["canvas"][count:] for of, _ in results.canvases(job.part.single)])
    width = windows.region_width(job.model, job.part)
    whole = latents.shape[-1]
    places = [(f"{loss:g} dB of detail lost in {width} columns", width, loss) for loss in LOSSES]
    places.append((f"{LOSSES[0]:g} dB of detail lost everywhere", whole, LOSSES[0]))
    table = [("none", other)]
    for name, columns, loss in places:
        mel = job.model.decode(dampen(latents, (whole - columns) // 2, columns, loss))
        table.append((name, judge.judge(mel)[0]))
    alike = other.unflatten(0, (-1, count))[:, :1].expand(-1, count, -1).flatten(0, 1)
    table.append((f"{count} copies of one window per prompt", alike))
    return [{"change": name, "fd": frechet_distance(changed, features)} for name, changed in table]


# ---- Real clips, and bfloat16 ----


def real_sentence(job: Job, judge: classifier.Classifier, single: torch.Tensor) -> str:
    """What real held-out clips reach, as they are and through the model's VAE, and the single windows beside them."""
    mels, numbers = classifier.held_out(pocket.RECIPE)
    features, classes = judge.judge(mels)
    through, through_classes = judge.judge(job.model.decode(job.model.to_latent(mels)))
    right, through_right = ((given.argmax(1) == numbers).double().mean() for given in (classes, through_classes))
    return (
        f"Real held-out clips: {right:.1%} recognised, {through_right:.1%} after the model's VAE ({len(numbers)} "
        f"clips); FD of the two {frechet_distance(through, features):.3g}, FD of single windows to real clips "
        f"{frechet_distance(single, features):.3g} ({len(single)} windows)."
    )


def single_windows(model: PocketModel, part: Part, seed: int) -> torch.Tensor:
    """Latents of one single window per class, from a seed."""
    plan = ViewPlan((0,), model.view, model.view)
    captions = [model.caption(name, seed) for name in CLASSES]
    numbers = [(number, seed, 1) for number in range(len(CLASSES))]
    return method("single")(model, Task(part.sampling(part.rows[0]), plan, captions, numbers, model.device))


def autocast_sentence(job: Job, judge: classifier.Classifier) -> str:
    """How single windows in bfloat16 differ from those in float32, from the same noise."""
    model = job.model
    latents, seconds, given = [], [], []
    for model.autocast in (False, True):
        begin = time.process_time()
        latents.append(single_windows(model, job.part, 0))
        seconds.append(time.process_time() - begin)
        given.append(judge.judge(model.decode(latents[-1]))[1].argmax(1))
    difference = (latents[1] - latents[0]).square().mean().sqrt() / latents[0].std()
    agree = (given[0] == given[1]).double().mean()
    before, after = ((numbers == torch.arange(len(CLASSES))).double().mean() for numbers in given)
    return (
        f"The UNet ran under bfloat16 autocast: float32 takes {seconds[0] / seconds[1]:.1f} times its processor time; "
        f"on one window per class its latents differ by {difference:.1%} of their spread (RMS), {agree:.0%} of the "
        f"windows are given the same class, and {after:.0%} instead of {before:.0%} are recognised."
    )
