"""The work of a protocol: canvases are made and kept, then their windows are measured, piece by piece."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..safa_core.measures.spectrum import cut
from . import windows
from .clips import Real
from .making.methods import method
from .making.sampling import Task
from .making.window_model import WindowModel
from .protocol import Part, Row
from .scores import COSTS, SCORES, Measures, Samples, Score
from .scores.sound import mel_pictures
from .store import Run

OF_VIEWS = ("seams", "views", "apart")  # kinds of windows that lie where the plan's views do
CANVASES = 8  # whose windows are measured together, backbone after backbone


@dataclass(frozen=True)
class Job:
    """Everything that canvases and their scores depend on.

    part: the protocol for the model's kind. weights: folder of the scores' backbones. shard: (i, n), the canvases i,
    i + n, ... of every row, counted prompt by prompt and seed by seed. real: clips, where the protocol compares with
    them. record: as in Sampling.
    """

    part: Part
    model: WindowModel
    weights: Path
    shard: tuple[int, int] = (0, 1)
    real: Real | None = None
    record: int = 0

    def prompts(self, seed: int) -> list[int]:
        """The prompts of a seed that this shard makes."""
        index, count = self.shard
        every = range(len(self.part.prompts))
        return [prompt for prompt in every if (seed * len(every) + prompt) % count == index]

    @property
    def canvases(self) -> list[tuple[int, int]]:
        """(prompt, seed) of every canvas that this shard makes of a row."""
        places: list[tuple[int, int]] = []
        for seed in range(self.part.seeds):
            places += [(prompt, seed) for prompt in self.prompts(seed)]
        return places

    @property
    def seams(self) -> int:
        """Windows centred on overlaps of every canvas."""
        return windows.seams(self.model, self.part)

    def copies(self, row: Row) -> int:
        """Single windows per prompt and seed: two sets of as many as a canvas has overlaps, or one window."""
        return 2 * self.seams if row.single and self.part.reference == "copies" else 1

    def scores(self) -> list[Score]:
        """Those of the tables whose backbone is there."""
        scores = [SCORES[name] for name in self.part.scores]
        return [score for score in scores if not score.missing(self.weights)]

    def measured_scores(self, row: Row | None) -> list[Score]:
        """The scores that a canvas of a row is measured for; those of real clips for None."""
        scores = [score for score in self.scores() if score.name not in COSTS]
        if row is None:
            return [score for score in scores if score.needs_real]
        return [score for score in scores if not (row.single and score.within)]


def clock(device: torch.device) -> float:
    """Seconds: of the process on a CPU, which other processes do not lengthen, else the clock's."""
    if device.type == "cpu":
        return time.process_time()
    torch.get_device_module(device).synchronize()
    return time.perf_counter()


def key(row: Row, prompt: int, seed: int) -> str:
    """Of a canvas in a run."""
    return f"{row.label}-p{prompt:03d}-s{seed:04d}"


def groups(job: Job, run: Run) -> list[tuple[Row, int, list[int]]]:
    """(row, seed, prompts) still to be made, seed by seed, so that all rows grow alike."""
    todo = []
    for seed in range(job.part.seeds):
        for row in job.part.rows:
            left = [prompt for prompt in job.prompts(seed) if key(row, prompt, seed) not in run]
            for first in range(0, len(left), job.part.chunk):
                todo.append((row, seed, left[first : first + job.part.chunk]))
    return todo


def task_of(job: Job, row: Row, seed: int, prompts: list[int]) -> Task:
    """Prompts and random numbers of some canvases."""
    copies = job.copies(row)
    captions, numbers = [], []
    for prompt in prompts:
        captions += [job.model.caption(job.part.prompts[prompt], seed)] * copies
        # single windows are numbered from 1: they never start from the first view's noise
        numbers += [(prompt, seed, copy + int(row.single)) for copy in range(copies)]
    plan = job.part.plan(row, job.model.columns)
    return Task(job.part.sampling(row, job.record), plan, captions, numbers, job.model.device, job.weights)


def make(job: Job, run: Run, row: Row, seed: int, prompts: list[int]) -> dict:
    """Canvases of some prompts, decoded once for the time that it takes, and saved as latents; returns one line."""
    model = job.model
    task = task_of(job, row, seed, prompts)
    begin = clock(model.device)
    before = model.evaluations
    canvases = method(row.method)(model, task).cpu()
    decoded = None if model.kind == "pocket" else model.decode(canvases, job.part.loop and not row.single)
    seconds = clock(model.device) - begin
    evaluations = model.evaluations - before
    copies = job.copies(row)
    for i, prompt in enumerate(prompts):
        line = {"row": row.label, "prompt": prompt, "seed": seed, "views": len(task.plan)}
        line |= {"seconds": seconds / len(canvases), "evaluations": evaluations / len(canvases)}
        if decoded is not None and seed == 0:
            keep_picture(run.folder / f"{key(row, prompt, seed)}.png", model, decoded[i])
        place = slice(i * copies, (i + 1) * copies)
        recorded = {f"before_step_{k}": canvas[place].cpu().clone() for k, canvas in task.recorded.items()}
        run.save(key(row, prompt, seed), line, {"canvas": canvases[place].clone(), **recorded})
    return line


def keep_picture(path: Path, model: WindowModel, decoded: torch.Tensor) -> None:
    """The picture, or the mel spectrogram of the sound with the low frequencies below."""
    from PIL import Image

    picture = decoded if model.kind == "image" else mel_pictures(decoded[None], model.sample_rate)[0].flip(1)
    Image.fromarray((picture * 255).round().byte().movedim(0, -1).contiguous().numpy()).save(path)


