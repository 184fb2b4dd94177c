"""YAMNet (Google, 2020): a network that learnt AudioSet's 521 classes from the world, and hears them in 0.975 s.

The weights are the 8-bit ones of its TensorFlow Lite file, and the network rounds where that file's rounds.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn
from torch.nn.functional import conv2d, linear, pad

from .backbones import Backbone, embedded, ready
from .cost import mean
from .extrapolate import frechet_error
from .interface import Measures, Samples, Score
from .kinds import KINDS, kinds_of
from .metrics import frechet_distance, intra_similarity
from .pocket import mean_error
from .sound import at_rate
from .tables import divergence, per_canvas, rows_of

RATE, WINDOW, HOP, FFT, FRAMES = 16000, 400, 160, 512, 96
PATCH = WINDOW + (FRAMES - 1) * HOP  # samples
STRIDE = 48 * HOP  # from one patch to the next, half of its frames as the authors have it
HALVING = (0, 3, 7, 11, 23)  # convolutions with stride 2 (MobileNet)
CLASSES = "classes"  # in the file's metadata: one name a line
LEAST = 1e-6  # of a score, before its logit is taken
LOUDEST, HEARD = 5, 0.02  # a kind is heard where one of its classes is among so many, with at least this score


class Step(nn.Module):
    """Values as the nearest ones that 8 bits hold: scale * (integer - zero)."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("zero", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ((x / self.scale).round() + self.zero).clamp(-128, 127).sub(self.zero) * self.scale


class Convolution(nn.Module):
    """TensorFlow's "same" convolution, rounded; its rectifier is the smallest value that 8 bits hold here.

    shape: of its weight. One with a single channel of input per output works on each channel apart.
    """

    def __init__(self, shape: torch.Size, stride: int, groups: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(shape[0]))
        self.step = Step()
        self.stride, self.groups = stride, groups
        around = shape[-1] // 2
        self.padding = (0, around, 0, around) if stride == 2 else (around,) * 4  # for even sizes: behind them only

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.step(conv2d(pad(x, self.padding), self.weight, self.bias, self.stride, groups=self.groups))


