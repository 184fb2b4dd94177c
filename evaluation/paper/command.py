"""`python run.py eval --protocol NAME --model FOLDER`: the paper's tables and sweeps on a model of yours.

Canvases are made and kept in .host/data/evaluation, so that a run that was stopped goes on where it was. Their windows
are measured by the backbones at hand; what has no weights says where to put them, and is measured when the same command
runs again. `python run.py eval --pocket` measures the pocket model with a classifier of its own instead
(`eval --pocket --help`).
"""

from __future__ import annotations

import argparse
import shutil
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..report import machine
from ..scores import SCORES
from ..store import Run
from . import crops, sync, tables
from .config import PaperProtocol, Part, load, names, plan
from .model import fingerprint, kind_of, open_model
from .real import Real, read_prompts, real_clips
from .summary import lines, measure_pairs, merged
from .work import Job, groups, key, make, measure

ROOT = Path(__file__).resolve().parent.parent.parent
DATA, WEIGHTS = ROOT / ".host" / "data" / "evaluation" / "paper", ROOT / ".host" / "data" / "models"
SPARE = 1.25  # disk space for what is measured, beside the latents


def arguments(argv: list[str]) -> argparse.Namespace:
    listed = "\n".join(f"  {name:8} {load(name).title}" for name in names())
    scores = textwrap.fill(f"scores: {', '.join(SCORES)}", 100, initial_indent="  ", subsequent_indent="    ")
    parser = argparse.ArgumentParser(
        prog="run.py eval",
        description=__doc__,
        epilog=f"protocols:\n{listed}\n\n{scores}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--protocol", required=True, metavar="NAME", help="which table or figure; see below")
    add("--model", type=Path, required=True, metavar="FOLDER", help="a model in diffusers' layout, or Tango's own")
    add("--seeds", type=int, help="canvases per prompt and row (the paper: 500)")
    add("--steps", type=int, help="sampling steps")
    add("--guidance", type=float, help="classifier-free guidance scale")
    add("--eta", type=float, help="DDIM's noise, 0 to 1")
    add("--rows", nargs="+", metavar="TITLE", help='only these rows, by the names in the table, as in "SaFa" "SaFa*"')
    add("--also", nargs="+", default=[], metavar="SCORE", help="further columns")
    add("--prompts", type=Path, metavar="FILE", help="one prompt a line, or `file.wav<tab>caption` for --real")
    add("--real", type=Path, metavar="FOLDER", help="real clips, for the protocols that compare with them")
    add("--weights", type=Path, default=WEIGHTS, metavar="FOLDER", help="ComfyUI's models folder, with the backbones")
    add("--shrink", type=int, default=1, choices=(1, 2, 4, 8), help="divides all sizes of pictures, to try things out")
    add(
        "--shard", default="0/1", metavar="I/N", help="only the canvases I, I + N, ...: one of N runs beside each other"
    )
    add("--report", action="store_true", help="make nothing: write the tables from what all shards have made")
    add("--chunk", type=int, default=1, metavar="N", help="prompts made at once")
    add("--batch", type=int, default=32, metavar="N", help="windows in one call of the model")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where the model computes")
    add("--run", default="paper", metavar="NAME", help="folder of the results in .host/data/evaluation")
    add("--data", type=Path, default=DATA.parent, help=argparse.SUPPRESS)
    add("--out", type=Path, metavar="FOLDER", help="folder of the tables (the run's own)")
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Asked:
    """The options, checked as far as they can be before a model is loaded."""

    protocol: PaperProtocol
    part: Part
    shard: tuple[int, int]
    real: Real | None
    own_prompts: bool


def check(options) -> Asked:
    """ValueError, one sentence, for what would fail later."""
    protocol = load(options.protocol)
    part = protocol.part(kind_of(options.model)).shrunk(options.shrink)
    given = {name: getattr(options, name) for name in ("seeds", "steps", "guidance", "eta")}
    part = replace(part, **{name: value for name, value in given.items() if value is not None})
    part = replace(part, rows=_rows(part, options.rows), columns=part.columns | _columns(part, options.also))
    shard = _shard(options.shard)
    if options.chunk < 1 or options.batch < 2:
        raise ValueError(f"Expected --chunk of 1 and --batch of 2 or more, got {options.chunk} and {options.batch}.")
    named: list = []
    if options.prompts is not None:
        prompts, named = read_prompts(options.prompts)
        part = replace(part, prompts=tuple(prompts), left_out=0)
    real = None
    if part.reference == "real":
        if options.real is None or options.prompts is None:
            raise ValueError(
                f"Expected --real and --prompts for protocol {protocol.name}, which compares with real clips: name "
                "their folder, and a file with a line `file.wav<tab>caption` for each."
            )
        real = real_clips(options.real, named)
    try:
        torch.empty(1, device=options.device)
    except (RuntimeError, AssertionError) as error:
        said = str(error).splitlines()[0].rstrip(". ")
        raise ValueError(f"Expected a --device that torch can use, got {options.device} ({said}).") from None
    return Asked(protocol, part, shard, real, options.prompts is not None)


def _shard(text: str) -> tuple[int, int]:
    first, slash, count = text.partition("/")
    if not (slash and first.isdecimal() and count.isdecimal() and int(first) < int(count)):
        raise ValueError(f"Expected --shard I/N with I from 0 to N - 1, such as 0/2, got {text!r}.")
    return int(first), int(count)


def _rows(part: Part, titles: list[str] | None):
    known = {row.title: row for row in part.rows}
    unknown = [title for title in titles or () if title not in known]
    if unknown:
        raise ValueError(f"Expected rows of {', '.join(known)}, got {unknown[0]!r}.")
    return part.rows if titles is None else tuple(row for row in part.rows if row.title in titles)


