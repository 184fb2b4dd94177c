"""From the runs of all shards to the values of a table."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path

import numpy as np
import torch

from . import windows
from .protocol import SEPARATOR, Row
from .scores import COSTS, SCORES, Measures, Samples, Score, averaged
from .scores.pocket import deficits, spectra, standard_error
from .store import Run
from .work import Job, key, measured, read, real_key, save

PAIRS = 8  # first of the numbers that pairs and halves of the reference are drawn from
AGAIN = "not measured yet: run it again without --report."


@dataclass
class Cell:
    """A value with its standard error, or why there is none; all None where the table has none."""

    value: float | None = None
    error: float | None = None
    why: str | None = None


@dataclass
class Merged:
    """What all shards have made. seeds: those that every row and prompt has."""

    runs: list[Run]
    job: Job
    lines: dict[str, dict] = field(init=False)
    places: dict[tuple[str, str], tuple[Run, dict]] = field(init=False)
    seeds: list[int] = field(init=False)

    def __post_init__(self):
        self.lines = {}
        for run in self.runs:
            self.lines |= {name: line for name, line in run.lines.items() if "row" in line}
        self.places = measured(self.runs)
        self.seeds = [seed for seed in range(self.job.part.seeds) if self._whole(seed)]

    def _whole(self, seed: int) -> bool:
        places = product(self.job.part.rows, range(len(self.job.part.prompts)))
        return all(key(row, prompt, seed) in self.lines for row, prompt in places)

    def canvases(self, row: Row) -> list[tuple[str, str]]:
        """(key, prompt) of a row's canvases, seed by seed."""
        places: list[tuple[str, str]] = []
        for seed in self.seeds:
            places += [(key(row, number, seed), prompt) for number, prompt in enumerate(self.job.part.prompts)]
        return places

    def measures(self, canvases: list[tuple[str, str]], name: str) -> Measures | None:
        """A score's Measures of canvases or real clips, in order; None where one was not measured."""
        if any((of, name) not in self.places for of, _ in canvases):
            return None
        return Measures.together([read(self.places[of, name], name, prompt) for of, prompt in canvases])

    def tensors(self, of: str) -> dict[str, torch.Tensor]:
        """What was saved with a canvas: "canvas" [copies, C, rows, columns], and those before some steps."""
        run = next(run for run in self.runs if of in run)
        return run.tensors(of)


def merged(folder: Path, job: Job, settings: dict) -> Merged:
    """All shards of a model's folder, and the reference's pairs."""
    return Merged([Run(path.parent, settings) for path in sorted(folder.glob("*/results.jsonl"))], job)


def lines(results: Merged) -> list[dict]:
    """One line per row, ready for JSON; empty while no seed is whole."""
    if not results.seeds:
        return []
    part = results.job.part
    table = []
    for row in part.rows:
        canvases = [results.lines[of] for of, _ in results.canvases(row)]
        cells = {name: cell(results, row, name) for name in part.scores}
        line = {"row": row.title, "method": row.method, "length": row.length, "overlap": row.overlap}
        line |= {"rate": row.rate, "interval": row.interval, "sweeps": row.sweeps, "views": canvases[0]["views"]}
        line |= {"canvases": len(canvases) * results.job.copies(row), "seeds": len(results.seeds)}
        for what in COSTS.values():
            line[what] = sum(canvas[what] for canvas in canvases) / len(canvases)
        line["scores"] = {name: one.value for name, one in cells.items()}
        line["errors"] = {name: one.error for name, one in cells.items() if one.error is not None}
        line["missing"] = {name: one.why for name, one in cells.items() if one.why}
        table.append(line | _spectra(results, row))
    for columns in (part.columns, *part.details.values()):
        for name in columns:
            if SEPARATOR in name:
                _add_ratio(table, name)
    return table


def _add_ratio(table: list[dict], name: str) -> None:
    score, method = name.split(SEPARATOR)
    below = next((line["scores"][score] for line in table if line["method"] == method), None)
    for line in table:
        value = line["scores"][score]
        line["scores"][name] = value / below if below and value is not None else None


def _spectra(results: Merged, row: Row) -> dict:
    """Of the pocket model: the mean curves of overlaps and middles, and the deficit before the recorded steps."""
    measures = results.measures(results.canvases(row), "deficit") if "deficit" in results.job.part.scores else None
    if measures is None:
        return {}
    mean = measures.rows.mean(0)
    curves = {name: curve.tolist() for name, curve in zip(("overlap", "middle"), mean, strict=True)}
    steps = {}
    if results.job.record and not row.single:
        plan = results.job.part.plan(row, results.job.model.columns)
        width = windows.region_width(results.job.model, results.job.part)
        tensors = [results.tensors(of) for of, _ in results.canvases(row)]
        for name in sorted(name for name in tensors[0] if name.startswith("before_step_")):
            early = spectra(torch.cat([canvas[name] for canvas in tensors]), plan, width)
            if "middle" in early:
                values = deficits(early["middle"], early["overlap"], "absolute")
                steps[name.rpartition("_")[2]] = [float(values.mean()), standard_error(values)]
    return {"curves": {name: curve for name, curve in curves.items() if curve[0] == curve[0]}, "steps": steps}


