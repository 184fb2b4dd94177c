"""What joint sampling costs beside the model: processor time, torch operations, waits for the GPU, batches, memory.

    python run.py bench overhead [--against FOLDER] [--only times counts memory shares] [--rounds 3] [--json FILE]

The model's forward is nearly free here, so all that is left is what the pack and the host do around it: CFG, Euler
steps, a reference that guides to the end, one torch thread, and seconds of the process, which other processes do not
lengthen. --against measures another checkout of the pack too, on the same host in processes that take turns, and prints
both side by side. Sections:

times    processor time outside the model's `apply_model`: of a step; and per view and step (the reference counts as
         one view), less what the host takes for any step, on one window without the pack; "16 at once": only so many
         pictures fit the free memory, so every step takes several model calls, each at the host's own price
counts   torch operations of a step outside `apply_model`; waits of the processor for the GPU, counted on any machine
         with tensors that pretend to lie on one (values read, and copies from it; copies of small tables to it are
         counted apart); distinct shapes of the batches that the model sees in a run
memory   most bytes of all tensors alive while sampling, noise and latent not counted, over those of the latent; and
         how that grows from ten minutes of sound to an hour, over how the latent grows (Stable Audio's latent)
shares   where there is a GPU: share of a step outside the model on SD1.5, SDXL and SD3.5, with random weights

"the host alone" samples without the pack: one window for times and counts, the whole length in one for memory.
"""

import argparse
import contextlib
import json
import math
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from unittest import mock

from ..bootstrap import ALIAS, ROOT, host
from .common import clock, machine, parser, run_apart

VIEWS = (7, 13, 27, 57, 146, 297, 587)  # the reference is one of them
COUNTED = (7, 27)
FEW = 16  # pictures that fit the memory together, where it is said to be small
ROWS, VIEW, SHARED = 8, 16, 4  # a small latent: what grows with its size is not what is measured
MINUTES, RATE, CLIP, CHANNELS = (10, 60), 44100 / 2048, 1024, 64  # of Stable Audio's latents
PLENTY = 2**50
GOALS = {
    "7 views: µs per step": 500,
    **{f"{n} views: µs per view and step": 20 for n in VIEWS if n >= 100},
    "7 views: operations per step": 90,
    "operations per step and further view": 0,
    "waits in a step": 0,
    "waits in the set-up": 2,
    "shapes of batches in a run": 2,
    f"shapes of batches in a run, {FEW} at once": 2,
    "growth of the peak over the latent's": 6,
    f"growth of the peak over the latent's, {FEW} at once": 6,
}


# ---- What is sampled ----


def cheap_model(channels: int, dims: int):
    """The host's MODEL of a network that gives half of what it is given."""
    import torch

    from safa_pack.tests.tiny_models import toy

    class Half(torch.nn.Module):
        dtype = torch.float32

        def forward(self, x, *args, **kwargs):
            return 0.5 * x

    model = toy(channels=channels, dims=dims)
    model.add_object_patch("diffusion_model", Half())
    return model


def patched(model, shape, axis: int, view: int, shared: int, rate: float = 1.0, finish: bool = True):
    """The model with a SaFa patch on a canvas of this shape [B, C, ...]."""
    from safa_pack.nodes.canvas import Canvas, Guide
    from safa_pack.nodes.joint.patch import JointPatch
    from safa_pack.safa_core import SwapJoin, plan_views

    canvas = Canvas(plan_views(shape[axis], view, shared / view), tuple(shape[1:]), axis, "latent", 1)
    guide = Guide(rate, 1, "frames" if len(shape) == 3 else "rows")
    return JointPatch(canvas, SwapJoin(), guide, "bench", finish_reference=finish).install(model)


def small_canvas(views: int) -> list[int]:
    """The latent's shape for so many views, the reference among them."""
    return [1, 4, ROWS, VIEW + (views - 2) * (VIEW - SHARED)]