def _columns(part: Part, also: list[str]) -> dict[str, str]:
    fitting = {name: score.title for name, score in SCORES.items() if score.kind in ("any", part.kind)}
    unknown = [name for name in also if name not in fitting]
    if unknown:
        raise ValueError(f"Expected scores of {', '.join(fitting)}, got {unknown[0]!r}.")
    return {name: fitting[name] for name in also}


def check_space(folder: Path, job: Job) -> None:
    """Hours are not to end at a full disk (ValueError)."""
    folder.mkdir(parents=True, exist_ok=True)
    part, model = job.part, job.model
    columns = [plan(row, part, lambda length: model.columns(length, part.view)).length for row in part.rows]
    floats = sum(torch.Size(model.latent_shape(count)).numel() for count in columns)
    needed = 4 * SPARE * floats * len(job.canvases)
    had = sum(path.stat().st_size for path in folder.glob("*") if path.is_file())
    free = shutil.disk_usage(folder).free
    if free + had < needed:
        raise ValueError(
            f"Expected {needed / 2**30:.1f} GiB of space in {folder}, got {(free + had) / 2**30:.1f}: free some, or "
            "name fewer --seeds."
        )


def evaluate(options) -> None:
    asked = check(options)
    height = asked.part.height
    model = open_model(options.model, height, torch.device(options.device), options.batch)
    part = asked.part
    if model.prompts and not asked.own_prompts:
        part = replace(part, prompts=model.prompts, left_out=0)
    part = replace(part, rows=tuple(sync.at_hand(row, options.weights) for row in part.rows))
    job = Job(part, model, options.weights, asked.shard, asked.real, options.chunk)
    if not job.canvases:
        count = part.seeds * len(part.prompts)
        raise ValueError(f"Expected a --shard below the {count} canvases of a row, got {options.shard}.")
    crops.check(model, part)
    folder = options.data / options.run / asked.protocol.name / options.model.resolve().name
    settings = part.settings() | {"model": fingerprint(options.model)}
    if not options.report:
        own = folder / f"shard-{asked.shard[0]}-of-{asked.shard[1]}"
        check_space(own, job)
        work_through(job, Run(own, settings))
    if options.report or asked.shard[1] == 1:
        report(options, asked.protocol, job, folder, settings)
    else:
        print("this shard is done: when all are, run the same with --report instead of --shard.")


def work_through(job: Job, run: Run) -> None:
    """Everything of this shard: make, then measure."""
    todo = list(groups(job, run))
    for done, (row, seed, prompts) in enumerate(todo, 1):
        line = make(job, run, row, seed, prompts)
        print(
            f"[{done}/{len(todo)}] {row.title}, seed {seed}, prompts {prompts}: {line['views']} views, "
            f"{line['evaluations']:.0f} windows and {line['seconds']:.1f} s each",
            flush=True,
        )
    for said in measure(job, run):
        print(f"measured {said}", flush=True)


def report(options, protocol: PaperProtocol, job: Job, folder: Path, settings: dict) -> None:
    """The tables, with those of the other models that were measured by this protocol in the same run."""
    root = options.out or folder.parent
    found = merged(folder, job, settings)
    measure_pairs(found, Run(folder / "pairs", settings))
    found = merged(folder, job, settings)
    group = {"model": folder.name, "columns": job.part.columns, "lines": lines(found)}
    group["facts"] = {
        "command": "python run.py eval " + " ".join(options.given),
        "machine": where(job.model.device),
        "said": differences(protocol.part(job.part.kind), job, len(found.seeds)),
    }
    others = [g for g in tables.read_groups(root / f"{protocol.name}.jsonl") if g["model"] != folder.name]
    pictures = []
    for row in job.part.rows:
        name = f"{key(row, 0, 0)}.png"
        pictures += [(row.title, path) for path in sorted(folder.glob(f"*/{name}"))[:1]]
    for path in tables.write(root, protocol, [*others, group], pictures):
        print(f"wrote {path}")


def where(device: torch.device) -> str:
    """The machine, and the GPU where one computed."""
    return f"{torch.cuda.get_device_name(device)}, {machine()}" if device.type == "cuda" else machine()


def differences(paper: Part, job: Job, seeds: int) -> list[str]:
    """What was done, and how it differs from the paper's protocol, in sentences."""
    part, model = job.part, job.model
    said = [f"{seeds} of {part.seeds} seeds are finished in every row, with {len(part.prompts)} prompts each."]
    for name in ("seeds", "steps", "guidance", "eta"):
        now, then = getattr(part, name), getattr(paper, name)
        if now != then:
            said.append(f"{name}: {now:g} in place of the protocol's {then:g}.")
    if part.prompts != paper.prompts:
        said.append("The prompts are the model's own." if part.prompts == model.prompts else "The prompts are others.")
    if part.left_out:
        said.append(f"{part.left_out} of the paper's prompts are not in its text.")
    if model.kind == "audio" and abs(model.seconds - part.view) > 1e-6:
        share = model.seconds / part.view
        said.append(f"The model's window is {model.seconds:g} s: every length is {share:.3g} of the protocol's.")
    if part.height != paper.height:
        said.append(f"Pictures are {paper.height // part.height} times smaller than the protocol's.")
    if len(part.rows) < len(paper.rows):
        said.append("Some rows were left out.")
    if model.prompts:
        said.append("This model imitates a synthesiser: its figures show that everything runs, and how long it takes.")
    return said + [f"{row.title}: no LPIPS backbone was there." for row in part.rows if row.method == "sync_gram"]
