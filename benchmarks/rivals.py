"""What a panorama costs by SaFa and by its rivals: latent [1, 4, 64, 400] (512 x 3200) with CFG on a slim SD1.5.

    python run.py bench rivals [--steps 10] [--shrink 1] [--backbone "VAE features"] [--json FILE]

One run: every method samples the same canvas with the same number of steps, in one process, one after the other, at its
own overlap (SaFa 0.2, the others 0.8). SyncDiffusion has its gradient in the first fifth of the steps (10 of 50),
Merge-Attend-Diffuse merges in the first half (25 of 50), SaFa has its reference in the first 30 % (15 of 50), so a mean
step here is a mean step there where these shares are whole numbers of steps. On a CPU seconds are those of the process,
which other processes do not lengthen. --shrink divides all sizes of the canvas, for slow machines. Columns:

views      of the plan
windows    model windows in the run, positive and negative counted apart
gradients  of them, windows that a gradient went back through
s/step     seconds per step, mean of the run
ratio      s/step over SaFa's
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from panorama import HEIGHT, VIEW, WIDTH, import_host, machine, synchronize

SAFA = "SaFa"


def clock() -> float:
    """Seconds: of this process on a CPU, of the wall around a GPU."""
    import torch

    synchronize()
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


def slim_vae():
    """SD's VAE, its decoder a quarter as wide, random weights."""
    import comfy.sd
    import comfy.utils

    from safa_pack.tests.tiny_checkpoints import sd_vae

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vae.safetensors"
        sd_vae(path)
        return comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(path)))


def methods(shrink: int, steps: int, backbone: str) -> dict:
    """Name -> (plan, patched MODEL)."""
    from safa_pack.nodes import NODES
    from safa_pack.nodes.canvas import Canvas, Guide
    from safa_pack.nodes.sampler import SaFaModelPatch
    from safa_pack.safa_core import AverageJoin, SwapJoin, plan_views
    from safa_pack.tests.tiny_models import sd15

    def canvas(overlap):
        plan = plan_views(WIDTH // shrink, VIEW // shrink, overlap)
        return Canvas(plan, (4, HEIGHT // shrink, WIDTH // shrink), 3, "pixels", 8)

    def patched(model, plan, join, guide=None):
        return SaFaModelPatch.execute(model, plan, join, guide).result[0]

    few, many = canvas(0.2), canvas(0.8)
    nodes = {node.__name__: node for node in NODES}
    made = {
        SAFA: (few, patched(sd15(), few, SwapJoin(), Guide(0.3, 1, "rows"))),
        "MultiDiffusion": (many, patched(sd15(), many, AverageJoin())),
    }
    if "SaFaMergeAttend" in nodes:
        merged = nodes["SaFaMergeAttend"].execute(sd15(), many, 0.5).result[0]
        made["Merge-Attend-Diffuse"] = (many, patched(merged, many, AverageJoin()))
    node = nodes["SaFaSyncGradient"]
    made["SyncDiffusion"] = (
        many,
        node.execute(sd15(), many, slim_vae(), 20.0, 0.95, max(1, steps // 5), backbone).result[0],
    )
    return made


def measure(plan, model, steps: int) -> dict:
    """Sample once."""
    import torch

    import comfy.sample

    from safa_pack.tests.tiny_models import conditioning

    windows = {"windows": 0, "gradients": 0}
    marks = []

    def counted(apply_model, args):
        windows["gradients" if torch.is_grad_enabled() else "windows"] += len(args["input"])
        return apply_model(args["input"], args["timestep"], **args["c"])

    def started(executor, *args, **kwargs):
        marks.append(clock())
        return executor(*args, **kwargs)

    model.set_model_unet_function_wrapper(counted)
    model.add_wrapper_with_key("sampler_sample", "bench", started)
    latent = torch.zeros(1, *plan.shape)
    with torch.inference_mode():  # as the host runs nodes
        comfy.sample.sample(
            model,
            comfy.sample.prepare_noise(latent, 0),
            steps,
            5.0,
            "euler",
            "normal",
            conditioning("sd15", 1),
            conditioning("sd15", 2),
            latent,
            seed=0,
            disable_pbar=True,
            callback=lambda *step: marks.append(clock()),
        )
    windows["windows"] += windows["gradients"]
    return {"views": len(plan.views), **windows, "seconds": (marks[-1] - marks[0]) / steps}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10, help="sampling steps of every method")
    parser.add_argument("--shrink", type=int, default=1, choices=[1, 2, 4], help="divides all sizes of the canvas")
    parser.add_argument("--backbone", default="VAE features", help="SyncDiffusion's, as on its node")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    import_host()
    made, results = methods(options.shrink, options.steps, options.backbone), {}
    size = [1, 4, HEIGHT // options.shrink, WIDTH // options.shrink]
    print(f"Slim SD1.5, latent {size}, {options.steps} steps, CFG; {machine()}\n")
    print("| method | views | windows | gradients | s/step | ratio |")
    print("|---|--:|--:|--:|--:|--:|")
    for method, (plan, model) in made.items():
        row = results[method] = measure(plan, model, options.steps)
        row["ratio"] = row["seconds"] / results[SAFA]["seconds"]
        print(
            f"| {method} | {row['views']} | {row['windows']} | {row['gradients']} | {row['seconds']:.3f} "
            f"| {row['ratio']:.2f} |",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "steps": options.steps, **results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