class Watched:
    """A model_function_wrapper around `apply_model`: its seconds, its batches, and whether it runs now."""

    def __init__(self, seconds=time.process_time):
        self.seconds, self.inside, self.shapes, self.running = seconds, 0.0, set(), False

    def __call__(self, apply_model, args):
        self.shapes.add(tuple(args["input"].shape))
        begin, self.running = self.seconds(), True
        out = apply_model(args["input"], args["timestep"], **args["c"])
        self.running = False
        self.inside += self.seconds() - begin
        return out


def sample(model, shape, steps: int, watched=None, on_step=None, mode=None, kind: str = "toy", **cond):
    """Sample noise of this shape with the host's Euler steps and CFG, in a torch mode."""
    import torch

    import comfy.sample

    from safa_pack.tests.tiny_models import conditioning

    model = model.clone()
    model.set_model_unet_function_wrapper(watched or Watched())
    latent = torch.zeros(shape)
    noise = comfy.sample.prepare_noise(latent, 0)
    prompts = conditioning(kind, 1, **cond), conditioning(kind, 2, **cond)
    call = on_step and (lambda step, denoised, x, total: on_step())
    with mode or contextlib.nullcontext():
        return comfy.sample.sample(
            model, noise, steps, 5.0, "euler", "normal", *prompts, latent, seed=0, callback=call, disable_pbar=True
        )


@contextlib.contextmanager
def room_for(pictures: int | None, model, shape, view: int):
    """Within it, so many pictures of one view fit the free memory, by the host's own measure; None: any number."""
    free = PLENTY
    if pictures is not None:
        free = 1.5 * model.model.memory_required([pictures, *shape[1:-1], view]) + 1  # 1.5: the host's margin

    def free_memory(device=None, torch_free_too=False):
        return (free, free) if torch_free_too else free

    with mock.patch("comfy.model_management.get_free_memory", free_memory):
        yield


# ---- Times ----


def outside(model, shape, steps: int, seconds=time.process_time, **options) -> tuple[float, float]:
    """(seconds of a step outside the model, seconds of a step), the least of all steps but the first."""
    watched, rows, last = Watched(seconds), [], [0.0]

    def on_step():
        rows.append((seconds() - last[0], watched.inside))
        watched.inside, last[0] = 0.0, seconds()

    sample(model, shape, steps + 1, watched, on_step, **options)
    rows = rows[1:]
    return min(whole - inside for whole, inside in rows), min(whole for whole, _ in rows)