def cell(results: Merged, row: Row, name: str) -> Cell:
    """One place of the table."""
    part, score = results.job.part, SCORES[name]
    reference = row.single and part.reference == "model"
    if name in COSTS:
        return Cell() if reference else Cell(_cost(results, row, name))
    lacking = score.missing(results.job.weights)
    if lacking:
        return Cell(why=lacking)
    try:
        if row.single and score.within:
            if part.reference == "copies":
                return Cell()
            generated = _pairs(results, row, name)
            real = None
        else:
            generated = results.measures(results.canvases(row), name)
            real = _real(results, name)
        if generated is None or (score.needs_real and real is None):
            return Cell(why=AGAIN)
        if reference and score.needs_real:
            return Cell(averaged(score, *halves(generated), by=("prompt",)))
        if part.reference == "copies" and score.needs_real and score.windows != "canvas":
            real, second = copies(real)
            generated = second if row.single else generated
        value = averaged(score, generated, real, part.subsets)
        return Cell() if math.isnan(value) else Cell(value, score.error(generated, real) if score.error else None)
    except ValueError as error:
        return Cell(why=str(error))


def _cost(results: Merged, row: Row, name: str) -> float:
    canvases = results.canvases(row)
    rows = torch.tensor([[results.lines[of][COSTS[name]]] for of, _ in canvases], dtype=torch.float64)
    generated = Measures(rows, tuple(prompt for _, prompt in canvases), (0,) * len(canvases))
    return averaged(SCORES[name], generated, None, results.job.part.subsets)


def _real(results: Merged, name: str) -> Measures | None:
    """What distances compare with."""
    part = results.job.part
    if part.reference == "real":
        return results.measures([(real_key(p), prompt) for p, prompt in enumerate(part.prompts)], name)
    return None if part.single is None else results.measures(results.canvases(part.single), name)


def copies(measures: Measures) -> tuple[Measures, Measures]:
    """The first and the second half of every canvas's copies."""
    first: list[int] = []
    second: list[int] = []
    for numbers in measures.canvases:
        first += numbers[: len(numbers) // 2]
        second += numbers[len(numbers) // 2 :]
    return measures.at(first), measures.at(second)


def halves(measures: Measures) -> tuple[Measures, Measures]:
    """Two random halves of the reference, equally many rows of each prompt."""
    random = np.random.default_rng([PAIRS])
    first: list[int] = []
    second: list[int] = []
    for prompt in dict.fromkeys(measures.prompts):
        rows = random.permutation([i for i, name in enumerate(measures.prompts) if name == prompt]).tolist()
        half = len(rows) // 2
        first += rows[:half]
        second += rows[half : 2 * half]
    if not first:
        raise ValueError("expected at least two reference windows of a prompt for two halves, got one: raise --seeds.")
    return measures.at(first), measures.at(second)


def pairs(count: int, prompts: int, seeds: list[int]) -> list[tuple[int, int, int]]:
    """(prompt, seed, other seed): about `count` random pairs, as many of each prompt, or all that there are."""
    every = list(combinations(seeds, 2))
    chosen: list[tuple[int, int, int]] = []
    for prompt in range(prompts):
        numbers = np.random.default_rng([PAIRS, prompt]).permutation(len(every))[: max(1, count // prompts)]
        chosen += [(prompt, *every[i]) for i in sorted(numbers.tolist())]
    return chosen


def pair_key(row: Row, prompt: int, a: int, b: int) -> str:
    """Of a pair of reference windows in a run."""
    return f"pair-{row.label}-p{prompt:03d}-s{a:04d}-s{b:04d}"


def measure_pairs(results: Merged, run: Run) -> None:
    """Scores within a canvas for pairs of reference windows, which no shard has alone; kept in a run of their own."""
    job, part, row = results.job, results.job.part, results.job.part.single
    scores = [score for score in job.scores() if score.within]
    if row is None or not scores or part.reference == "copies":
        return
    for prompt, a, b in pairs(part.pairs, len(part.prompts), results.seeds):
        of = pair_key(row, prompt, a, b)
        left = [score for score in scores if (of, score.name) not in results.places]
        if left:
            save(run, of, _measured_pair(results, row, prompt, (a, b), left))


def _measured_pair(results: Merged, row: Row, prompt: int, seeds: tuple[int, int], scores: list[Score]):
    model = results.job.model
    latents = torch.cat([results.tensors(key(row, prompt, seed))["canvas"] for seed in seeds])
    text = results.job.part.prompts[prompt]
    both = Samples(model.decode(latents, False), (0, 0), (text, text), model.sample_rate)
    return {score.name: score.measure(both, results.job.weights) for score in scores}


def _pairs(results: Merged, row: Row, name: str) -> Measures | None:
    prompts = results.job.part.prompts
    drawn = pairs(results.job.part.pairs, len(prompts), results.seeds)
    if not drawn:
        raise ValueError("expected at least two reference windows of a prompt for pairs, got one: raise --seeds.")
    return results.measures([(pair_key(row, p, a, b), prompts[p]) for p, a, b in drawn], name)
