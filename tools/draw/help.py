"""The pictures of the help pages, drawn with the pack's own code, web/docs/<name>.png: all, or those named.

`report`, `mel`, `roll` and `loop` show one real run of the seam check with the pocket model, for which a
server is started: minutes on a CPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageChops, ImageColor, ImageDraw, ImageFont, ImageOps
from scipy.signal import resample_poly

from ...nodes.decode.spectrogram_picture import Spectrogram
from ...nodes.joint.plan_picture import MARGIN, WIDTH, plan_picture
from ...nodes.joint.timeline_picture import timeline_picture
from ...nodes.palette import BACK, EMPTY, FAINT, INK, MIDDLE, OVERLAP, VIEWS
from ...safa_core import AverageJoin, ReferenceGuide, SwapJoin, TriangularJoin, ViewPlan, plan_views
from ...safa_core.methods.lite_focus import CrossFrequency
from ...safa_core.sound.mel import RIFFUSION, RIFFUSION_POWER, GriffinLim, hz_to_mel, riffusion_mel
from ...safa_core.timeline import Ruler, prompt_weights, read_timeline
from ...training.sounds import SAMPLE_RATE, SOUNDS
from .card import DEPTH, decibels
from .runs import ROOT, SEAM_CHECK, ran, start_server, workflow
from .thumbnails import OWN_SAMPLER, RIVALS, attended, card_of, pulled

OUT = ROOT / "web" / "docs"
ROWS = 8  # of the small latents in the drawings
CELL = 14  # pixels
RUN, SAVED = SEAM_CHECK, "SaFaSaveLoop"
SHOWN = {"report": "SaFaSpectrumReport", "mel": "SaFaMelDecode", "roll": "SaFaRollHalf"}  # by the node that drew it
AROUND = 0.04  # seconds before and after the loop point
DARK = {
    **dict.fromkeys(("figure.facecolor", "axes.facecolor"), BACK),
    **dict.fromkeys(("axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"), INK),
    "axes.edgecolor": FAINT,
    "font.size": 14,
}


def plan() -> Image.Image:
    """The planner's picture of 512 x 3200 pixels from six views."""
    return _image(plan_picture(plan_views(400, 80, 0.2), 8, "pixels", "6 views of 640 px on 3200 px"))


def plan_loop() -> Image.Image:
    """The planner's picture of a loop of 24 s from three views of 10 s."""
    return _image(plan_picture(plan_views(600, 250, 0.2, loop=True), 0.04, "seconds", "3 views of 10 s on 24 s, loop"))


def timeline() -> Image.Image:
    """The example of Prompt Timeline's help page on a loop-free canvas of 24 s from three views of 10 s."""
    ruler = Ruler(plan_views(600, 250, 0.2), "seconds", 0.04)
    lines = read_timeline("0-8: gentle rain\n8-20: rain with distant bells\ndefault: rain", ruler)
    prompts, weights = prompt_weights(lines, ruler, 25)
    return _image(timeline_picture(prompts, weights, ruler, "24 s, cross-fade 1 s"))


def joins() -> Image.Image:
    """Join weights of the later of two views, and of the earlier, for four join operators."""
    plan = ViewPlan((0, 24), 40, 64)
    operators = {
        "Self-Loop Swap, frames, interval 1": SwapJoin(),
        "Self-Loop Swap, rows, interval 1": SwapJoin(axis="rows"),
        "Overlap Average, flat": AverageJoin(),
        "Overlap Average, triangular": TriangularJoin(),
    }
    grids = {}
    for title, join in operators.items():
        later = torch.zeros(ROWS, plan.length)
        later[:, plan.columns[1]] = join.weights(plan, ROWS)[1]
        grids[title] = later
    return _panels(grids, ("earlier view", "later view"), (VIEWS[0], OVERLAP))


