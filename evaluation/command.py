"""The command line: `python -m evaluation --pocket`."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from ..safa_core import ViewPlan
from ..training.sounds import CLASSES
from . import classifier as judge
from . import readme, report
from .control import controls
from .figures import summary
from .methods import method
from .model import PocketModel
from .protocol import Protocol, load, names, pieces
from .sampling import Task
from .store import Run
from .work import REAL, autocast_difference, caption, check, run_piece, run_real, seams

ROOT = Path(__file__).resolve().parent.parent
MODEL, DATA, DOCS = ROOT / "models" / "safa-pocket", ROOT / ".host" / "data" / "evaluation", ROOT / "docs"
TUNED = [(steps, guidance) for steps in (25, 50) for guidance in (2.0, 3.5, 5.0)]
TUNING = 1000  # first seed: prompts and noise that no protocol uses


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="evaluation", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--pocket", action="store_true", required=True, help="measure the pocket model")
    add("--model", type=Path, default=MODEL, help="its folder, in diffusers' layout")
    add("--protocol", action="append", help=f"{', '.join(names())}; repeatable, all of them unless given")
    add("--seeds", type=int, help="captions per class")
    add("--windows", type=int, help="length of the loops that are not given in seconds, in windows at overlap 0.2")
    add("--steps", type=int, help="DDIM steps")
    add("--guidance", type=float, help="classifier-free guidance scale")
    add("--record", type=int, help="also keep the canvas before every so many steps")
    add("--minutes", type=float, help="start no further piece of work after so many; run again to go on")
    add("--chunk", type=int, default=7, help="classes made at once")
    add("--batch", type=int, default=32, help="windows in one call of the UNet")
    add("--autocast", action="store_true", help="the UNet computes in bfloat16")
    add("--run", default="pocket", help="folder of the results in .host/data/evaluation")
    add("--data", type=Path, default=DATA, help=argparse.SUPPRESS)
    add("--out", type=Path, default=DOCS, help="folder of the report")
    add("--tune", action="store_true", help="only: how well single windows are recognised, by steps and guidance")
    add("--report", action="store_true", help="only: write the report from what is there")
    return parser.parse_args(argv)


def changes(options) -> dict:
    """What the command line changes in every protocol."""
    named = ("seeds", "windows", "steps", "guidance", "record")
    return {name: getattr(options, name) for name in named if getattr(options, name) is not None}


def check_output(folder: Path) -> None:
    """Hours are not to end at a folder that cannot be written (ValueError)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".evaluation"
        probe.write_text("", encoding="utf-8")
        probe.unlink()
    except OSError as error:
        raise ValueError(f"Expected a folder that can be written, got {folder} ({error.strerror}).") from None


def tune(model: PocketModel, network, protocol: Protocol) -> None:
    """Prints, for every pair of steps and guidance, how many single windows the classifier recognises."""
    print("| steps | guidance | recognised | windows | s per window |\n| --- | --- | --- | --- | --- |")
    seeds = range(TUNING, TUNING + protocol.seeds)
    numbers = [(i, seed, 1) for seed in seeds for i in range(len(CLASSES))]
    prompts = [caption(CLASSES[i], seed) for i, seed, _ in numbers]
    plan = ViewPlan((0,), model.view, model.view)
    for steps, guidance in TUNED:
        begin = time.perf_counter()
        task = Task(replace(protocol, steps=steps, guidance=guidance), plan, prompts, numbers)
        given = network.judge(model.to_mel(method("single").generate(model, task)))[1].argmax(1)
        right = sum(int(g) == i for g, (i, _, _) in zip(given, numbers, strict=True)) / len(numbers)
        seconds = (time.perf_counter() - begin) / len(numbers)
        print(f"| {steps} | {guidance:g} | {right:.1%} | {len(numbers)} | {seconds:.2f} |", flush=True)