def times() -> dict[str, float]:
    """Microseconds of a step and per view and step, by number of views and what fits the memory together."""
    import torch

    figures, model = {}, cheap_model(4, 2)
    with torch.inference_mode():  # as the host runs nodes
        of_host, _ = outside(model, [1, 4, ROWS, VIEW], 100)
        figures["the host alone, one window: µs per step"] = 1e6 * of_host
        for pictures in (None, FEW):
            for views in VIEWS:
                shape = small_canvas(views)
                with room_for(pictures, model, shape, VIEW):
                    of_step, _ = outside(patched(model, shape, 3, VIEW, SHARED), shape, max(4, 600 // views))
                name = f"{views} views" + (f", {pictures} at once" if pictures else "")
                figures[f"{name}: µs per step"] = 1e6 * of_step
                figures[f"{name}: µs per view and step"] = 1e6 * (of_step - of_host) / views
    return figures


# ---- Counts ----


def operations(model, shape) -> float:
    """Torch operations of a step outside the model, the median over the steps between the first and the last."""
    from .instruments.torch_calls import Operations

    watched = Watched()
    counter, rows = Operations(lambda: not watched.running), []

    def on_step():
        rows.append(counter.count)
        counter.count = 0

    sample(model, shape, 6, watched, on_step, counter)
    return statistics.median(rows[1:-1])


def waits(model, shape) -> list[dict]:
    """Waits of a sampling on a GPU that is not there, by place in the code: set-up with the first step, each step."""
    from .instruments.torch_calls import FarDevice

    far, rows = FarDevice(), []
    with far.there(), far.carrying(model) as carried:
        sample(carried, shape, 8, on_step=lambda: rows.append(far.take()))
    return rows


def batches(model, shape) -> int:
    """How many shapes of batches the model sees in a run."""
    watched = Watched()
    sample(model, shape, 8, watched)
    return len(watched.shapes)


def counts() -> dict[str, float]:
    """Operations, waits and shapes of batches; for the last two the reference guides half of the steps, then rests."""
    import torch

    figures, model = {}, cheap_model(4, 2)
    per_step = {}
    with torch.no_grad():  # as in inference mode, but torch's own compound operations are counted by their parts
        figures["the host alone, one window: operations per step"] = operations(model, [1, 4, ROWS, VIEW])
        for views in COUNTED:
            shape = small_canvas(views)
            with room_for(None, model, shape, VIEW):
                per_step[views] = operations(patched(model, shape, 3, VIEW, SHARED), shape)
            figures[f"{views} views: operations per step"] = per_step[views]
        few, many = COUNTED
        figures["operations per step and further view"] = (per_step[many] - per_step[few]) / (many - few)
        shape = small_canvas(few)
        half = patched(model, shape, 3, VIEW, SHARED, rate=0.5, finish=False)
        with room_for(None, model, shape, VIEW):
            figures |= waits_beyond(waits(half, shape), waits(model, shape))
            figures["shapes of batches in a run"] = batches(half, shape)
        with room_for(FEW, model, shape, VIEW):
            figures[f"shapes of batches in a run, {FEW} at once"] = batches(half, shape)
    return figures


def waits_beyond(rows: list[dict], of_host: list[dict]) -> dict[str, float]:
    """Waits of a joint sampling beyond those of the host for a plain one; where they are goes to stderr."""
    beyond = [{way: row[way] - plain[way] for way in row} for row, plain in zip(rows, of_host, strict=True)]
    setup, *steps = beyond
    in_steps = {way: max((row[way] for row in steps), key=Counter.total) for way in setup}
    for when, row in (("the set-up", setup), ("a step", in_steps)):
        for way, places in row.items():
            for code, count in places.items():
                print(f"in {when}, {way} the device: {count} at {code}", file=sys.stderr)
    return {
        "waits in a step": in_steps["from"].total(),
        "waits in the set-up": setup["from"].total(),
        "copies to the device in a step": in_steps["to"].total(),
        "copies to the device in the set-up": setup["to"].total(),
    }


# ---- Memory ----


def peak_alive(model, shape) -> int:
    """Most bytes of tensors alive in a sampling of three steps, but for what it is given."""
    from .instruments.torch_calls import LiveBytes

    alive = LiveBytes()
    sample(model, shape, 3, mode=alive)
    return alive.peak


def memory() -> dict[str, float]:
    """Peak over the latent by length, and its growth over the latent's; all views together, few, and none at all."""
    import torch

    figures, model = {}, cheap_model(CHANNELS, 1)
    sizes = {minutes: [1, CHANNELS, round(minutes * 60 * RATE)] for minutes in MINUTES}
    kinds = {"": None, f", {FEW} at once": FEW, ", the host alone": None}
    with torch.inference_mode():
        for kind, pictures in kinds.items():
            peaks = {}
            for minutes, shape in sizes.items():
                joint = model if "alone" in kind else patched(model, shape, 2, CLIP, round(0.2 * CLIP))
                with room_for(pictures, model, shape, CLIP):
                    peaks[minutes] = peak_alive(joint, shape)
                figures[f"peak at {minutes} min over the latent{kind}"] = peaks[minutes] / nbytes(shape)
            least, most = MINUTES
            growth = (peaks[most] - peaks[least]) / (nbytes(sizes[most]) - nbytes(sizes[least]))
            figures[f"growth of the peak over the latent's{kind}"] = growth
    return figures


def nbytes(shape) -> int:
    """Bytes of a float32 tensor."""
    return 4 * math.prod(shape)


# ---- Shares of a step ----


def shares() -> dict[str, float]:
    """Per cent of a step outside the model: six views and the reference on a GPU; nothing where there is none."""
    import torch

    if not torch.cuda.is_available():
        return {}
    from .instruments.real_sizes import SIZES, full_size

    figures = {}
    for name, (_, _, kind, view) in SIZES.items():
        model = full_size(name)
        shape = [1, model.get_model_object("latent_format").latent_channels, view, view + 5 * round(0.8 * view)]
        with torch.inference_mode():
            joint = patched(model, shape, 3, view, view - round(0.8 * view))
            beside, whole = outside(joint, shape, 4, clock, kind=kind)
        figures[f"{name}: % of a step outside the model"] = 100 * beside / whole
        figures[f"{name}: ms per step"] = 1e3 * whole
    return figures


# ---- The command ----

SECTIONS = {"times": times, "counts": counts, "memory": memory, "shares": shares}


def measure(section: str, pack: Path) -> dict:
    """One section's figures for a checkout of the pack, in this process."""
    import torch

    sys.modules[ALIAS].__path__ = [str(pack)]  # what is imported from now on is that checkout's
    host()
    torch.set_num_threads(1)
    return {"figures": SECTIONS[section](), "machine": machine()}


def best(rounds: list[dict]) -> dict[str, float]:
    """The least of each figure: whatever else the machine does only adds to them."""
    return {name: min(figures[name] for figures in rounds) for name in rounds[0]}


def main(argv: list[str]) -> None:
    command = parser("overhead", __doc__)
    command.add_argument("--against", type=Path, help="the folder of another checkout of the pack")
    command.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS), help="these sections")
    command.add_argument("--rounds", type=int, default=3, help="processes that measure times; the least is printed")
    command.add_argument("--json", type=Path, help="also write the figures to this file")
    command.add_argument("--one", choices=list(SECTIONS), help=argparse.SUPPRESS)
    command.add_argument("--pack", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = command.parse_args(argv)
    if options.one:
        print(json.dumps(measure(options.one, options.pack)))
        return
    packs = [ROOT] if options.against is None else [options.against.resolve(), ROOT]
    results: dict[Path, dict[str, float]] = {pack: {} for pack in packs}
    machines: set[str] = set()
    for section in options.only:
        for pack, done in in_turns(section, packs, options.rounds).items():
            results[pack].update(best([one["figures"] for one in done]))
            machines.update(one["machine"] for one in done)
    print(f"CFG, Euler, a model whose forward is nearly free; {', '.join(machines)}\n")
    print(table(*results.values()))
    if options.json:
        named = {str(pack): figures for pack, figures in results.items()}
        options.json.write_text(json.dumps(named, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def in_turns(section: str, packs: list[Path], rounds: int) -> dict[Path, list[dict]]:
    """What `measure` gives for each checkout, in processes that take turns; only times differ from round to round."""
    measured: dict[Path, list[dict]] = {pack: [] for pack in packs}
    for _ in range(rounds if section == "times" else 1):
        for pack in packs:
            print(f"{section} of {pack} ...", file=sys.stderr, flush=True)
            done = run_apart("overhead", "--one", section, "--pack", str(pack))
            if done is None:
                raise SystemExit(f"{section} of {pack} failed, see above.")
            measured[pack].append(done)
    return measured


def table(*columns: dict[str, float]) -> str:
    """The figures of this checkout, or of another beside it with their ratio, as Markdown."""
    here = columns[-1]
    names = ["here"] if len(columns) == 1 else ["against", "here", "ratio"]
    lines = ["| figure | " + " | ".join([*names, "goal"]) + " |", "|---|" + "--:|" * (len(names) + 1)]
    for name, value in here.items():
        cells = [_number(column.get(name)) for column in columns]
        if len(columns) > 1:
            before = columns[0].get(name)
            cells.append(f"{value / before:.3f}" if before else "–")
        goal = GOALS.get(name)
        cells.append("" if goal is None else f"≤ {goal}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 or value == round(value) else f"{value:.2f}"
