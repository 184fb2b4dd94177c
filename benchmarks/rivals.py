"""What a panorama costs by SaFa and by its rivals, beside the paper's Table 3: 512 x 3200, 50 steps, CFG, slim SD1.5.

    python run.py bench rivals [--shrink 1] [--rounds 1] [--backbone "VAE features"] [--only SaFa ...] [--json FILE]

A method has two kinds of steps: SaFa with its reference (the first 15 of 50) and without, Merge-Attend-Diffuse with
merged self-attention (25) and without, SyncDiffusion with a gradient (10) and without. So a method is sampled for two
steps, one of each kind, and the 50 steps are reckoned from them: every step of one kind does the same work, whatever
its sigma. --rounds repeats the two steps and takes the medians. SaFa has an overlap of 0.2, the others of 0.8; SaFa*
is SaFa's second kind throughout.

Every method runs in a process of its own, which first samples a sixteenth of the canvas to warm up. On a CPU seconds
are those of the process on --threads threads (one by default), which other processes do not lengthen. --shrink divides
all sizes of the canvas, for slow machines. --json is written after every method, and methods that it holds from the
same options are not measured again. Columns:

views      of the plan
windows    model windows in 50 steps, positive and negative counted apart
gradients  of them, windows that a gradient went back through
early      seconds of a step of the first kind
late       seconds of a step of the second kind
50 steps   their sum by the shares above; no text encoder, no decoding of the finished canvas
ratio      over SaFa's
paper      Table 3's ratios of Rtime, U-Net (SD 2.0) and DiT (SD 3.5), full size on a GPU
peak       memory of the process (of the GPU where there is one), MB

The models have random weights: SD1.5's UNet with its upper two levels, SD's VAE with a decoder a quarter as wide.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from ..bootstrap import host
from .common import clock, machine, parser, peak, run_apart
from .panorama import HEIGHT, VIEW, WIDTH

SAFA, STAR, MD, MAD, SYNC = "SaFa", "SaFa*", "MultiDiffusion", "Merge-Attend-Diffuse", "SyncDiffusion"
STEPS = 50
EARLY = {SAFA: 15, MD: 25, MAD: 25, SYNC: 10}  # steps of the first kind; MultiDiffusion's are all alike
PAPER = {  # Table 3, Rtime in seconds: U-Net (SD 2.0), DiT (SD 3.5) in arXiv v1, DiT in the ICCV version where known
    SAFA: (35.16, 49.54, 49.54),
    STAR: (35.04, 49.51, None),
    MD: (40.06, 63.84, 103.85),
    MAD: (41.82, 65.93, 85.25),
    SYNC: (401.03, 668.46, 623.59),
}


def slim_vae():
    """SD's VAE, its decoder a quarter as wide, random weights."""
    import comfy.sd
    import comfy.utils

    from safa_pack.tests.tiny_checkpoints import sd_vae

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vae.safetensors"
        sd_vae(path)
        return comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(path)))