def work_through(runs, model: PocketModel, network, options) -> bool:
    """All pieces, round by round over the protocols; whether everything is done."""
    rounds = [[(protocol, run, part) for part in pieces(protocol, CLASSES, options.chunk)] for protocol, run in runs]
    order = [item for items in itertools.zip_longest(*rounds) for item in items if item]
    todo = [(protocol, run, piece) for protocol, run, part in order for piece in part if piece.key not in run]
    begin = time.perf_counter()
    for done, (protocol, run, piece) in enumerate(todo):
        minutes = (time.perf_counter() - begin) / 60
        if options.minutes is not None and minutes >= options.minutes:
            print(f"{options.minutes:g} minutes are over, {len(todo) - done} pieces are left: run again to go on.")
            return False
        run_piece(piece, protocol, model, network, run)
        line = run.lines[piece.key]
        print(
            f"[{done + 1}/{len(todo)}] {protocol.name} {piece.key}: {len(line['prompts'])} canvases, "
            f"{line['evaluations']} windows in {line['seconds']:.1f} s",
            flush=True,
        )
    return True


def open_runs(protocols: list[Protocol], model: PocketModel, key: str, options) -> list[tuple[Protocol, Run]]:
    """The folder of each protocol."""
    common = {"model": model.fingerprint, "classifier": key, "chunk": options.chunk, "autocast": options.autocast}
    settings = [p.settings() | common | {"seams": seams(p, model)} for p in protocols]
    return [(p, Run(options.data / options.run / p.name, own)) for p, own in zip(protocols, settings, strict=True)]


def evaluate(options) -> None:
    protocols = [load(name, **changes(options)) for name in options.protocol or names()]
    if not options.model.is_dir():
        raise ValueError(
            f"Expected a model folder, got {options.model}, which does not exist: train one or name --model."
        )
    check_output(options.out)
    model, recipe = PocketModel(options.model, options.batch, options.autocast), judge.Recipe()
    for protocol in protocols:
        check(protocol, model, recipe.features)
    network, known = judge.load(options.data, recipe)
    if options.tune:
        return tune(model, network, protocols[0])
    runs = open_runs(protocols, model, known["key"], options)
    if not options.report:
        for _, run in runs:
            if REAL not in run:
                run_real(model, network, recipe, run)
        work_through(runs, model, network, options)
    lines = [line for protocol, run in runs for line in summary(run, protocol, model, options.chunk)]
    for line in (line for line in lines if line["arm"] == REAL):
        protocol, run = next(pair for pair in runs if pair[0].name == line["protocol"])
        line["controls"] = controls(run, protocol, model, network, options.chunk)
    facts = {
        "command": "python run.py eval " + " ".join(options.given),
        "machine": report.machine(),
        "classifier": known,
        "autocast": autocast_facts(runs, model, network) if options.autocast else None,
        "minutes": sum(line.get("seconds", 0) for _, run in runs for line in run.lines.values()) / 60,
    }
    for path in report.write(options.out, lines, protocols, facts):
        print(f"wrote {path}")
    if options.out == DOCS and readme.update(DOCS / "measurements.md", lines, protocols, facts):
        print("wrote the tables in docs/measurements.md")


def autocast_facts(runs, model: PocketModel, network) -> dict:
    """Measured once per run."""
    protocol, run = runs[0]
    path = run.folder / "autocast.json"
    if not path.is_file():
        path.write_text(json.dumps(autocast_difference(protocol, model, network)), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def main(argv: list[str]) -> int:
    """Exit code; what goes wrong is told in one sentence."""
    if "--pocket" in argv:
        read, work = arguments, evaluate
    else:
        from .paper import command as paper

        read, work = paper.arguments, paper.evaluate
    options = read(argv)
    options.given = argv
    try:
        work(options)
    except ValueError as error:
        sentence = str(error)
    except KeyboardInterrupt:
        sentence = "Interrupted; run it again to go on."
    except OSError as error:
        sentence = f"{error.strerror}: {error.filename}."
    else:
        return 0
    print(f"evaluation: {sentence}", file=sys.stderr)
    return 1