# ---- Measuring ----


def samples_of(job: Job, row: Row, prompt: int, seed: int, latents: torch.Tensor, kinds: set[str]) -> dict:
    """{kind of windows: Samples} of one canvas [copies, C, rows, columns]."""
    if job.model.kind == "pocket":
        return {kind: pocket_samples(job, row, prompt, latents, kind) for kind in kinds}
    decoded = job.model.decode(latents, job.part.loop and not row.single)
    if row.single:
        return {kind: as_samples(job, decoded, prompt) for kind in kinds}
    decoded = decoded[0]
    samples = {}
    for kind in kinds:
        if kind == "joints":
            cuts, parts = windows.joints(job.model, job.part, row, decoded)
            samples[kind] = replace(as_samples(job, cuts, prompt), canvas=parts)
            continue
        if kind == "regions" and job.part.regions:
            cuts = windows.regions(job.part, row, decoded, prompt, seed)
        elif kind in OF_VIEWS:
            cuts = windows.of_views(job.model, job.part, row, decoded, kind)
        else:
            cuts = windows.slid(job.model, job.part, row, decoded)
        samples[kind] = as_samples(job, cuts, prompt)
    return samples


def pocket_samples(job: Job, row: Row, prompt: int, latents: torch.Tensor, kind: str) -> Samples:
    """Whole latents, or the ln mel of windows, of one prompt and seed: one canvas, or copies of a single window."""
    part, model = job.part, job.model
    plan = part.plan(row, model.columns)
    cuts = latents
    if kind != "canvas":
        cuts = model.decode(cut(latents, windows.latent_windows(plan, job.seams)[kind], plan.view).flatten(0, 1))
    names = (part.prompts[prompt],) * len(cuts)
    return Samples(cuts, (0,) * len(cuts), names, plan=plan, width=windows.region_width(model, part))


def as_samples(job: Job, cuts: torch.Tensor, prompt: int) -> Samples:
    """Windows of one canvas."""
    return Samples(cuts, (0,) * len(cuts), (job.part.prompts[prompt],) * len(cuts), job.model.sample_rate)


def measured(runs: list[Run]) -> dict[tuple[str, str], tuple[Run, dict]]:
    """(canvas, score) -> the run and the line that hold its Measures."""
    places = {}
    for run in runs:
        for line in run.lines.values():
            for name in line.get("positions", ()):
                places[line["of"], name] = run, line
    return places


def read(place: tuple[Run, dict], name: str, prompt: str) -> Measures:
    """Measures of one canvas as `save` keeps them."""
    run, line = place
    positions = tuple(line["positions"][name])
    return Measures(run.tensors(line["key"])[name], (prompt,) * len(positions), positions)


def save(run: Run, of: str, measures: dict[str, Measures]) -> None:
    """Measures of one canvas, by score."""
    line = {"of": of, "positions": {name: list(part.positions) for name, part in measures.items()}}
    run.save(f"{of}.{len(run.lines)}", line, {name: part.rows.clone() for name, part in measures.items()})


def measure(job: Job, run: Run) -> Iterator[str]:
    """Measure what is there and was not measured yet; yields what was done."""
    known = measured([run])
    todo = []
    for row in job.part.rows:
        for prompt, seed in job.canvases:
            of = key(row, prompt, seed)
            scores = [score for score in job.measured_scores(row) if (of, score.name) not in known]
            if scores and of in run:
                todo.append((row, prompt, seed, scores))
    for first in range(0, len(todo), CANVASES):
        yield from _measure_canvases(job, run, todo[first : first + CANVASES])
    if job.real is not None:
        yield from _measure_real(job, run, known)


def _measure_canvases(job: Job, run: Run, todo: list[tuple[Row, int, int, list[Score]]]) -> Iterator[str]:
    samples = []
    for row, prompt, seed, scores in todo:
        latents = run.tensors(key(row, prompt, seed))["canvas"]
        samples.append(samples_of(job, row, prompt, seed, latents, {score.windows for score in scores}))
    measures = in_turn(samples, [scores for *_, scores in todo], job.weights)
    for (row, prompt, seed, scores), canvas in zip(todo, measures, strict=True):
        save(run, key(row, prompt, seed), canvas)
        yield f"{key(row, prompt, seed)}: {', '.join(score.name for score in scores)}"


def in_turn(samples: list[dict[str, Samples]], scores: list[list[Score]], weights: Path) -> list[dict[str, Measures]]:
    """Every score of every canvas, score by score, so that no backbone is loaded twice."""
    measures: list[dict[str, Measures]] = [{} for _ in samples]
    order: dict[Score, None] = {}
    for canvas in scores:
        order |= dict.fromkeys(canvas)
    for score in order:
        for place, canvas in enumerate(scores):
            if score in canvas:
                measures[place][score.name] = score.measure(samples[place][score.windows], weights)
    return measures


def _measure_real(job: Job, run: Run, known: dict) -> Iterator[str]:
    for prompt in range(job.shard[0], len(job.part.prompts), job.shard[1]):
        of = real_key(prompt)
        scores = [score for score in job.measured_scores(None) if (of, score.name) not in known]
        if scores:
            clip = as_samples(job, job.real.window(prompt, job.model.sample_rate, job.model.seconds), prompt)
            samples = {score.windows: clip for score in scores}
            save(run, of, in_turn([samples], [scores], job.weights)[0])
            yield f"{of}: {', '.join(score.name for score in scores)}"


def real_key(prompt: int) -> str:
    """Of a real clip in a run."""
    return f"real-p{prompt:03d}"
