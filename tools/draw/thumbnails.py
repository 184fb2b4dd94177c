"""The thumbnails of the Templates browser, workflows/<name>.jpg, 512 x 512: all, or those named.

Workflows for models that sound like the pocket model's kind are run in a real server, with the pocket model under the
name that the loader expects, a prompt that it knows and 25 steps; their cards say "real run". The others' weights are
not at hand: their cards draw the plan that the saved numbers make, and say "diagram".
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import torch
from PIL import Image, ImageDraw

from ...safa_core import AverageJoin, SwapJoin, ViewPlan, plan_views
from ...safa_core.methods.lite_focus import CrossFrequency
from .card import (
    BACK,
    COLOURS,
    FAINT,
    INK,
    LEFT,
    PANEL,
    REFERENCE,
    RIGHT,
    Card,
    bars,
    coarse,
    colours_of,
    decibels,
    grid,
    insets,
    overlap_edges,
    owners,
    rgb,
    ring,
)  # fmt: skip
from .runs import (
    APP,
    CLIP,
    DEMO,
    SCALES,
    SEAM_CHECK,
    SPHERE,
    STEPS,
    Sound,
    plan_of,
    sampled,
    start_server,
    workflow,
)

TIMELINE = "Long audio timeline - rain, then bells, then crickets"
OWN_SAMPLER = "Panorama - SaFa in front of your own sampler"
RIVALS = "Panorama by rivals - MultiDiffusion, Merge-Attend, SyncDiffusion"

# --- diagrams ---------------------------------------------------------------------------------------------------------


def panorama(name: str, card: Card) -> None:
    plan = plan_of(name)
    y = bars(card, plan, 122, 26) + 4
    card.paste(owners(coarse(plan), SwapJoin()), LEFT, y, RIGHT, y + 73)
    for x, words in ((LEFT, "0"), (RIGHT, f"{plan.length * 8}")):
        card.text(x, y + 78, words, 18, FAINT, "la" if x == LEFT else "ra")
    insets(card, 316, "rows")


def panorama_ring(name: str, card: Card) -> None:
    plan = plan_of(name)
    ring(card, plan, owners(coarse(plan), SwapJoin()), (f"{plan.length * 8}", "pixels"))


def hint(name: str, card: Card) -> None:
    """A drawn hint, and the piece of it that each view gets."""
    plan, scale = plan_of(name), (RIGHT - LEFT) / 400
    drawn = skyline(4 * plan.length, 4 * 72)
    card.text(LEFT, 110, "hint", 20, FAINT)
    card.paste(drawn, LEFT, 138, RIGHT, 138 + 72 * 1.14, smooth=True)
    for i, (start, colour) in enumerate(zip(plan.starts, colours_of(plan), strict=True)):
        top = 242 + 94 * (i % 2)
        left, right = LEFT + start * scale, LEFT + (start + plan.view) * scale
        card.block(left, top, right, top + 82, colour, 5)
        card.paste(drawn[:, 4 * start : 4 * (start + plan.view)], left + 3, top + 3, right - 3, top + 79, smooth=True)
        card.block(left, top, left + 25, top + 25, colour, 5)
        card.text(left + 12, top + 12, str(i + 1), 18, BACK, "mm")
    card.paste(owners(coarse(plan), SwapJoin()), LEFT, 428, RIGHT, 448)


def skyline(width: int, height: int) -> np.ndarray:
    """Edges as an edge detector would give them, of a row of houses: [height, width, 3]."""
    picture = Image.new("RGB", (width, height), PANEL)
    draw, x, k = ImageDraw.Draw(picture), 0, 0
    widths, tops = (52, 38, 64, 30, 46, 58, 34), (0.45, 0.62, 0.35, 0.72, 0.5, 0.28, 0.66, 0.4)
    while x < width:
        right, top = x + 2 * widths[k % 7], height * (1 - tops[k % 8])
        roof = [(x, top), ((x + right) / 2, top - 26), (right, top)] if k % 3 else [(x, top), (right, top)]
        draw.line([(x, height), *roof, (right, height)], INK, 5)
        for floor in range(round(top) + 20, height - 24, 44):
            for left in range(x + 16, right - 20, 30):
                draw.rectangle((left, floor, left + 12, floor + 18), outline=FAINT, width=3)
        x, k = right, k + 1
    return np.asarray(picture).astype(np.float32)


def patch(name: str, card: Card) -> None:
    plan = plan_of(name)
    y = bars(card, plan, 122, 22) + 4
    card.paste(owners(coarse(plan), SwapJoin()), LEFT, y, RIGHT, y + 46)
    boxes = [(LEFT, 262, "MODEL", FAINT), (150, 262, "SaFa Model Patch", COLOURS[0]), (380, 262, "KSampler", FAINT)]
    right = [x + 30 + card.width(words, 21) for x, _, words, _ in boxes]
    for (x, top, words, colour), end in zip(boxes, right, strict=True):
        card.block(x, top, min(end, RIGHT), top + 58, PANEL, 10, colour)
        card.text((x + min(end, RIGHT)) / 2, top + 29, words, 21, INK, "mm")
    for k in (0, 1):
        card.arrow((right[k] + 2, 291), (boxes[k + 1][0] - 3, 291), INK)
    for k, words in enumerate(("KSampler Advanced", "SamplerCustomAdvanced", "your own sampler node")):
        card.text(RIGHT, 336 + 32 * k, words, 22, FAINT, "ra")
    card.text(LEFT, 336, "LoRA, ControlNet,", 22, FAINT)
    card.text(LEFT, 368, "previews stay", 22, FAINT)


def long_sound(name: str, card: Card) -> None:
    plan = plan_of(name)
    y = bars(card, plan, 122, 26) + 4
    card.paste(owners(coarse(plan), SwapJoin()), LEFT, y, RIGHT, y + 73)
    card.text(LEFT, y + 78, "0 s", 18, FAINT)
    card.text(RIGHT, y + 78, f"{plan.length * SCALES[name][0]:.0f} s", 18, FAINT, "ra")
    insets(card, 316, "frames")


def sound_ring(name: str, card: Card) -> None:
    plan = plan_of(name)
    seconds = plan.length * SCALES[name][0] if name in SCALES else plan.length * 8 / 100
    ring(card, plan, owners(coarse(plan), SwapJoin()), (f"{seconds:.0f} s", "ring"))


def averaged(name: str, card: Card) -> None:
    plan = plan_of(name)
    y = bars(card, plan, 122, 12, 3) + 8
    card.paste(owners(plan, AverageJoin()), LEFT, y, RIGHT, y + 73)
    shown = [rgb(colour) for colour in colours_of(plan)[8:13]]  # five views that share columns
    for k, colour in enumerate(shown):
        grid(card, np.tile(colour, (1, 24, 1)), LEFT + 28, 296 + 18 * k, RIGHT - LEFT - 28, 18)
    card.text(LEFT, 404, "=", 30, INK, "lm")
    grid(card, np.tile(np.mean(shown, 0), (1, 24, 1)), LEFT + 28, 394, RIGHT - LEFT - 28, 22)
    card.text(LEFT, 428, "every column is the mean of five views", 21, FAINT)


def attended(name: str, card: Card) -> None:
    plan = plan_of(name)
    y = bars(card, plan, 122, 12, 3) + 8
    card.paste(owners(plan, AverageJoin()), LEFT, y, RIGHT, y + 40)
    top, cells = 386, 24
    places = [LEFT + (k + 0.5) * (RIGHT - LEFT) / cells for k in range(cells)]
    one = places[9]
    for place in places:
        card.line([(one, 290), (place, top)], "#5f6675", 1.5)
    pixels = owners(plan_views(cells, 8, 0.6), AverageJoin(), 2)
    grid(card, pixels, LEFT, top, RIGHT - LEFT, 40)
    card.block(one - 14, 266, one + 14, 292, INK, 6)
    card.text(one + 26, 279, "one place attends", 21, FAINT, "lm")
    card.text(LEFT, 430, "to all views' places at once", 21, FAINT)


def pulled(name: str, card: Card) -> None:
    plan = plan_of(name)
    y = bars(card, plan, 122, 12, 3) + 8
    card.paste(owners(plan, AverageJoin()), LEFT, y, RIGHT, y + 40)
    width, top = 60, 330
    centres = [LEFT + width / 2 + k * (RIGHT - LEFT - width) / 4 for k in range(5)]
    for k, x in enumerate(centres):
        colour = INK if k == 2 else COLOURS[(k + 2) % 3]
        card.block(x - width / 2, top, x + width / 2, top + 50, colour, 6)
        if k != 2:
            bend = 300 - 14 * abs(k - 2)
            card.line([(x, top - 4), (x, bend), (centres[2] + 9 * (k - 2), bend)], FAINT, 2)
            card.arrow((centres[2] + 9 * (k - 2), bend), (centres[2] + 9 * (k - 2), top - 3), FAINT, 2, 8)
    card.text(LEFT, 394, "a perceptual gradient pulls every view", 21, FAINT)
    card.text(LEFT, 422, "towards the middle one", 21, FAINT)


# --- real runs --------------------------------------------------------------------------------------------------------


def heard_ring(name: str, card: Card, sound: Sound) -> None:
    plan = plan_of(name)
    ring(card, plan, decibels(sound.spectrum), (f"{sound.spectrum.seconds:.0f} s", "ring"))


def heard(card: Card, plan: ViewPlan, pixels: np.ndarray, top: float, height: float, first=0.0, last=None) -> float:
    """Views and the spectrogram of canvas columns `first` to `last`; where it ends."""
    last = plan.length if last is None else last
    y = bars(card, plan, top, 11 if last - first < plan.length else 22, 3, first, last) + 2
    frames = [round(value / plan.length * pixels.shape[1]) for value in (first, last)]
    card.paste(pixels[:, frames[0] : frames[1]], LEFT, y, RIGHT, y + height, smooth=True)
    overlap_edges(card, plan, y, y + height, first, last)
    return y + height


def heard_clip(name: str, card: Card, sound: Sound) -> None:
    share = sound.clip.seconds / sound.spectrum.seconds
    card.text(LEFT, 110, f"clip, {sound.clip.seconds:.0f} s", 20, FAINT)
    end = LEFT + (RIGHT - LEFT) * share
    card.block(LEFT - 3, 137, end + 3, 219, REFERENCE, 3)
    card.paste(decibels(sound.clip), LEFT, 140, end, 216, smooth=True)
    card.arrow((end + 14, 178), (end + 60, 178), REFERENCE, 4, 12)
    card.text(end + 72, 165, "reference of", 20, FAINT, "lm")
    card.text(end + 72, 191, "every view", 20, FAINT, "lm")
    heard(card, plan_of(name), decibels(sound.spectrum), 236, 138)


def heard_focus(name: str, card: Card, sound: Sound) -> None:
    """The sound, and the places that one frequency attends to."""
    y = heard(card, plan_of(name), decibels(sound.spectrum), 116, 152)
    frames, bins = 48, 8
    seen = torch.zeros(frames * bins)
    seen[CrossFrequency(0.1, 0).picked(frames * bins)] = 1
    places = seen.unflatten(0, (frames, bins)).T.contiguous()
    places[3] = 1
    pixels = np.where(places.numpy()[..., None] > 0, rgb(INK), rgb("#343946"))
    grid(card, pixels, LEFT, y + 16, RIGHT - LEFT, 104)
    card.text(LEFT, y + 126, "what one frequency attends to", 20, FAINT)


def heard_timeline(name: str, card: Card, sound: Sound) -> None:
    """The prompts over the sound that they made."""
    (timeline,) = (node for node in workflow(name)["nodes"] if node["type"] == "SaFaPromptTimeline")
    scale = (RIGHT - LEFT) / sound.spectrum.seconds
    for k, line in enumerate(timeline["widgets_values"][0].splitlines()):
        span, words = line.split(": ")
        first, last = (LEFT + float(second) * scale for second in span.split("-"))
        y = 118 + 34 * k
        card.block(first + 1, y, last - 1, y + 28, COLOURS[k])
        left = min(first, RIGHT - card.width(words, 20) - 4)
        card.text(left + 4 if left < first else first + 8, y + 14, words, 20, BACK if left == first else INK, "lm")
    heard(card, plan_of(name), decibels(sound.spectrum), 228, 150)


def heard_seam(name: str, card: Card, sound: Sound) -> None:
    """A loop, and the same rolled by half: the seam in the middle."""
    pixels, middle = decibels(sound.spectrum), (LEFT + RIGHT) / 2
    y = heard(card, plan_of(name), pixels, 112, 104)
    for x in (LEFT, RIGHT):
        card.arrow((x, y + 6), (middle + (5 if x == RIGHT else -5), y + 38), FAINT, 2, 8)
    card.paste(np.roll(pixels, pixels.shape[1] // 2, 1), LEFT, y + 44, RIGHT, y + 148, smooth=True)
    for top in np.arange(y + 44, y + 148, 9):
        card.line([(middle, top), (middle, top + 5)], INK, 1.5)
    card.text(middle, y + 156, "the seam, in the middle", 21, FAINT, "ma")


# --- what there is ----------------------------------------------------------------------------------------------------

POCKET_SAID, SD = f"pocket model, {STEPS} steps", "Stable Diffusion 1.5 and 2"
CARDS = {  # name: (title, subtitle, what it is for, how it is drawn)
    "Panorama - Stable Diffusion 1.5": ("Panorama", "3200 x 512 out of 6 views of 640", SD, panorama),
    "Panorama - Stable Diffusion 3.5": ("SD 3.5 panorama", "3200 x 512 out of 6 views of 640", "SD 3.5", panorama),
    "Panorama - Flux": ("Flux panorama", "3072 x 1024 out of 4 views of 1024", "Flux.1 dev", panorama),
    "Panorama - Qwen-Image": ("Qwen-Image panorama", "3840 x 1328, views of 1328", "Qwen-Image 2512", panorama),
    "Panorama - Z-Image Turbo": ("Z-Image panorama", "3072 x 1024, in 8 steps", "Z-Image Turbo", panorama),
    "Panorama 360 seamless - Stable Diffusion 1.5": (
        "360° panorama",
        "the right edge meets the left",
        SD,
        panorama_ring,
    ),
    SPHERE: ("360° sphere", "2:1, two views of the whole ring", "Qwen-Image, 360 LoRA", panorama_ring),
    "Panorama that follows a drawing - ControlNet": ("ControlNet", "each view gets its own piece", "SD 1.5", hint),
    OWN_SAMPLER: ("Any sampler", "3200 x 512, SaFa as a model patch", "your own workflow", patch),
    "App - wide panorama from a prompt and a width": ("App: panorama", "prompt and width, no graph", SD, panorama),
    RIVALS: ("Three rivals", "21 views: mean, attention, gradients", SD, averaged),
    APP: ("App: sound", "prompt, seconds, loop; no graph", "pocket model, no download", sound_ring),
    "Long audio - Stable Audio Open": ("Two minutes", "120 s out of 3 views of 47 s", "Stable Audio Open", long_sound),
    "Long audio and loops - Stable Audio 3 small": (
        "Five-minute loop",
        "300 s out of views of 120 s",
        "Stable Audio 3 small",
        sound_ring,
    ),
    "Long music loop - ACE-Step 1.5": ("Four-minute loop", "240 s out of views of 120 s", "ACE-Step 1.5", sound_ring),
    "Loop out of pictures - Riffusion": ("Riffusion loop", "20 s out of a spectrogram", "Riffusion", sound_ring),
}
HEARD = {  # run in turn by one server, which tells nothing of a plan that it has just made: neighbours differ
    DEMO: ("A first loop", "24 s out of 5 s, nothing to download", POCKET_SAID, heard_ring),
    "Long audio and loops - AudioLDM 2": ("24-second loop", "3 views of 10 s, a loop", POCKET_SAID, heard_ring),
    "Long audio in one window - LiteFocus": ("LiteFocus", "20 s in one window", POCKET_SAID, heard_focus),
    CLIP: ("Follow a clip", "a loop of 24 s in a clip's character", POCKET_SAID, heard_clip),
    TIMELINE: ("Prompt timeline", "30 s, a prompt for every stretch", POCKET_SAID, heard_timeline),
    SEAM_CHECK: ("Seam check", "hear, see and measure the joins", POCKET_SAID, heard_seam),
}


def card_of(name: str, *sound: Sound, drawing: Callable | None = None) -> Card:
    """The card, drawn (by `drawing`, else as the table says); a real run's also takes its sound."""
    title, subtitle, model, draw = (CARDS | HEARD)[name]
    card = Card(title, subtitle, name in HEARD, model)
    (drawing or draw)(name, card, *sound)
    return card


def main(given: argparse.Namespace) -> None:
    """Draw the cards `names`, all where there is none, into the folder `out`."""
    unknown = sorted(set(given.names) - {*CARDS, *HEARD})
    if unknown:
        raise SystemExit(f"Expected names out of {', '.join([*CARDS, *HEARD])}; got {', '.join(unknown)}.")
    with ExitStack() as stack:
        server = None
        for name in given.names or [*CARDS, *HEARD]:
            sound = ()
            if name in HEARD:
                server = server or start_server(stack, HEARD)
                sound = (sampled(name, server),)
            picture = card_of(name, *sound).jpeg()
            (given.out / f"{name}.jpg").write_bytes(picture)
            print(given.out / f"{name}.jpg", len(picture), flush=True)