def reference() -> Image.Image:
    """The places of a canvas of two views that follow the reference (Eq. 10)."""
    plan = ViewPlan((0, 32), 40, 72)
    grids = {
        f"Reference Swap, {axis}, interval 1": ReferenceGuide(axis=axis).places(plan, ROWS)[0].float()
        for axis in ("frames", "rows")
    }
    return _panels(grids, ("view", "reference"), (MIDDLE, "#e5d9a8"))


def focus() -> Image.Image:
    """The places (frames across, frequencies down) that a query of frequency 3 attends to, rho = 0.1."""
    frames, bins = 64, ROWS
    seen = torch.zeros(frames * bins)
    seen[CrossFrequency(0.1, 0).picked(frames * bins)] = 1
    grid = seen.unflatten(0, (frames, bins)).T.contiguous()
    grid[3] = 1
    return _panels({"LiteFocus, one frequency of eight, rho 0.1": grid}, ("left out", "attended to"), (EMPTY, INK))


def _panels(grids: dict[str, torch.Tensor], words: tuple[str, str], colours: tuple[str, str]) -> Image.Image:
    """Grids [rows, columns] of shares 0 to 1, one below the other: colours[0] for 0, colours[1] for 1."""
    font = ImageFont.load_default(size=14)
    step = 28 + ROWS * CELL + 12
    image = Image.new("RGB", (WIDTH, MARGIN + len(grids) * step + 30), BACK)
    draw = ImageDraw.Draw(image)
    ends = [np.array(ImageColor.getrgb(colour)) for colour in colours]
    for k, (title, grid) in enumerate(grids.items()):
        y = MARGIN - 8 + k * step
        draw.text((MARGIN, y), title, INK, font)
        left = (WIDTH - CELL * grid.shape[1]) // 2
        for row, column in np.ndindex(*grid.shape):
            share = float(grid[row, column])
            colour = tuple(np.rint(ends[0] * (1 - share) + ends[1] * share).astype(int).tolist())
            x, top = left + CELL * column, y + 26 + CELL * row
            draw.rectangle((x, top, x + CELL - 2, top + CELL - 2), fill=colour)
    x, y = MARGIN, image.height - 26
    for word, colour in zip(words, colours, strict=True):
        draw.rectangle((x, y + 2, x + 13, y + 15), fill=colour)
        draw.text((x + 20, y), word, INK, font)
        x += 50 + font.getlength(word)
    return image


