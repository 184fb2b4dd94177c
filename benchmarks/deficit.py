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

from ..bootstrap import ROOT, host
from .common import machine, parser


def measure(model, method: str, steps: int, eta: float, classes: tuple[str, ...]) -> dict:
    """Deficit of the overlaps of one method's canvases, and seconds."""
    from safa_pack.evaluation.figures import deficit, spectra
    from safa_pack.evaluation.methods import METHODS
    from safa_pack.evaluation.protocol import Arm, Piece, Protocol
    from safa_pack.evaluation.work import task
    from safa_pack.safa_core.measures.spectrum import middle_regions, overlap_regions

    arm = Arm(method)
    protocol = Protocol("deficit", "deficit", (arm,), steps=steps, eta=eta)
    asked, begin = task(Piece(arm, 0, classes), protocol, model), time.process_time()
    canvas = METHODS[method].generate(model, asked)
    width = min(size for _, size in overlap_regions(asked.plan) + middle_regions(asked.plan))
    found = spectra(canvas, asked.plan, width)
    return deficit(found["middle"], found["overlap"]) | {"seconds": time.process_time() - begin}


def main(argv: list[str]) -> None:
    command = parser("deficit", __doc__)
    command.add_argument("--steps", type=int, nargs="+", default=[25, 200], help="DDIM steps")
    command.add_argument("--eta", type=float, nargs="+", default=[0.0, 1.0], help="of DDIM")
    command.add_argument("--methods", nargs="+", default=["average"], help="average, triangular, swap, safa, mad")
    command.add_argument("--classes", type=int, default=7, help="canvases, of as many classes (2 to 14)")
    command.add_argument("--threads", type=int, default=1)
    options = command.parse_args(argv)
    host()
    import torch

    from safa_pack.evaluation.model import PocketModel
    from safa_pack.training.sounds import CLASSES

    torch.set_num_threads(options.threads)
    model = PocketModel(ROOT / "models" / "safa-pocket", 32, autocast=False)
    classes = CLASSES[:: max(1, len(CLASSES) // options.classes)][: options.classes]
    print(f"Pocket model, {len(classes)} canvases ({', '.join(classes)}); {machine()}\n")
    print("| steps | eta | method | relative (dB) | absolute (dB) | s |\n|--:|--:|---|--:|--:|--:|")
    for steps in options.steps:
        for eta in options.eta:
            for method in options.methods:
                row = measure(model, method, steps, eta, tuple(classes))
                cells = [f"{row[k]:+.2f} ± {row[f'{k}_error']:.2f}" for k in ("relative", "absolute")]
                print(f"| {steps} | {eta:g} | {method} | {' | '.join(cells)} | {row['seconds']:.0f} |", flush=True)
