"""`python run.py eval`: makes canvases, measures them, and writes the tables; options.py says what may be asked."""

from __future__ import annotations

import argparse
import errno
import shutil
import sys
import time
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import product
from pathlib import Path

import torch

from ..host_setup import DISK_FULL
from ..safa_core.errors import shorten
from . import controls, listening, measurements, report, windows
from .clips import Real, read_prompts, real_clips
from .making.folder import fingerprint, kind_of
from .making.open import open_model
from .making.window_model import WindowModel
from .networks import get_networks
from .options import ROOT, arguments, names
from .protocol import Part, Protocol, Row, load
from .scores import SCORES, pocket
from .scores.pictures import LPIPS
from .store import Run
from .summary import lines, measure_pairs, merged
from .work import Job, groups, key, make, measure

DOCS = ROOT / "docs"
POCKET, POCKET_PAGE = ROOT / "models" / "safa-pocket", "pocket_eval"
CHANGED = ("seeds", "steps", "guidance", "eta", "chunk")  # fields of Part that are options
SPARE = 1.25  # disk space for what is measured, beside the latents
TUNED = tuple(product((25, 50), (2.0, 3.5, 5.0)))  # steps, guidance
TUNING = 1000  # first seed: prompts and noise that no protocol uses


@dataclass(frozen=True)
class Request:
    """One protocol with the options, checked as far as that is possible before a model is loaded."""

    protocol: Protocol
    part: Part
    folder: Path
    shard: tuple[int, int]
    real: Real | None
    own_prompts: bool


# ---- Options ----


def chosen(options: argparse.Namespace) -> list[Protocol]:
    """The protocols asked for; ValueError where none is."""
    if options.protocol:
        return [load(name) for name in options.protocol]
    if not options.pocket:
        raise ValueError("Expected --protocol NAME, or --pocket for the pocket model; --help lists all.")
    return [load(name) for name in names() if load(name).pocket]


def request(options: argparse.Namespace, protocol: Protocol) -> Request:
    """ValueError, one sentence, for what would fail later."""
    folder = options.model or (POCKET if protocol.pocket else None)
    if folder is None:
        raise ValueError(f"Expected --model FOLDER for protocol {protocol.name}.")
    kind = kind_of(folder) if not protocol.pocket else "pocket"
    if not folder.is_dir():
        raise ValueError(f"Expected a model folder, got {folder.resolve()}, which does not exist.")
    part = protocol.part(kind).shrunk(options.shrink)
    given = {name: getattr(options, name) for name in CHANGED if getattr(options, name) is not None}
    part = replace(part, **given)
    part = part if options.length is None else part.lengthened(options.length)
    part = replace(part, rows=_rows(part, options.rows), columns=part.columns | _columns(part, options.also))
    shard = _shard(options.shard)
    if part.chunk < 1 or options.batch < 2:
        raise ValueError(f"Expected --chunk of 1 and --batch of 2 or more, got {part.chunk} and {options.batch}.")
    named: list[str | None] = []
    if options.prompts is not None:
        if protocol.pocket:
            raise ValueError(f"Expected no --prompts for protocol {protocol.name}, whose prompts are the classes'.")
        prompts, named = read_prompts(options.prompts)
        part = replace(part, prompts=tuple(prompts), left_out=0)
    return Request(protocol, part, folder, shard, _real(options, protocol, part, named), options.prompts is not None)


def _real(options: argparse.Namespace, protocol: Protocol, part: Part, named: list[str | None]) -> Real | None:
    if part.reference != "real":
        return None
    if options.real is None or options.prompts is None:
        raise ValueError(
            f"Expected --real and --prompts for protocol {protocol.name}, which compares with real clips: name "
            "their folder, and a file with a line `file.wav<tab>caption` for each."
        )
    return real_clips(options.real, named)


