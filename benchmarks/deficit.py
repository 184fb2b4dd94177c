"""Why averaging blurs, on the pocket model: what overlaps lack (Fig. 2b), by number of steps and by noise.

    python run.py bench deficit [--steps 25 200] [--eta 0 1] [--methods average] [--classes 7]

Loops of three windows at overlap 0.2, one canvas per class (every second one of the 14). With eta 1 every view draws
noise of its own at every step, as Algorithm 1 has it with the whole step inside the view. Columns:

relative  dB that overlaps lack in the top third of the frequencies against the middles of the same canvases, both
          relative to their lowest frequency as in Fig. 2(b), with the standard error over canvases
absolute  the same without that
s         seconds of the process
"""

import time
from dataclasses import replace

from ..bootstrap import ROOT, host
from .common import machine, parser


def measure(model, part, row, prompts: list[int]) -> dict:
    """Deficit of the overlaps of one row's canvases in dB, {kind: (mean, standard error)}, and seconds."""
    from pathlib import Path

    from safa_pack.evaluation.making.methods import method
    from safa_pack.evaluation.scores.pocket import deficits, spectra, standard_error
    from safa_pack.evaluation.windows import region_width
    from safa_pack.evaluation.work import Job, task_of

    task = task_of(Job(part, model, Path()), row, 0, prompts)
    begin = time.process_time()
    canvas = method(row.method)(model, task)
    curves = spectra(canvas, task.plan, region_width(model, part))
    line = {}
    for kind in ("relative", "absolute"):
        values = deficits(curves["middle"], curves["overlap"], kind)
        line[kind] = float(values.mean()), standard_error(values)
    return line | {"seconds": time.process_time() - begin}


def main(argv: list[str]) -> None:
    command = parser("deficit", __doc__)
    command.add_argument("--steps", type=int, nargs="+", default=[25, 200], help="DDIM steps")
    command.add_argument("--eta", type=float, nargs="+", default=[0.0, 1.0], help="of DDIM")
    command.add_argument(
        "--methods", nargs="+", default=["average"], help="average, triangular, swap, safa, merge_attend"
    )
    command.add_argument("--classes", type=int, default=7, help="canvases, of as many classes (2 to 14)")
    command.add_argument("--threads", type=int, default=1)
    options = command.parse_args(argv)
    host()
    import torch

    from safa_pack.evaluation.making.pocket import PocketModel
    from safa_pack.evaluation.protocol import load
    from safa_pack.training.sounds import CLASSES

    torch.set_num_threads(options.threads)
    model = PocketModel(ROOT / "models" / "safa-pocket", torch.device("cpu"))
    part = replace(load("pocket").part("pocket"), prompts=CLASSES)
    rows = {row.method: row for row in part.rows}
    prompts = list(range(len(CLASSES)))[:: max(1, len(CLASSES) // options.classes)][: options.classes]
    names = ", ".join(CLASSES[number] for number in prompts)
    print(f"Pocket model, {len(prompts)} canvases ({names}); {machine()}\n")
    print("| steps | eta | method | relative (dB) | absolute (dB) | s |\n|--:|--:|---|--:|--:|--:|")
    for steps in options.steps:
        for eta in options.eta:
            for method in options.methods:
                line = measure(model, replace(part, steps=steps, eta=eta), rows[method], prompts)
                cells = [f"{mean:+.2f} ± {error:.2f}" for mean, error in (line["relative"], line["absolute"])]
                print(f"| {steps} | {eta:g} | {method} | {' | '.join(cells)} | {line['seconds']:.0f} |", flush=True)
