"""What the pack adds to every start of ComfyUI: processor seconds, and the modules that take the most of them.

    python run.py bench startup [--pack FOLDER] [--rounds 5] [--top 8] [--json FILE]

A process that has imported the host loads the pack as the host's start does (modules, nodes, their schemas); each round
is a process of its own, and one before them compiles what is new. Seconds are those of the process, which other
processes do not lengthen. Columns:

module   one of the pack, or a whole library, with the number of its modules
seconds  of processor time, without those of the modules that it imports; median of the rounds
"""

import argparse
import asyncio
import contextlib
import importlib.machinery
import json
import os
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

from ..bootstrap import ROOT, host
from .common import parser, run_apart


class ImportClock:
    """Processor seconds of each Python module while it is imported, without those of the modules that it imports."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._inside = [0.0]  # of the imports within each import that is going on

    @contextlib.contextmanager
    def running(self):
        """A place where imports are timed."""
        loader = importlib.machinery.SourceFileLoader
        execute = loader.exec_module

        def timed(this, module):
            begin = time.process_time()
            self._inside.append(0.0)
            try:
                execute(this, module)
            finally:
                took = time.process_time() - begin
                self.seconds[module.__name__] = took - self._inside.pop()
                self._inside[-1] += took

        loader.exec_module = timed
        try:
            yield
        finally:
            loader.exec_module = execute


def measure(pack: Path) -> dict:
    """Load a pack in this process: the seconds of all, and of modules by name, the pack's own beginning with "."."""
    host()
    import comfy_config.config_parser  # noqa: F401  # the host reads every pack's pyproject.toml with it
    import server  # noqa: F401

    import nodes

    clock = ImportClock()
    begin = time.process_time()
    with clock.running():
        loaded = asyncio.run(nodes.load_custom_node(str(pack)))
    took = time.process_time() - begin
    if not loaded:
        raise SystemExit(f"The host cannot load {pack}, see above.")
    own = str(pack).replace(".", "_x_")  # the host's name for it
    return {"seconds": took, "modules": {name.removeprefix(own) or ".": s for name, s in clock.seconds.items()}}


def library(module: str) -> str:
    """What a module is counted as: itself if it is the pack's, else its library."""
    return module if module.startswith(".") else module.split(".")[0]


def per_library(modules: dict[str, float]) -> dict[str, float]:
    """Seconds of the pack's modules, and of each library together."""
    total: Counter[str] = Counter()
    for name, seconds in modules.items():
        total[library(name)] += seconds
    return dict(total)


def main(argv: list[str]) -> None:
    command = parser("startup", __doc__)
    command.add_argument("--pack", type=Path, default=ROOT, help="the folder of another checkout, or of another pack")
    command.add_argument("--rounds", type=int, default=5, help="processes that measure")
    command.add_argument("--top", type=int, default=8, help="modules to print")
    command.add_argument("--json", type=Path, help="also write the figures of all rounds to this file")
    command.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = command.parse_args(argv)
    if options.one:
        print(json.dumps(measure(options.pack)))
        return
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a start finds what the start before it has compiled
    rounds = []
    for _ in range(1 + options.rounds):
        figures = run_apart("startup", "--one", "--pack", str(options.pack.resolve()))
        if figures is None:
            raise SystemExit("A round failed, see above.")
        rounds.append(figures)
    report(rounds[1:], options.top)
    if options.json:
        options.json.write_text(json.dumps(rounds[1:], indent=2) + "\n", encoding="utf-8")


def report(rounds: list[dict], top: int) -> None:
    whole = [figures["seconds"] for figures in rounds]
    print(
        f"The pack adds {statistics.median(whole):.2f} s to a start ({min(whole):.2f} to {max(whole):.2f}), "
        f"with {len(rounds[0]['modules'])} modules; Python {sys.version.split()[0]}.\n"
    )
    print("| module | seconds |\n|---|--:|")
    counts = Counter(map(library, rounds[0]["modules"]))
    of_rounds = [per_library(figures["modules"]) for figures in rounds]
    medians = {name: statistics.median(figures.get(name, 0.0) for figures in of_rounds) for name in counts}
    for name, seconds in sorted(medians.items(), key=lambda item: -item[1])[:top]:
        several = f" ({counts[name]} modules)" if counts[name] > 1 else ""
        print(f"| {name}{several} | {seconds:.3f} |")