def _shard(text: str) -> tuple[int, int]:
    first, slash, count = text.partition("/")
    if not (slash and first.isdecimal() and count.isdecimal() and int(first) < int(count)):
        raise ValueError(f"Expected --shard I/N with I from 0 to N - 1, such as 0/2, got {text!r}.")
    return int(first), int(count)


def _rows(part: Part, titles: list[str] | None) -> tuple[Row, ...]:
    known = {row.title: row for row in part.rows}
    unknown = [title for title in titles or () if title not in known]
    if unknown:
        raise ValueError(f"Expected rows of {', '.join(known)}, got {unknown[0]!r}.")
    return part.rows if titles is None else tuple(row for row in part.rows if row.title in titles)


def _columns(part: Part, also: list[str]) -> dict[str, str]:
    fitting = {name: score.title for name, score in SCORES.items() if score.fits(part.kind)}
    unknown = [name for name in also if name not in fitting]
    if unknown:
        raise ValueError(f"Expected scores of {', '.join(fitting)}, got {unknown[0]!r}.")
    return {name: fitting[name] for name in also}


def check_device(name: str) -> torch.device:
    """ValueError where torch cannot use it."""
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"Expected a --device that torch can use, got {name} ({shorten(error)}).") from None
    return torch.device(name)


def check_output(folder: Path) -> None:
    """Hours are not to end at a folder that cannot be written (ValueError)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".evaluation"
        probe.write_text("", encoding="utf-8")
        probe.unlink()
    except OSError as error:
        raise ValueError(f"Expected a folder that can be written, got {folder} ({error.strerror}).") from None


def check_job(job: Job, shard: str) -> None:
    """Refuse what cannot be made or would give no figures (ValueError)."""
    windows.check(job.model, job.part)
    if not job.canvases:
        count = job.part.seeds * len(job.part.prompts)
        raise ValueError(f"Expected a --shard below the {count} canvases of a row, got {shard}.")
    count = job.part.seeds * len(job.part.prompts) * job.seams if job.part.kind == "pocket" else None
    if count is not None and count <= pocket.RECIPE.features:
        raise ValueError(
            f"Expected more than {pocket.RECIPE.features} windows for a Fréchet distance on as many features, got "
            f"{job.part.seeds} seeds x {len(job.part.prompts)} classes x {job.seams} overlaps = {count}: raise --seeds."
        )


def check_space(folder: Path, job: Job) -> None:
    """Hours are not to end at a full disk (ValueError)."""
    folder.mkdir(parents=True, exist_ok=True)
    floats = 0
    for row in job.part.rows:
        columns = job.part.plan(row, job.model.columns).length
        floats += torch.Size(job.model.latent_shape(columns)).numel() * job.copies(row)
    needed = 4 * SPARE * floats * len(job.canvases)
    used = sum(path.stat().st_size for path in folder.glob("*") if path.is_file())
    free = shutil.disk_usage(folder).free
    if free + used < needed:
        raise ValueError(
            f"Expected {needed / 2**30:.1f} GiB of space in {folder}, got {(free + used) / 2**30:.1f}: free some, or "
            "name fewer --seeds."
        )


def with_available_distance(row: Row, weights: Path) -> Row:
    """SyncDiffusion's row with the distance that there are weights for; others as they are.

    Without LPIPS's backbone views are compared by the Gram matrices of the VAE decoder's own features.
    """
    if row.method != "sync_diffusion" or LPIPS.missing(weights) is None:
        return row
    return replace(row, method="sync_diffusion_gram", title=f"{row.title} (VAE features)")


# ---- Work ----


def evaluate(options: argparse.Namespace) -> None:
    if options.get_networks:
        return get_networks(options.weights)
    if options.listen:
        return listen(options)
    requests = [request(options, protocol) for protocol in chosen(options)]
    pocket_only = all(one.protocol.pocket for one in requests)
    root = options.data / (options.run or ("pocket" if pocket_only else "paper"))
    out = options.out or (DOCS if options.pocket else None)
    device = check_device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    check_output(out or root)
    opened = lru_cache(partial(open_model, device=device, batch=options.batch))  # protocols may share a model
    jobs = [job_of(options, one, opened(one.part.kind, one.folder, one.part.height)) for one in requests]
    if options.tune:
        return tune(jobs[0])
    places = []
    for one, job in zip(requests, jobs, strict=True):
        folder = root / one.protocol.name / one.folder.resolve().name
        settings = job.part.settings() | {"model": fingerprint(one.folder), "autocast": options.autocast}
        places.append((one, job, folder, settings))
    if not options.report:
        deadline = None if options.minutes is None else time.monotonic() + 60 * options.minutes
        for one, job, folder, settings in places:
            shard = folder / f"shard-{one.shard[0]}-of-{one.shard[1]}"
            check_space(shard, job)
            if not work_through(job, Run(shard, settings), deadline):
                print(f"{options.minutes:g} minutes are over: run it again to go on.")
                break
    if requests[0].shard[1] > 1 and not options.report:
        print("this shard is done: when all are, run the same with --report instead of --shard.")
        return
    finish(options, places, root, out)


def job_of(options: argparse.Namespace, one: Request, model: WindowModel) -> Job:
    """With the model's own prompts and the distances at hand."""
    part = one.part
    model.autocast = options.autocast
    if model.prompts and not one.own_prompts and not part.kinds:
        part = replace(part, prompts=model.prompts, left_out=0)
    part = replace(part, rows=tuple(with_available_distance(row, options.weights) for row in part.rows))
    job = Job(part, model, options.weights, one.shard, one.real, options.record)
    check_job(job, options.shard)
    return job