class Network(nn.Module):
    """Patches [N, PATCH] at 16 kHz -> embedding [N, 1024] and logits [N, 521].

    weights: as `networks.yamnet.convert` names them.
    """

    def __init__(self, weights: dict[str, torch.Tensor]):
        super().__init__()
        self.register_buffer("window", torch.empty(WINDOW))
        self.register_buffer("filters", torch.empty_like(weights["filters"]))
        self.register_buffer("offset", torch.empty_like(weights["offset"]))
        self.entry = Step()
        layers = []
        channels = 1
        while f"layers.{len(layers)}.weight" in weights:
            shape = weights[f"layers.{len(layers)}.weight"].shape
            stride = 2 if len(layers) in HALVING else 1
            layers.append(Convolution(shape, stride, channels // shape[1]))
            channels = shape[0]
        self.layers = nn.Sequential(*layers)
        self.pooled = Step()
        self.classes = nn.Linear(*reversed(weights["classes.weight"].shape))

    def mel(self, patches: torch.Tensor) -> torch.Tensor:
        """Log mel [N, FRAMES, bins]."""
        frames = patches.unfold(1, WINDOW, HOP)
        magnitude = torch.fft.rfft(frames * self.window, FFT).abs()
        return linear(magnitude, self.filters, self.offset).log()

    def forward(self, patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps = self.layers(self.entry(self.mel(patches)[:, None]))
        embedding = self.pooled(maps.mean((2, 3)))
        return embedding, self.classes(embedding)


class Yamnet:
    """names: of the classes, in the order of the logits."""

    def __init__(self, path: Path):
        with safe_open(path, "pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
            self.names = tuple((file.metadata() or {})[CLASSES].split("\n"))
        self.network = ready(Network(weights), weights)

        places = {name: i for i, name in enumerate(self.names)}
        self.kinds = torch.zeros(len(KINDS), len(self.names), dtype=torch.bool)
        for kind, classes in zip(self.kinds, KINDS.values(), strict=True):
            kind[[places[name] for name in classes]] = True

    def windows(self, batch: torch.Tensor, rate: int) -> dict[str, torch.Tensor]:
        """Sound [N, samples] -> embedding [N, patches, 1024], logits [N, 521] and heard [N, kinds] of 0 and 1.

        Logits and what is heard are those of the patches' mean scores, which the authors take for a clip.
        """
        sound = at_rate(batch, rate, RATE, float("inf"))
        patches = sound.unfold(1, PATCH, STRIDE)
        embedding, logits = self.network(patches.flatten(0, 1))
        scores = logits.sigmoid().unflatten(0, patches.shape[:2]).mean(1)
        return {
            "embedding": embedding.unflatten(0, patches.shape[:2]),
            "logits": scores.logit(LEAST),
            "heard": self.heard(scores),
        }

    def heard(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores [N, 521] -> [N, kinds]: 1 where a kind is heard."""
        least = scores.topk(LOUDEST).values[:, -1:].clamp_min(HEARD)
        return ((scores >= least)[:, None] & self.kinds.to(scores.device)).any(2).float()


def recognised(generated: Measures, real: Measures | None = None) -> float:
    """Share of the kinds named by each window's prompt that are heard in it; ValueError for a prompt of no kind."""
    numbers = {kind: number for number, kind in enumerate(KINDS)}
    shares = []
    for prompt, row in zip(generated.prompts, generated.rows, strict=True):
        named = [numbers[kind] for kind in kinds_of(prompt)]
        if not named:
            raise ValueError(f"expected prompts that name {', '.join(KINDS)}, got {prompt!r}.")
        shares.append(float(row[named].mean()))
    return sum(shares) / len(shares)


YAMNET = Backbone("yamnet", "evaluation/yamnet", "yamnet.safetensors", Yamnet, fetched=True)


def patches_of(samples: Samples, models: Path) -> Measures:
    """describe(): the embeddings of every window's patches, [N, patches, 1024]."""
    return Measures(embedded(YAMNET, samples, models)["embedding"], samples.prompts, samples.positions)


def distance(generated: Measures, real: Measures) -> float:
    """Fréchet distance of all patches."""
    return frechet_distance(generated.rows.flatten(0, 1), real.rows.flatten(0, 1))


def distance_error(generated: Measures, real: Measures) -> float | None:
    """Standard error of the distance by canvases left out in turn; None for sets of unequal canvases."""
    groups = []
    for measures in (generated, real):
        sizes = {len(canvas) for canvas in measures.canvases}
        if len(sizes) > 1 or len(measures.canvases) < 2:
            return None
        groups.append(measures.rows.flatten(0, 1).unflatten(0, (len(measures.canvases), -1)))
    return frechet_error(*groups) if len(groups[0]) == len(groups[1]) else None


def similarity(samples: Samples, numbers: list[int], models: Path) -> float:
    """Mean cosine of the windows of a canvas, each the mean of its patches."""
    return intra_similarity(embedded(YAMNET, samples, models)["embedding"][numbers].mean(1))


def share_error(generated: Measures, real: Measures | None = None) -> float | None:
    """Standard error of `recognised`, as if windows were independent."""
    share = recognised(generated)
    return (share * (1 - share) / len(generated.rows)) ** 0.5


def _score(name, title, better, describe, reduce, **more):
    needs_real = more.pop("needs_real", False)
    return Score(name, title, "audio", better, needs_real, YAMNET.missing, describe, reduce, windows="seams", **more)


SCORES = (
    _score("fd@yamnet", "FD (YAMNet)↓", "lower", patches_of, distance, needs_real=True, error=distance_error),
    _score("kl@yamnet", "KL (YAMNet)↓", "lower", rows_of(YAMNET, "logits"), divergence, needs_real=True),
    _score(
        "recognised@yamnet", "recognised (YAMNet)↑", "higher", rows_of(YAMNET, "heard"), recognised, form=".1%",
        error=share_error,
    ),
    Score(
        "similarity@yamnet", "similarity (YAMNet)↑", "audio", "higher", False, YAMNET.missing, per_canvas(similarity),
        mean, windows="apart", within=True, error=mean_error, form=".4f",
    ),
)  # fmt: skip