def diagram(name: str, drawing: Callable | None = None) -> Image.Image:
    """The drawing on a workflow's thumbnail (or `drawing` of its plan), without the words above and below it."""
    card = card_of(name, drawing=drawing).image
    drawing = card.crop((0, card.height * 105 // 512, card.width, card.height * 460 // 512))
    ground = drawing.getpixel((0, 0))
    edges = ImageChops.difference(drawing, Image.new("RGB", drawing.size, ground)).getbbox()
    drawing = ImageOps.expand(drawing.crop(edges), 40, ground)
    return drawing.resize((900, round(900 * drawing.height / drawing.width)), Image.Resampling.LANCZOS)


@rc_context(DARK)
def riffusion() -> Image.Image:
    """A sound as Riffusion would draw it, and the spectrogram of what is decoded from that picture."""
    wave, _ = SOUNDS["bells"](np.random.default_rng(3), 5.12)
    sound = torch.from_numpy(resample_poly(wave, RIFFUSION.sample_rate, SAMPLE_RATE))[None].float()
    mel = RIFFUSION.spectrogram(sound)[0]
    drawn = (1 - (mel.T.flip(0) / mel.max()) ** RIFFUSION_POWER).mul(255).round()
    vocoder = GriffinLim(RIFFUSION).vocoder(0, drawn.shape[1])
    heard = torch.cat([piece for _, piece in vocoder.pieces([riffusion_mel(drawn[None] / 255)], False)], 1)
    spectrum = Spectrogram(RIFFUSION, drawn.shape[1])
    spectrum.add(RIFFUSION.spectrogram(heard)[0], 0)
    figure, (left, right) = _figure(4.6, 2)
    left.imshow(drawn.numpy(), "gray", vmin=0, vmax=255, aspect="auto")
    left.set(title="the picture, loud is dark", xlabel="pixel column", ylabel="pixel row")
    right.imshow(decibels(spectrum) / 255, extent=(0, spectrum.seconds, RIFFUSION.bins, 0), aspect="auto")
    right.set(title=f"decoded from it, 0 to -{DEPTH} dB", xlabel="time in seconds", ylabel="frequency in Hz")
    hz = torch.tensor([200, 500, 1000, 2000, 4000, 8000])
    rows = RIFFUSION.bins * (1 - hz_to_mel(hz, "htk") / hz_to_mel(torch.tensor(RIFFUSION.fmax), "htk"))
    right.set_yticks(rows.tolist(), hz.tolist())
    return _rendered(figure)


def real_run() -> dict[str, Image.Image]:
    """What the nodes of a real run show, and the loop that it saves, around its loop point."""
    ids = {node["type"]: str(node["id"]) for node in workflow(RUN)["nodes"]}
    with ExitStack() as stack:
        server = start_server(stack, (RUN,))
        result = ran(RUN, server)
        pictures = {}
        for name, kind in SHOWN.items():
            (path,) = (file for file in server.files(result, "temp", ids[kind]) if file.suffix == ".png")
            pictures[name] = Image.open(path).convert("RGB")
        (path,) = server.files(result, node=ids[SAVED])
        return pictures | {"loop": loop(path)}


@rc_context(DARK)
def loop(path: Path) -> Image.Image:
    """The end of a saved sound and, after it, its start."""
    sound, rate = soundfile.read(path, always_2d=True)
    count = round(AROUND * rate)
    wave = np.concatenate([sound[-count:, 0], sound[:count, 0]])
    figure, (axes,) = _figure(3.8, 1)
    axes.plot((np.arange(2 * count) - count) / rate * 1000, wave, color=OVERLAP, lw=1.5)
    axes.axvline(0, color=INK, ls="--")
    axes.margins(x=0)
    axes.grid(color=FAINT, alpha=0.2)
    axes.set_title("end of the file", loc="left")
    axes.set_title("its start", loc="right")
    axes.set(xlabel="milliseconds from the loop point", ylabel="amplitude")
    return _rendered(figure)


def _figure(height: float, count: int) -> tuple[Figure, np.ndarray]:
    """A figure as wide as the others, `height` in inches of 100 pixels, with `count` axes side by side."""
    figure = Figure((WIDTH / 100, height), 100, layout="constrained")
    return figure, figure.subplots(1, count, squeeze=False)[0]


def _rendered(figure: Figure) -> Image.Image:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _image(picture: torch.Tensor) -> Image.Image:
    return Image.fromarray(picture[0].mul(255).round().byte().numpy())


FLAT = {draw.__name__: draw for draw in (plan, plan_loop, timeline, joins, reference, focus)}
DRAWN = {
    **FLAT,
    "step": partial(diagram, "Panorama - Stable Diffusion 1.5"),
    "patch": partial(diagram, OWN_SAMPLER),
    "merge": partial(diagram, RIVALS, attended),
    "sync": partial(diagram, RIVALS, pulled),
    "riffusion": riffusion,
}
REAL = (*SHOWN, "loop")


def main(given: argparse.Namespace) -> None:
    """Draw the pictures `names`, all where there is none."""
    names = given.names
    unknown = sorted(set(names) - {*DRAWN, *REAL})
    if unknown:
        raise SystemExit(f"Expected names out of {', '.join([*DRAWN, *REAL])}; got {', '.join(unknown)}.")
    names = names or [*DRAWN, *REAL]
    real = real_run() if set(names) & set(REAL) else {}
    for name in names:
        image = real[name] if name in real else DRAWN[name]()
        # median cut would spend its colours on a spectrogram's noise, and make large files
        few = image.quantize(64) if name in FLAT else image.quantize(64, Image.Quantize.MAXCOVERAGE, kmeans=1)
        few.save(OUT / f"{name}.png", optimize=True)
        print(OUT / f"{name}.png", image.size, (OUT / f"{name}.png").stat().st_size)
