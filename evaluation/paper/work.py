"""The work of a protocol: canvases are made and kept, then their windows are measured, piece by piece."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from ..methods import method
from ..protocol import Arm, Protocol
from ..sampling import Task
from ..scores import SCORES, Measures, Samples, Score
from ..scores.sound import mel_pictures
from ..store import Run
from . import crops, sync
from .config import Part, Row, plan
from .model import WindowModel
from .real import Real

AT_ONCE = 8  # canvases whose windows are measured together, backbone after backbone
COSTS = ("runtime", "windows")  # scores that need no backbone: a canvas's own line has them


class DeviceTask(Task):
    """A Task whose noise lies where the model computes."""

    device = torch.device("cpu")

    def noise(self, stream: str, shape: tuple[int, ...]) -> torch.Tensor:
        return super().noise(stream, shape).to(self.device)


@dataclass(frozen=True)
class Job:
    """What is asked for.

    part: the protocol for the model's kind. models: folder of the scores' backbones. shard: (i, n), the canvases i,
    i + n, ... of every row, counted prompt by prompt and seed by seed. real: clips, where the protocol compares with
    them. chunk: prompts made at once.
    """

    part: Part
    model: WindowModel
    models: Path
    shard: tuple[int, int] = (0, 1)
    real: Real | None = None
    chunk: int = 1

    def prompts(self, seed: int) -> list[int]:
        """The prompts of a seed that this shard makes."""
        index, count = self.shard
        every = range(len(self.part.prompts))
        return [prompt for prompt in every if (seed * len(every) + prompt) % count == index]

    @property
    def canvases(self) -> list[tuple[int, int]]:
        """(prompt, seed) of every canvas that this shard makes of a row."""
        return [(prompt, seed) for seed in range(self.part.seeds) for prompt in self.prompts(seed)]

    def scores(self) -> list[Score]:
        """The columns whose backbone is there."""
        return [SCORES[name] for name in self.part.columns if not SCORES[name].missing(self.models)]


def clock(device: torch.device) -> float:
    """Seconds: of the process on a CPU, which other processes do not lengthen, else the clock's."""
    if device.type == "cpu":
        return time.process_time()
    torch.get_device_module(device).synchronize()
    return time.perf_counter()


def key(row: Row, prompt: int, seed: int) -> str:
    """Of a canvas in a run."""
    return f"{row.label}-p{prompt:03d}-s{seed:04d}"


def groups(job: Job, run: Run) -> Iterator[tuple[Row, int, list[int]]]:
    """(row, seed, prompts) still to be made, seed by seed, so that all rows grow alike."""
    for seed in range(job.part.seeds):
        for row in job.part.rows:
            left = [prompt for prompt in job.prompts(seed) if key(row, prompt, seed) not in run]
            for first in range(0, len(left), job.chunk):
                yield row, seed, left[first : first + job.chunk]


def make(job: Job, run: Run, row: Row, seed: int, prompts: list[int]) -> dict:
    """Canvases of some prompts, decoded once for the time that it takes, and saved as latents; returns one line."""
    part, model = job.part, job.model
    settings = Protocol(
        "paper", "", (Arm("single"),), part.steps, part.guidance, part.eta, rate=row.rate, interval=row.interval
    )
    single = row.method == "single"  # these never start from the first view's noise
    numbers = [(prompt, seed, int(single)) for prompt in prompts]
    views = plan(row, part, lambda length: model.columns(length, part.view))
    task = DeviceTask(settings, views, [part.prompts[prompt] for prompt in prompts], numbers)
    task.device = model.device
    begin, before = clock(model.device), model.evaluations
    if row.method in sync.METHODS:
        canvases = sync.generate(model, task, job.models, row.method).cpu()
    else:
        canvases = method(row.method).generate(model, task).cpu()
    decoded = model.decode(canvases, part.loop and not single)
    seconds, evaluations = clock(model.device) - begin, model.evaluations - before
    for prompt, canvas, seen in zip(prompts, canvases, decoded, strict=True):
        line = {"row": row.label, "prompt": prompt, "seed": seed, "views": len(views)}
        line |= {"seconds": seconds / len(prompts), "evaluations": evaluations / len(prompts)}
        if seed == 0:
            keep_picture(run.folder / f"{key(row, prompt, seed)}.png", model, seen)
        run.save(key(row, prompt, seed), line, {"canvas": canvas.clone()})
    return line


def keep_picture(path: Path, model: WindowModel, seen: torch.Tensor) -> None:
    """The picture, or the mel spectrogram of the sound with the low frequencies below."""
    from PIL import Image

    picture = seen if model.kind == "image" else mel_pictures(seen[None], model.sample_rate)[0].flip(1)
    Image.fromarray((picture * 255).round().byte().movedim(0, -1).contiguous().numpy()).save(path)