def work_through(job: Job, run: Run, deadline: float | None = None) -> bool:
    """Everything of this shard: make, then measure; False where the deadline came first."""
    todo = groups(job, run)
    for done, (row, seed, prompts) in enumerate(todo, 1):
        if deadline is not None and time.monotonic() >= deadline:
            return False
        line = make(job, run, row, seed, prompts)
        print(
            f"[{done}/{len(todo)}] {row.title}, seed {seed}, prompts {prompts}: {line['views']} views, "
            f"{line['evaluations']:.0f} windows and {line['seconds']:.1f} s each",
            flush=True,
        )
    for text in measure(job, run):
        print(f"measured {text}", flush=True)
    return True


def finish(options: argparse.Namespace, places: list[tuple], root: Path, out: Path | None) -> None:
    """The tables: one page for all protocols with --pocket, else one each, with those of other models in its run."""
    pages: dict[Path, list[dict]] = {}
    pictures = []
    for one, job, folder, settings in places:
        group = result(options, one, job, folder, settings)
        page = out / POCKET_PAGE if options.pocket else (out or folder.parent) / one.protocol.name
        earlier = [] if options.pocket else report.read_groups(page.with_name(f"{page.name}.jsonl"))
        others = [other for other in earlier if other["model"] != group["model"]]
        pages[page] = [*pages.get(page, []), *others, group]
        for row in job.part.rows if one.protocol.axes else ():
            pictures += [(row.title, path) for path in sorted(folder.glob(f"*/{key(row, 0, 0)}.png"))[:1]]
    for page, results in pages.items():
        for path in report.write(page.parent, page.name, results, pictures):
            print(f"wrote {path}")
    if out == DOCS and options.pocket and measurements.update(DOCS / "measurements.md", pages[DOCS / POCKET_PAGE]):
        print("wrote the tables in docs/measurements.md")


def result(options: argparse.Namespace, one: Request, job: Job, folder: Path, settings: dict) -> dict:
    """What was made of a protocol, as report.write takes it."""
    measure_pairs(merged(folder, job, settings), Run(folder / "pairs", settings))
    results = merged(folder, job, settings)
    facts = {"command": "python run.py eval " + " ".join(options.given), "machine": report.machine(job.model.device)}
    if job.model.kind == "pocket":
        facts |= controls.facts(results, folder, options.autocast)
    else:
        facts["sentences"] = differences(one.protocol.part(job.part.kind), job, len(results.seeds))
    group = {"protocol": one.protocol.name, "model": folder.name, "facts": facts}
    return group | {"columns": job.part.columns, "details": job.part.details, "lines": lines(results)}


