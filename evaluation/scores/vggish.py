"""VGGish (Hershey et al., 2017): the embedding behind FAD, as AudioLDM's evaluation uses it.

128 numbers for every 0.96 s, without the principal components and without the last rectifier.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import nn

from .backbones import Backbone, ready, state
from .sound import at_rate

RATE, WINDOW, HOP, FFT, BINS = 16000, 400, 160, 512, 64
LOW, HIGH, OFFSET = 125.0, 7500.0, 0.01
FRAMES = 96  # of an example
CONVOLUTIONS = (0, 3, 6, 8, 11, 13)  # in `features`; a pooling follows those of POOLED
POOLED = (0, 3, 8, 13)
NAMES = {"features_network.": "features.", "embedding_network.": "embeddings."}  # torchaudio's -> torchvggish's


def mel_filters() -> torch.Tensor:
    """[FFT // 2 + 1, BINS]: triangles that are straight on the mel scale, not over Hz."""

    def mel(hz):
        return 1127 * torch.log1p(hz / 700)

    places = mel(torch.linspace(0, RATE / 2, FFT // 2 + 1, dtype=torch.float64))[:, None]
    low, high = mel(torch.tensor([LOW, HIGH], dtype=torch.float64)).tolist()
    edges = torch.linspace(low, high, BINS + 2, dtype=torch.float64)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    return torch.minimum((places - left) / (centre - left), (right - places) / (right - centre)).clamp_min(0)


def examples(sound: torch.Tensor) -> torch.Tensor:
    """Sound [N, samples] at 16 kHz -> log mel [N, examples, FRAMES, BINS]; a rest shorter than an example is left."""
    frames = sound.double().unfold(1, WINDOW, HOP)
    window = torch.hann_window(WINDOW, dtype=torch.float64, device=sound.device)
    magnitude = torch.fft.rfft(frames * window, FFT).abs()
    mel = torch.log(magnitude @ mel_filters().to(sound.device) + OFFSET)
    count = mel.shape[1] // FRAMES
    return mel[:, : count * FRAMES].unflatten(1, (count, FRAMES)).float()


class Network(nn.Module):
    """Log mel [N, 1, FRAMES, BINS] -> [N, 128]; torchvggish's names, widths as in the weights."""

    def __init__(self, weights: dict[str, torch.Tensor]):
        super().__init__()
        layers = []
        for i in CONVOLUTIONS:
            after, before = weights[f"features.{i}.weight"].shape[:2]
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
            if i in POOLED:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        linear = [nn.Linear(*reversed(weights[f"embeddings.{i}.weight"].shape)) for i in (0, 2, 4)]
        self.embeddings = nn.Sequential(linear[0], nn.ReLU(), linear[1], nn.ReLU(), linear[2])

    def forward(self, mel):
        return self.embeddings(self.features(mel).permute(0, 2, 3, 1).flatten(1))  # channels last, as in TensorFlow


class Vggish:
    def __init__(self, path: Path):
        weights = {}
        for key, value in state(path).items():
            theirs = next((name for name in NAMES if key.startswith(name)), None)
            weights[key.replace(theirs, NAMES[theirs], 1) if theirs else key] = value
        weights = {key: value for key, value in weights.items() if not key.startswith("pproc.")}
        self.network = ready(Network(weights), weights)

    def windows(self, batch: torch.Tensor, rate: int) -> dict[str, torch.Tensor]:
        """Sound [N, samples] -> embedding [N, examples, 128]."""
        cut = examples(at_rate(batch, rate, RATE, math.inf))
        return {"embedding": self.network(cut.flatten(0, 1)[:, None]).unflatten(0, cut.shape[:2])}


VGGISH = Backbone(
    "vggish",
    "evaluation/vggish",
    "vggish-10086976.pth of torchvggish (github.com/harritaylor/torchvggish, releases)",
    Vggish,
)