def samples(job: Job, row: Row, prompt: int, seed: int, decoded: torch.Tensor, within: bool) -> Samples:
    """The windows of one canvas: slid over it, or, for scores within a picture, the random ones."""
    if within and job.part.regions:
        windows = crops.apart(job.part, row, decoded, prompt, seed)
    else:
        windows = crops.slid(job.model, job.part, row, decoded)
    return as_samples(job, windows, job.part.prompts[prompt])


def as_samples(job: Job, windows: torch.Tensor, prompt: str) -> Samples:
    """Windows of one canvas."""
    rate = job.model.sample_rate if job.model.kind == "audio" else None
    return Samples(windows, (0,) * len(windows), (prompt,) * len(windows), rate)


def is_within(name: str) -> bool:
    """Whether a score compares the windows of one canvas with each other."""
    return name.startswith("intra_")


def wanted(job: Job, row: Row | None) -> list[Score]:
    """The scores that a canvas of a row is measured for; None for real clips."""
    found = [score for score in job.scores() if score.name not in COSTS]
    if row is None:
        return [score for score in found if score.needs_real]
    single = row.method == "single"
    return [score for score in found if not (single and is_within(score.name))]


def measured(runs: list[Run]) -> dict[tuple[str, str], tuple[Run, dict]]:
    """(canvas, score) -> the run and the line that hold its Measures."""
    found = {}
    for run in runs:
        for line in run.lines.values():
            for name in line.get("positions", ()):
                found[line["of"], name] = run, line
    return found


def read(held: tuple[Run, dict], name: str, prompt: str) -> Measures:
    """Measures of one canvas as `save` keeps them."""
    run, line = held
    positions = tuple(line["positions"][name])
    return Measures(run.tensors(line["key"])[name], (prompt,) * len(positions), positions)


def save(run: Run, of: str, found: dict[str, Measures]) -> None:
    """Measures of one canvas, by score."""
    line = {"of": of, "positions": {name: list(part.positions) for name, part in found.items()}}
    run.save(f"{of}.{'+'.join(found)}", line, {name: part.rows for name, part in found.items()})


def measure(job: Job, run: Run) -> Iterator[str]:
    """Measure what is there and was not measured yet; yields what was done."""
    known = measured([run])
    todo = []
    for row in job.part.rows:
        for prompt, seed in job.canvases:
            own = [s for s in wanted(job, row) if (key(row, prompt, seed), s.name) not in known]
            if own and key(row, prompt, seed) in run:
                todo.append((row, prompt, seed, own))
    for first in range(0, len(todo), AT_ONCE):
        part = todo[first : first + AT_ONCE]
        yield from _measure_some(job, run, part)
    if job.real is not None:
        yield from _measure_real(job, run, known)


def _measure_some(job: Job, run: Run, todo) -> Iterator[str]:
    held = []
    for row, prompt, seed, scores in todo:
        latents = run.tensors(key(row, prompt, seed))["canvas"][None]
        decoded = job.model.decode(latents, job.part.loop and row.method != "single")[0]
        kinds = {is_within(score.name) for score in scores}
        held.append({kind: samples(job, row, prompt, seed, decoded, kind) for kind in kinds})
    found = in_turn(held, [scores for *_, scores in todo], job.models)
    for (row, prompt, seed, scores), measures in zip(todo, found, strict=True):
        save(run, key(row, prompt, seed), measures)
        yield f"{key(row, prompt, seed)}: {', '.join(score.name for score in scores)}"


def in_turn(held: list[dict[bool, Samples]], scores: list[list[Score]], models: Path) -> list[dict[str, Measures]]:
    """Every score of every canvas, score by score, so that no backbone is loaded twice."""
    found: list[dict[str, Measures]] = [{} for _ in held]
    order = list(dict.fromkeys(score for own in scores for score in own))
    for score in order:
        for place, (windows, own) in enumerate(zip(held, scores, strict=True)):
            if score in own:
                found[place][score.name] = score.measure(windows[is_within(score.name)], models)
    return found


def _measure_real(job: Job, run: Run, known) -> Iterator[str]:
    for prompt in range(job.shard[0], len(job.part.prompts), job.shard[1]):
        of = real_key(prompt)
        scores = [score for score in wanted(job, None) if (of, score.name) not in known]
        if scores:
            windows = job.real.window(prompt, job.model.sample_rate, job.model.seconds)
            save(
                run, of, in_turn([{False: as_samples(job, windows, job.part.prompts[prompt])}], [scores], job.models)[0]
            )
            yield f"{of}: {', '.join(score.name for score in scores)}"


def real_key(prompt: int) -> str:
    """Of a real clip in a run."""
    return f"real-p{prompt:03d}"
