"""CNN14 of PANNs (Kong et al., 2020): the classifier behind FD and KL."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, relu

from .backbones import Backbone, device, ready, state
from .sound import at_rate

FRONTS = {512: (16000, 160), 1024: (32000, 320)}  # FFT length -> sample rate, hop
FLOOR = 1e-10  # of the mel power, before 10 log10


class Block(nn.Module):
    """Two 3x3 convolutions and an average over squares of `pool`."""

    def __init__(self, before: int, after: int, pool: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.pool = pool

    def forward(self, x):
        return avg_pool2d(relu(self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))), self.pool)


class Cnn14(nn.Module):
    """Log mel [N, 1, frames, bins] -> embedding [N, D] and logits [N, classes]; the checkpoint's names.

    widths: channels of the six blocks.
    """

    def __init__(self, bins: int, widths: list[int], wide: int, classes: int):
        super().__init__()
        self.bn0 = nn.BatchNorm2d(bins)
        for i, (before, after) in enumerate(zip([1, *widths], widths, strict=False), 1):
            setattr(self, f"conv_block{i}", Block(before, after, 1 if i == len(widths) else 2))
        self.depth = len(widths)
        self.fc1 = nn.Linear(widths[-1], wide)
        self.fc_audioset = nn.Linear(wide, classes)

    def forward(self, mel):
        x = self.bn0(mel.transpose(1, 3)).transpose(1, 3)
        for i in range(1, self.depth + 1):
            x = getattr(self, f"conv_block{i}")(x)
        x = x.mean(3)
        embedding = relu(self.fc1(x.amax(2) + x.mean(2)))
        return embedding, self.fc_audioset(embedding)


class Panns:
    """The network with its front end, whose mel filters come with the weights."""

    def __init__(self, path: Path):
        weights = state(path)
        front = ("spectrogram_extractor.", "logmel_extractor.")
        own = {key: value for key, value in weights.items() if not key.startswith(front)}
        widths = [own[f"conv_block{i}.conv2.weight"].shape[0] for i in range(1, 7)]
        wide, classes = own["fc1.bias"].shape[0], own["fc_audioset.bias"].shape[0]
        self.network = ready(Cnn14(own["bn0.weight"].shape[0], widths, wide, classes), own)
        self.filters = weights["logmel_extractor.melW"].float().to(device())  # [fft // 2 + 1, bins]
        self.fft = 2 * (len(self.filters) - 1)
        if self.fft not in FRONTS:
            raise ValueError(f"expected mel filters for an FFT of 512 or 1024, got {self.fft}")
        self.rate, self.hop = FRONTS[self.fft]

    def windows(self, batch: torch.Tensor, rate: int) -> dict[str, torch.Tensor]:
        """Sound [N, samples] -> embedding [N, 2048], logits [N, 527]."""
        sound = at_rate(batch, rate, self.rate, float("inf"))
        window = torch.hann_window(self.fft, device=batch.device)
        power = torch.stft(sound, self.fft, self.hop, window=window, pad_mode="reflect", return_complex=True)
        mel = power.abs().square().transpose(1, 2) @ self.filters
        embedding, logits = self.network(10 * mel.clamp_min(FLOOR).log10()[:, None])
        return {"embedding": embedding, "logits": logits}


PANNS = Backbone(
    "panns",
    "evaluation/panns",
    "Cnn14_16k_mAP=0.438.pth of PANNs (zenodo.org/records/3987831)",
    Panns,
)
