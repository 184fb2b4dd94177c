"""From the runs of all shards to the values of a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ..scores import SCORES, Measures, Samples, averaged
from ..store import Run
from .config import Row
from .work import COSTS, Job, is_within, key, measured, read, real_key, save

PAIRS = 8  # first of the numbers that pairs and halves of the reference are drawn from
AGAIN = "not measured yet: run it again without --report."


@dataclass
class Cell:
    """A value, or why there is none; both None where the table has none."""

    value: float | None = None
    why: str | None = None


@dataclass
class Merged:
    """What all shards have made. seeds: those that every row and prompt has."""

    runs: list[Run]
    job: Job
    lines: dict[str, dict] = field(init=False)
    held: dict[tuple[str, str], tuple[Run, dict]] = field(init=False)
    seeds: list[int] = field(init=False)

    def __post_init__(self):
        self.lines = {name: line for run in self.runs for name, line in run.lines.items() if "row" in line}
        self.held = measured(self.runs)
        self.seeds = [seed for seed in range(self.job.part.seeds) if self._whole(seed)]

    def _whole(self, seed: int) -> bool:
        part = self.job.part
        return all(key(row, p, seed) in self.lines for row in part.rows for p in range(len(part.prompts)))

    def canvases(self, row: Row) -> list[tuple[str, str]]:
        """(key, prompt) of a row's canvases, prompt by prompt."""
        prompts = self.job.part.prompts
        return [(key(row, p, seed), prompt) for p, prompt in enumerate(prompts) for seed in self.seeds]

    def measures(self, places: list[tuple[str, str]], name: str) -> Measures | None:
        """A score's Measures of canvases or real clips, in order; None where one was not measured."""
        if any((of, name) not in self.held for of, _ in places):
            return None
        return Measures.together([read(self.held[of, name], name, prompt) for of, prompt in places])

    def latents(self, of: str) -> torch.Tensor:
        """[1, C, rows, columns]."""
        run = next(run for run in self.runs if of in run)
        return run.tensors(of)["canvas"][None]


def merged(folder: Path, job: Job, settings: dict) -> Merged:
    """All shards of a model's folder, and the reference's pairs."""
    return Merged([Run(path.parent, settings) for path in sorted(folder.glob("*/results.jsonl"))], job)


def lines(found: Merged) -> list[dict]:
    """One line per row, ready for JSON; empty while no seed is whole."""
    if not found.seeds:
        return []
    part, made = found.job.part, []
    for row in part.rows:
        own = [found.lines[of] for of, _ in found.canvases(row)]
        cells = {name: cell(found, row, name) for name in part.columns}
        line = {"row": row.title, "method": row.method, "length": row.length, "overlap": row.overlap}
        line |= {"rate": row.rate, "interval": row.interval, "views": own[0]["views"], "canvases": len(own)}
        line |= {what: sum(one[what] for one in own) / len(own) for what in ("seconds", "evaluations")}
        line["scores"] = {name: one.value for name, one in cells.items()}
        line["missing"] = {name: one.why for name, one in cells.items() if one.why}
        made.append(line)
    return made


def cell(found: Merged, row: Row, name: str) -> Cell:
    """One place of the table."""
    part, score = found.job.part, SCORES[name]
    reference = row.method == "single" and part.reference == "model"
    if name in COSTS:
        return Cell() if reference else Cell(_cost(found, row, name))
    lacking = score.missing(found.job.models)
    if lacking:
        return Cell(why=lacking)
    try:
        if row.method == "single" and is_within(name):
            generated, real = _pairs(found, row, name), None
        else:
            generated, real = found.measures(found.canvases(row), name), _real(found, name)
        if generated is None or (score.needs_real and real is None):
            return Cell(why=AGAIN)
        if reference and score.needs_real:
            return Cell(averaged(score, *halves(generated), by=("prompt",)))
        return Cell(averaged(score, generated, real, part.subsets))
    except ValueError as error:
        return Cell(why=str(error))


def _cost(found: Merged, row: Row, name: str) -> float:
    what = {"runtime": "seconds", "windows": "evaluations"}[name]
    own = [(found.lines[of][what], prompt) for of, prompt in found.canvases(row)]
    rows = torch.tensor([[value] for value, _ in own], dtype=torch.float64)
    generated = Measures(rows, tuple(prompt for _, prompt in own), (0,) * len(own))
    return averaged(SCORES[name], generated, None, found.job.part.subsets)


def _real(found: Merged, name: str) -> Measures | None:
    """What distances compare with."""
    part = found.job.part
    if part.reference == "real":
        return found.measures([(real_key(p), prompt) for p, prompt in enumerate(part.prompts)], name)
    single = next((row for row in part.rows if row.method == "single"), None)
    return None if single is None else found.measures(found.canvases(single), name)


def halves(measures: Measures) -> tuple[Measures, Measures]:
    """Two random halves of the reference, equally many rows of each prompt."""
    random, first, second = np.random.default_rng([PAIRS]), [], []
    for prompt in dict.fromkeys(measures.prompts):
        own = random.permutation([i for i, name in enumerate(measures.prompts) if name == prompt]).tolist()
        first += own[: len(own) // 2]
        second += own[len(own) // 2 : len(own) // 2 * 2]
    if not first:
        raise ValueError("expected at least two reference windows of a prompt for two halves, got one: raise --seeds.")
    return measures.at(first), measures.at(second)


def pairs(count: int, prompts: int, seeds: list[int]) -> list[tuple[int, int, int]]:
    """(prompt, seed, other seed): about `count` random pairs, as many of each prompt, or all that there are."""
    found = []
    for prompt in range(prompts):
        every = [(a, b) for i, a in enumerate(seeds) for b in seeds[i + 1 :]]
        chosen = np.random.default_rng([PAIRS, prompt]).permutation(len(every))[: max(1, count // prompts)]
        found += [(prompt, *every[i]) for i in sorted(chosen.tolist())]
    return found


def pair_key(row: Row, prompt: int, a: int, b: int) -> str:
    """Of a pair of reference windows in a run."""
    return f"pair-{row.label}-p{prompt:03d}-s{a:04d}-s{b:04d}"


def measure_pairs(found: Merged, run: Run) -> None:
    """Scores within a canvas for pairs of reference windows, which no shard has alone; kept in a run of their own."""
    job, part = found.job, found.job.part
    row = next((row for row in part.rows if row.method == "single"), None)
    scores = [score for score in job.scores() if is_within(score.name)]
    if row is None or not scores:
        return
    for prompt, a, b in pairs(part.pairs, len(part.prompts), found.seeds):
        of = pair_key(row, prompt, a, b)
        own = [score for score in scores if (of, score.name) not in found.held]
        if own:
            latents = torch.cat([found.latents(key(row, prompt, seed)) for seed in (a, b)])
            windows, text = job.model.decode(latents, False), part.prompts[prompt]
            rate = job.model.sample_rate if job.model.kind == "audio" else None
            both = Samples(windows, (0, 0), (text, text), rate)
            save(run, of, {score.name: score.measure(both, job.models) for score in own})


def _pairs(found: Merged, row: Row, name: str) -> Measures | None:
    part = found.job.part
    places = [
        (pair_key(row, p, a, b), part.prompts[p]) for p, a, b in pairs(part.pairs, len(part.prompts), found.seeds)
    ]
    if not places:
        raise ValueError("expected at least two reference windows of a prompt for pairs, got one: raise --seeds.")
    return found.measures(places, name)