def prepared(method: str, shrink: int, backbone: str):
    """(Canvas, MODEL) of a method whose first step of two is of its first kind."""
    from safa_pack.nodes.canvas import Canvas, Guide
    from safa_pack.nodes.joint.sampler import SaFaModelPatch
    from safa_pack.nodes.rivals.merge_attend import SaFaMergeAttend
    from safa_pack.nodes.rivals.sync_diffusion import SaFaSyncGradient
    from safa_pack.safa_core import AverageJoin, SwapJoin, plan_views
    from safa_pack.tests.tiny_models import sd15

    plan = plan_views(WIDTH // shrink, VIEW // shrink, 0.2 if method == SAFA else 0.8)
    canvas = Canvas(plan, (4, HEIGHT // shrink, WIDTH // shrink), 3, "pixels", 8)
    model = sd15()
    if model.load_device.type == "cpu":
        # the host reckons several times what this model takes without flash attention, and would cut the one batch of
        # all views that merging needs
        model.model.memory_usage_factor /= 4
    if method == SYNC:
        return canvas, SaFaSyncGradient.execute(model, canvas, slim_vae(), 20.0, 0.95, 1, backbone).result[0]
    if method == MAD:
        model = SaFaMergeAttend.execute(model, canvas, 0.5).result[0]
    join, guide = (SwapJoin(), Guide(0.5, 1, "rows")) if method == SAFA else (AverageJoin(), None)
    return canvas, SaFaModelPatch.execute(model, canvas, join, guide).result[0]


def two_steps(canvas, model) -> list[dict]:
    """Sample two steps: seconds, windows and gradients of each."""
    import torch

    import comfy.sample

    from safa_pack.tests.tiny_models import conditioning

    rows, count = [], {"windows": 0, "gradients": 0}
    begun = [0.0]

    def counted(apply_model, args):
        count["windows"] += len(args["input"])
        count["gradients"] += len(args["input"]) * torch.is_grad_enabled()
        return apply_model(args["input"], args["timestep"], **args["c"])

    def started(executor, *args, **kwargs):
        begun[0] = clock()
        return executor(*args, **kwargs)

    def on_step(*step):
        rows.append({"seconds": clock() - begun[0], **count})
        count.update(windows=0, gradients=0)
        begun[0] = clock()

    model = model.clone()
    model.set_model_unet_function_wrapper(counted)
    model.add_wrapper_with_key("sampler_sample", "bench", started)
    latent = torch.zeros(1, *canvas.shape)
    noise = comfy.sample.prepare_noise(latent, 0)
    prompts = conditioning("sd15", 1), conditioning("sd15", 2)
    with torch.inference_mode():  # as the host runs nodes
        comfy.sample.sample(
            model, noise, 2, 5.0, "euler", "normal", *prompts, latent, seed=0, disable_pbar=True, callback=on_step
        )
    return rows


def medians(rows: tuple[dict, ...]) -> dict:
    """The median of each figure."""
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def measure(method: str, options) -> dict:
    """Views, and the two kinds of steps of one method."""
    import torch

    torch.set_num_threads(options.threads)
    two_steps(*prepared(method, 4 * options.shrink, options.backbone))
    canvas, model = prepared(method, options.shrink, options.backbone)
    rounds = [two_steps(canvas, model) for _ in range(options.rounds)]
    early, late = zip(*rounds, strict=True)
    return {
        "views": len(canvas.plan),
        "early": medians(early),
        "late": medians(late),
        "peak": peak() / 1e6,
        "machine": machine(),
    }


def reckoned(method: str, row: dict) -> dict:
    """Seconds, windows and gradients of the whole sampling, from one step of each kind."""
    early = EARLY[method]
    return {key: early * row["early"][key] + (STEPS - early) * row["late"][key] for key in row["early"]}


def table(results: dict) -> str:
    """The methods measured so far, as Markdown."""
    rows = [(method, reckoned(method, row), row) for method, row in results.items()]
    if SAFA in results:
        star = {key: STEPS * value for key, value in results[SAFA]["late"].items()}
        rows.insert(1, (STAR, star, {**results[SAFA], "early": results[SAFA]["late"]}))
    lines = [
        "| method | views | windows | gradients | early | late | 50 steps | ratio | paper | peak |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for method, whole, row in rows:
        ratio = f"{whole['seconds'] / rows[0][1]['seconds']:.2f}" if SAFA in results else "–"
        paper = " / ".join(
            "–" if seconds is None else f"{seconds / safa:.2f}"
            for seconds, safa in zip(PAPER[method], PAPER[SAFA], strict=True)
        )
        lines.append(
            f"| {method.replace('*', chr(92) + '*')} | {row['views']} | {whole['windows']:.0f} "
            f"| {whole['gradients']:.0f} | {row['early']['seconds']:.2f} | {row['late']['seconds']:.2f} "
            f"| {whole['seconds']:.0f} | {ratio} | {paper} | {row['peak']:.0f} |"
        )
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    command = parser("rivals", __doc__)
    command.add_argument("--shrink", type=int, default=1, choices=[1, 2], help="divides all sizes of the canvas")
    command.add_argument("--rounds", type=int, default=1, help="medians of so many measurements")
    command.add_argument("--threads", type=int, default=1)
    command.add_argument("--backbone", default="VAE features", help="SyncDiffusion's, as on its node")
    command.add_argument("--only", nargs="+", choices=list(EARLY), default=list(EARLY), help="these methods")
    command.add_argument("--json", type=Path, help="results, method by method; what it holds is not measured again")
    command.add_argument("--one", choices=list(EARLY), help=argparse.SUPPRESS)
    options = command.parse_args(argv)
    if options.one:
        host()
        print(json.dumps(measure(options.one, options)))
        return
    settings = {name: getattr(options, name) for name in ("shrink", "rounds", "threads", "backbone")}
    kept = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    results = kept["methods"] if kept.get("options") == settings else {}
    for method in options.only:
        if method in results:
            continue
        values = [f"--{name}={value}" for name, value in settings.items()]
        print(f"{method} ...", file=sys.stderr, flush=True)
        figures = run_apart("rivals", "--one", method, *values)
        if figures is None:
            print(f"{method} failed, see above; run again with --only to try it alone", file=sys.stderr, flush=True)
            continue
        results[method] = figures
        if options.json:
            options.json.write_text(json.dumps({"options": settings, "methods": results}, indent=2) + "\n")
    results = {method: results[method] for method in EARLY if method in results}
    size = [1, 4, HEIGHT // options.shrink, WIDTH // options.shrink]
    print(f"Slim SD1.5, latent {size}, CFG; {', '.join({row['machine'] for row in results.values()})}\n")
    print(table(results))