def differences(paper: Part, job: Job, seeds: int) -> list[str]:
    """What was done, and how it differs from the paper's protocol, in sentences."""
    part, model = job.part, job.model
    sentences = [f"{seeds} of {part.seeds} seeds are finished in every row, with {len(part.prompts)} prompts each."]
    for name in ("seeds", "steps", "guidance", "eta"):
        now, then = getattr(part, name), getattr(paper, name)
        if now != then:
            sentences.append(f"{name}: {now:g} in place of the protocol's {then:g}.")
    if part.prompts != paper.prompts:
        sentences.append(
            "The prompts are the model's own." if part.prompts == model.prompts else "The prompts are others."
        )
    if part.left_out:
        sentences.append(f"{part.left_out} of the paper's prompts are not in its text.")
    if model.kind == "audio" and abs(model.seconds - part.view) > 1e-6:
        share = model.seconds / part.view
        sentences.append(f"The model's window is {model.seconds:g} s: every length is {share:.3g} of the protocol's.")
    if part.height != paper.height:
        sentences.append(f"Pictures are {paper.height // part.height} times smaller than the protocol's.")
    if len(part.rows) < len(paper.rows):
        sentences.append("Some rows were left out.")
    if model.prompts:
        sentences.append(
            "This model learnt synthesised sounds: its figures show that everything runs, and how long it takes."
        )
    missing = [row.title for row in part.rows if row.method == "sync_diffusion_gram"]
    return sentences + [f"{title}: no LPIPS backbone was there." for title in missing]


def listen(options: argparse.Namespace) -> None:
    """The prompts that people meet first, made by the pocket model and heard; the table, sounds and spectrograms."""
    folder = options.model or POCKET
    device = check_device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    out = options.out or options.data / "listening" / folder.resolve().name
    check_output(out)
    listening.YAMNET.open(options.weights)
    model = open_model("audio", folder, 0, device, options.batch)
    run = Run(out, {"model": fingerprint(folder), "steps": listening.STEPS, "guidance": listening.GUIDANCE})
    results = listening.listen(model, run, options.weights, listening.named_prompts())
    print(f"wrote {listening.write(out, results, 'python run.py eval ' + ' '.join(options.given))}")


def tune(job: Job) -> None:
    """Prints, for pairs of steps and guidance, how many single windows of the pocket model are recognised."""
    print("| steps | guidance | recognised | windows | s per window |\n| --- | --- | --- | --- | --- |")
    judge = pocket.POCKET.open(job.weights)
    for steps, guidance in TUNED:
        part = replace(job.part, steps=steps, guidance=guidance)
        begin = time.perf_counter()
        right = []
        for seed in range(TUNING, TUNING + part.seeds):
            classes = judge.judge(job.model.decode(controls.single_windows(job.model, part, seed)))[1].argmax(1)
            right += (classes == torch.arange(len(classes))).tolist()
        seconds = (time.perf_counter() - begin) / len(right)
        print(f"| {steps} | {guidance:g} | {sum(right) / len(right):.1%} | {len(right)} | {seconds:.2f} |", flush=True)


def main(argv: list[str]) -> int:
    """Exit code; what goes wrong is told in one sentence."""
    options = arguments(argv)
    try:
        evaluate(options)
    except ValueError as error:
        sentence = str(error)
    except KeyboardInterrupt:
        sentence = "Interrupted; run it again to go on."
    except OSError as error:
        full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None))
        sentence = DISK_FULL if full else f"{error.strerror}: {error.filename}."
    else:
        return 0
    print(f"evaluation: {sentence}", file=sys.stderr)
    return 1
