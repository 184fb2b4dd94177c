"""What joint diffusion costs: a panorama latent [1, 4, 64, 400] with CFG on a slim SD1.5, method by method.

    python run.py bench [--steps 4] [--threads 1] [--json FILE]

Each method runs in a process of its own, so that its memory is its own. Within it, sampling steps alternate with the
bare model on the very same batches. On a CPU seconds are those of the process on --threads threads (one by default),
which other processes do not lengthen; on a GPU they are the wall's, with synchronisation. Columns:

windows   model windows per step (positive and negative counted apart)
batches   model calls per step
s/step    seconds per sampling step
bare      seconds for the bare model on the same batches
ratio     s/step over bare
outside   share of a step spent outside the model's forward, from clocks around it
memory    peak memory above what was held before sampling, MB
"""

import argparse
import json
import statistics
from pathlib import Path

from ..bootstrap import host
from .common import clock, machine, parser, peak, run_apart

WIDTH, HEIGHT, VIEW = 400, 64, 80
METHODS = {
    "SaFa, overlap 0.2, with reference": ("safa", 0.2),
    "SaFa*, overlap 0.2": ("swap", 0.2),
    "average (MultiDiffusion), overlap 0.2": ("average", 0.2),
    "average (MultiDiffusion), overlap 0.8": ("average", 0.8),
    "host's Context Windows, overlap 0.2": ("context", 0.2),
    "host's Context Windows, overlap 0.8": ("context", 0.8),
}


def patched_model(kind: str, overlap: float):
    """The slim SD1.5 prepared for one method."""
    from safa_pack.nodes.canvas import Canvas, Guide
    from safa_pack.nodes.joint.patch import JointPatch
    from safa_pack.safa_core import AverageJoin, SwapJoin, plan_views
    from safa_pack.tests.tiny_models import sd15

    model = sd15()
    if kind == "context":
        from comfy_extras.nodes_context_windows import ContextWindowsManualNode

        node = ContextWindowsManualNode.execute(
            model, VIEW, round(overlap * VIEW), "standard_static", 1, False, "pyramid", 3, False
        )
        return node.args[0]
    canvas = Canvas(plan_views(WIDTH, VIEW, overlap), (4, HEIGHT, WIDTH), 3, "pixels", 8)
    join = AverageJoin() if kind == "average" else SwapJoin()
    guide = Guide(0.3, 1, "rows") if kind == "safa" else None
    return JointPatch(canvas, join, guide, "bench", finish_reference=True).install(model)


class Watched:
    """A model_function_wrapper that times every forward and keeps the batches of the last step."""

    def __init__(self):
        self.inside, self.batches = 0.0, []

    def __call__(self, apply_model, args):
        begin = clock()
        out = apply_model(args["input"], args["timestep"], **args["c"])
        self.inside += clock() - begin
        self.batches.append((apply_model, args["input"], args["timestep"], args["c"]))
        return out


def measure(kind: str, overlap: float, steps: int, threads: int) -> dict:
    """Run one method; medians over all steps but the first."""
    import torch

    import comfy.sample

    from safa_pack.tests.tiny_models import conditioning

    torch.set_num_threads(threads)
    watched = Watched()
    model = patched_model(kind, overlap)
    model.set_model_unet_function_wrapper(watched)
    latent = torch.zeros(1, 4, HEIGHT, WIDTH)
    noise = comfy.sample.prepare_noise(latent, 0)
    rows, last = [], [clock()]
    held = peak()

    def on_step(step, denoised, x, total):
        """Close the step's books, then run the bare model on the same batches."""
        whole, inside, batches = clock() - last[0], watched.inside, watched.batches
        most = peak() - held
        begin = clock()
        for apply_model, x_in, t, c in batches:
            apply_model(x_in, t, **c)
        bare = clock() - begin
        rows.append((whole, inside, bare, sum(len(b[1]) for b in batches), len(batches), most))
        watched.inside, watched.batches = 0.0, []
        last[0] = clock()

    prompts = conditioning("sd15", 1), conditioning("sd15", 2)
    comfy.sample.sample(
        model, noise, steps + 1, 5.0, "euler", "normal", *prompts, latent, seed=0, callback=on_step, disable_pbar=True
    )
    rows = rows[1:]
    middle = [statistics.median(column) for column in zip(*rows, strict=True)]
    return {
        "windows": int(middle[3]),
        "batches": int(middle[4]),
        "seconds": middle[0],
        "bare": middle[2],
        "ratio": statistics.median(r[0] / r[2] for r in rows),
        "outside": statistics.median((r[0] - r[1]) / r[0] for r in rows),
        "memory": max(r[5] for r in rows) / 1e6,
    }


def main(argv: list[str]) -> None:
    command = parser("panorama", __doc__)
    command.add_argument("--steps", type=int, default=4, help="measured steps per method")
    command.add_argument("--threads", type=int, default=1)
    command.add_argument("--json", type=Path, help="also write the figures to this file")
    command.add_argument("--one", choices=list(METHODS), help=argparse.SUPPRESS)
    options = command.parse_args(argv)
    if options.one:
        host()
        print(json.dumps({**measure(*METHODS[options.one], options.steps, options.threads), "machine": machine()}))
        return
    results = {}
    for method in METHODS:
        numbers = ["--steps", str(options.steps), "--threads", str(options.threads)]
        figures = run_apart("panorama", "--one", method, *numbers)
        if figures is None:
            raise SystemExit(f"{method} failed, see above.")
        results[method] = figures
        report(method, figures, first=len(results) == 1)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


def report(method, figures, first):
    if first:
        print(f"Slim SD1.5, latent [1, 4, {HEIGHT}, {WIDTH}], views of {VIEW}, CFG; {figures['machine']}\n")
        print("| method | windows | batches | s/step | bare | ratio | outside | memory |")
        print("|---|--:|--:|--:|--:|--:|--:|--:|")
    print(
        f"| {method} | {figures['windows']} | {figures['batches']} | {figures['seconds']:.3f} | {figures['bare']:.3f} "
        f"| {figures['ratio']:.3f} | {figures['outside']:.2%} | {figures['memory']:.0f} MB |",
        flush=True,
    )
