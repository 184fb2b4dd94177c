"""The columns of Tables 2-6: which backbone, which rows, which form.

Scores within canvases compare all windows of a canvas; for the paper's reference line make Samples whose
canvases are random pairs of the reference's clips. Fréchet distances fall with the number of rows: compare equal ones.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch

from .backbones import Backbone, device, embedded
from .forms import grams, mean_of_pairs, paired_similarity, softmax_divergence, style_distance
from .interface import Measures, Samples, Score, grouped
from .language import AST, CLAP, CLIP
from .metrics import frechet_distance, intra_similarity, kernel_distance
from .panns import PANNS
from .pictures import ALEXNET, INCEPTION, LPIPS, VGG16, VGG19
from .sound import mel_pictures
from .vggish import VGGISH

THOUSAND = 1000  # the paper's KID and IStyleL are scaled by it


def rows_of(backbone: Backbone, what: str):
    """describe(): embedding or logits of every window, or of each of its pieces."""

    def describe(samples: Samples, models: Path) -> Measures:
        rows = embedded(backbone, samples, models)[what]
        measures = Measures(rows, samples.prompts, samples.positions)
        if rows.ndim == 2:
            return measures
        numbers = torch.arange(len(rows)).repeat_interleave(rows.shape[1]).tolist()
        return replace(measures.at(numbers), rows=rows.flatten(0, 1))

    return describe


def alignment(backbone: Backbone):
    """describe(): cosine of each window's embedding with its prompt's."""

    def describe(samples: Samples, models: Path) -> Measures:
        windows = embedded(backbone, samples, models)["embedding"]
        different = sorted(set(samples.prompts))
        texts = backbone.open(models).texts(different)
        theirs = texts[[different.index(prompt) for prompt in samples.prompts]]
        return Measures(paired_similarity(windows, theirs)[:, None], samples.prompts, samples.positions)

    return describe


def per_canvas(value):
    """describe(): one row per canvas, value(samples, its windows' numbers, models folder)."""

    def describe(samples: Samples, models: Path) -> Measures:
        alone = [canvas for canvas, numbers in samples.canvases.items() if len(numbers) < 2]
        if alone:
            raise ValueError(f"expected at least two windows of each canvas, got one of canvas {alone[0]}.")
        groups = samples.canvases.values()
        rows = torch.tensor([value(samples, numbers, models) for numbers in groups], dtype=torch.float64)
        return Measures(rows[:, None], tuple(samples.prompts[n[0]] for n in groups), (0,) * len(rows))

    return describe


def clap_likeness(samples: Samples, numbers: list[int], models: Path) -> float:
    """Mean cosine of the CLAP embeddings of a canvas's windows."""
    return intra_similarity(embedded(CLAP, samples, models)["embedding"][numbers])


def lpips_apart(backbone: Backbone):
    @torch.inference_mode()
    def value(samples: Samples, numbers: list[int], models: Path) -> float:
        """Mean LPIPS of the pairs of a canvas's windows; of sound, of their mel spectrograms."""
        windows = samples.windows[numbers].to(device())
        pictures = windows if samples.sample_rate is None else mel_pictures(windows, samples.sample_rate)
        return mean_of_pairs(backbone.open(models).distance, list(pictures.float()))

    return value


def style_apart(backbone: Backbone):
    @torch.inference_mode()
    def value(samples: Samples, numbers: list[int], models: Path) -> float:
        """Mean style loss of the pairs of a canvas's windows."""
        network = backbone.open(models)
        windows = samples.windows[numbers].float().to(device())
        return mean_of_pairs(style_distance, [grams(network.maps(window)) for window in windows])

    return value


def frechet(generated: Measures, real: Measures) -> float:
    return frechet_distance(generated.rows, real.rows)


def kernel(generated: Measures, real: Measures) -> float:
    return THOUSAND * kernel_distance(generated.rows, real.rows)


def divergence(generated: Measures, real: Measures) -> float:
    """Pairs: the k-th window of a prompt with the k-th real one of that prompt, over again where there are fewer."""
    places = grouped(real.prompts)
    partners = []
    seen: Counter[str] = Counter()
    for prompt in generated.prompts:
        if prompt not in places:
            raise ValueError(f"expected real windows of every prompt, got none of {prompt!r}.")
        partners.append(places[prompt][seen[prompt] % len(places[prompt])])
        seen[prompt] += 1
    return softmax_divergence(generated.rows, real.rows[partners])


def mean(scale: float = 1.0):
    """reduce(): mean of the rows."""
    return lambda generated, real=None: scale * float(generated.rows.double().mean())


def _against(name, title, kind, backbone, what, reduce):
    return Score(name, title, kind, "lower", True, backbone.missing, rows_of(backbone, what), reduce)


def _aligned(name, title, kind, backbone, scale=1.0):
    return Score(name, title, kind, "higher", False, backbone.missing, alignment(backbone), mean(scale))


def _within(name, title, kind, better, backbone, value, scale=1.0):
    measure = (backbone.missing, per_canvas(value), mean(scale))
    return Score(name, title, kind, better, False, *measure, windows="regions", within=True)


COLUMNS = (
    _against("fd", "FD↓", "audio", PANNS, "embedding", frechet),
    _against("fad", "FAD↓", "audio", VGGISH, "embedding", frechet),
    _against("kl", "KL↓", "audio", PANNS, "logits", divergence),
    _aligned("clap", "CLAP↑", "audio", CLAP),
    _within("intra_lpips", "ILPIPS↓", "any", "lower", LPIPS, lpips_apart(LPIPS)),
    _within("intra_clap", "ICLAP↑", "audio", "higher", CLAP, clap_likeness),
    _against("fid", "FID↓", "image", INCEPTION, "embedding", frechet),
    _against("kid", "KID↓", "image", INCEPTION, "embedding", kernel),
    _aligned("clip", "CLIP↑", "image", CLIP, 100),
    _within("intra_style", "IStyleL↓", "image", "lower", VGG19, style_apart(VGG19), THOUSAND),
)
OTHER_EMBEDDINGS = (  # the same columns by a backbone that the paper did not use
    _against("fd@ast", "FD (AST)↓", "audio", AST, "embedding", frechet),
    _against("fd@clap", "FD (CLAP)↓", "audio", CLAP, "embedding", frechet),
    _against("kl@ast", "KL (AST)↓", "audio", AST, "logits", divergence),
    _against("fid@clip", "FID (CLIP)↓", "image", CLIP, "embedding", frechet),
    _against("kid@clip", "KID (CLIP)↓", "image", CLIP, "embedding", kernel),
    _within("intra_lpips@alexnet", "ILPIPS (AlexNet)↓", "any", "lower", ALEXNET, lpips_apart(ALEXNET)),
    _within("intra_style@vgg16", "IStyleL (VGG16)↓", "image", "lower", VGG16, style_apart(VGG16), THOUSAND),
)
