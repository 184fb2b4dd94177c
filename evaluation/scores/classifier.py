"""A small network that knows the classes of the synthesised sounds from real clips alone, independent of the model."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from scipy.signal import resample_poly
from torch import nn

from ...training.sounds import CLASSES, SAMPLE_RATE, clip
from .sound import MEL


@dataclass(frozen=True)
class Recipe:
    """clips per class to learn from, seconds of each, frames of a crop, width of the penultimate features."""

    clips: int = 120
    seconds: float = 7.68
    frames: int = 512
    features: int = 64
    epochs: int = 20
    batch: int = 56
    rate: float = 2e-3
    seed: int = 0
    held_out: int = 30
    network: int = 1  # raised when the layers below change


class Classifier(nn.Module):
    """ln mel [B, frames, 64] -> penultimate features [B, D] and class log-probabilities [B, classes].

    Four convolutions keep a coarse frequency axis; time is pooled to its mean and maximum.
    """

    def __init__(self, features: int):
        super().__init__()
        layers = [nn.Conv2d(1, 16, 5, (4, 2), 2, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
        for before, after in pairwise((16, 32, 64, 96)):
            layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.features = nn.Linear(2 * 96 * MEL.bins // 16, features)
        self.classes = nn.Linear(features, len(CLASSES))
        self.register_buffer("centre", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))

    def forward(self, mel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps = self.layers(((mel - self.centre) / self.spread)[:, None])
        pooled = torch.cat([maps.mean(2), maps.amax(2)], 1).flatten(1)
        features = self.features(pooled).relu()
        dropped = nn.functional.dropout(features, 0.2, self.training)
        return features, self.classes(dropped).log_softmax(1)

    def windows(self, batch: torch.Tensor, rate: None = None) -> dict[str, torch.Tensor]:
        """Ln mel [N, frames, bins] -> embedding [N, D], classes [N, classes] (log-probabilities)."""
        features, classes = self(batch)
        return {"embedding": features, "classes": classes}

    @torch.inference_mode()
    def judge(self, mel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`forward` in small batches."""
        parts = [self(part) for part in mel.split(64)]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def real_mels(stream: str, count: int, seconds: float) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` clips per class of a stream, no mixtures: ln mel [N, frames, 64] and class numbers [N]."""
    mels = []
    numbers = []
    for number in range(count * len(CLASSES)):
        sound = clip(stream, number, seconds, 0.0)
        wave = torch.from_numpy(resample_poly(sound.wave, MEL.sample_rate, SAMPLE_RATE)).float()
        mels.append(MEL.spectrogram(wave[None, : len(wave) // MEL.hop * MEL.hop])[0])
        numbers.append(CLASSES.index(sound.classes[0]))
    return torch.stack(mels), torch.tensor(numbers)


def fingerprint() -> str:
    """Changes when the sounds do."""
    digest = hashlib.sha256()
    for number in range(2 * len(CLASSES)):
        digest.update(clip("classifier", number, 0.5, 0.0).wave.tobytes())
    return digest.hexdigest()[:16]


def train(recipe: Recipe, say: Callable[[str], None] = print) -> Classifier:
    """A classifier from the stream "classifier"; deterministic for a number of threads."""
    torch.manual_seed(recipe.seed)
    start = time.perf_counter()
    mels, numbers = real_mels("classifier", recipe.clips, recipe.seconds)
    say(f"classifier: {len(mels)} clips synthesised in {time.perf_counter() - start:.0f} s")
    model = Classifier(recipe.features)
    model.centre.copy_(mels.mean())
    model.spread.copy_(mels.std())
    rounds = -(-len(mels) // recipe.batch)
    optimizer = torch.optim.AdamW(model.parameters(), recipe.rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, recipe.epochs * rounds)
    slack = mels.shape[1] - recipe.frames + 1
    for _ in range(recipe.epochs):
        for rows in torch.randperm(len(mels)).split(recipe.batch):
            first = torch.randint(slack, (len(rows),))
            crops = torch.stack([mels[i, f : f + recipe.frames] for i, f in zip(rows, first, strict=True)])
            loss = nn.functional.nll_loss(model(crops)[1], numbers[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    say(f"classifier: trained in {time.perf_counter() - start:.0f} s, last loss {loss.item():.3f}")
    return model.eval()


def held_out(recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
    """Mels and class numbers of real clips that neither classifier nor model has seen."""
    return real_mels("held-out", recipe.held_out, recipe.frames * MEL.hop / MEL.sample_rate)


def key(recipe: Recipe) -> str:
    """Changes with the recipe and with the sounds."""
    content = json.dumps({**asdict(recipe), "sounds": fingerprint()}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def load(folder: Path, recipe: Recipe, say: Callable[[str], None] = print) -> tuple[Classifier, dict]:
    """The classifier of a recipe from `folder`, trained when it is not there yet.

    Returns it and {"key", "held_out": accuracy on held-out clips, "clips": how many}.
    """
    name = f"classifier-{key(recipe)}"
    weights = folder / f"{name}.safetensors"
    facts = folder / f"{name}.json"
    if weights.is_file() and facts.is_file():
        model = Classifier(recipe.features)
        model.load_state_dict(load_file(weights))
        return model.eval(), json.loads(facts.read_text(encoding="utf-8"))
    model = train(recipe, say)
    mels, numbers = held_out(recipe)
    right = model.judge(mels)[1].argmax(1) == numbers
    known = {"key": key(recipe), "held_out": right.double().mean().item(), "clips": len(mels)}
    say(f"classifier: recognises {100 * known['held_out']:.1f} % of {len(mels)} held-out clips")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), weights)
    facts.write_text(json.dumps(known), encoding="utf-8")
    return model, known
