"""A vocoder in transformers' SpeechT5HifiGan, narrow enough for a CPU: log-mel spectrograms to sound."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from .data import MEL, MIXTURES
from .loop import Stage
from .sounds import SAMPLE_RATE, clip

SECONDS = 3.0  # of a kept clip
# Few, long steps up: most weights work at 500 Hz, where they cost little
UPSAMPLING = {"upsample_rates": [5, 4, 8], "upsample_kernel_sizes": [15, 12, 24], "upsample_initial_channel": 128}
BLOCKS = {"resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3, 9]]}
FRAMES, BATCH = 50, 4  # of a training crop, 0.5 s; crops per step
EDGE = 4  # frames at either end of a crop that lack context
HEARD = 0.3  # share of crops whose spectrogram went through the autoencoder
WINDOWS = (128, 512, 2048)  # samples, of the spectra that are compared
JUDGED = (256, 1024)  # and of those that the critic sees
# Of the loss, beside the log magnitudes
MEL_L1, CONVERGENCE, FEATURES, ADVERSARY = 1.0, 0.3, 1.0, 0.1
ADVERSARY_FROM = 0.6  # of the steps


@dataclass(frozen=True)
class WaveSet:
    """waves: float16 [N, S]; mels: float16 [N, S // 160, 64]; heard: the same, as the autoencoder gives them back."""

    waves: np.ndarray
    mels: np.ndarray
    heard: np.ndarray


def wave_set(folder: Path, count: int, vae: AutoencoderKL) -> WaveSet:
    """The first `count` clips of the stream "training" as sound, made where they are not in `folder` yet."""
    folder.mkdir(parents=True, exist_ok=True)
    file, part = folder / f"waves_{count}.npy", folder / f"waves_{count}.part"
    if not file.is_file():
        waves = np.stack([clip("training", n, SECONDS, MIXTURES).wave.astype(np.float16) for n in range(count)])
        with part.open("wb") as out:
            np.save(out, waves)
        os.replace(part, file)
    return with_mels(np.load(file, mmap_mode="r"), vae)


@torch.inference_mode()
def with_mels(waves: np.ndarray, vae: AutoencoderKL) -> WaveSet:
    """Sounds float16 [N, S] with their spectrograms, true ones and those that the autoencoder makes of them."""
    mels, heard = [], []
    for start in range(0, len(waves), 8):
        mel = MEL.spectrogram(torch.from_numpy(np.array(waves[start : start + 8])).float())
        mels.append(mel.half().numpy())
        heard.append(through(vae, mel).half().numpy())
    return WaveSet(waves, np.concatenate(mels), np.concatenate(heard))


@torch.inference_mode()
def through(vae: AutoencoderKL, mel: torch.Tensor) -> torch.Tensor:
    """Mel [B, T, 64] to latents and back; T need not be a multiple of the autoencoder's step."""
    missing = -mel.shape[1] % 4
    padded = F.pad(mel.transpose(1, 2), (0, missing), mode="replicate").transpose(1, 2)
    return vae.decode(vae.encode(padded[:, None]).latent_dist.mean).sample[:, 0, : mel.shape[1]].float()


def new_vocoder(mean: float, std: float) -> SpeechT5HifiGan:
    """An untrained vocoder of mels [B, T, 64] of this mean and spread, to sound [B, 160 * T]."""
    config = SpeechT5HifiGanConfig(
        model_in_dim=MEL.bins, sampling_rate=SAMPLE_RATE, normalize_before=False, **UPSAMPLING, **BLOCKS
    )
    vocoder = SpeechT5HifiGan(config)
    with torch.no_grad():
        for name, layer in vocoder.named_modules():  # the class's own first weights, of spread 0.01, make silence
            if isinstance(layer, (torch.nn.Conv1d, torch.nn.ConvTranspose1d)):
                torch.nn.init.zeros_(layer.bias)
                inputs = layer.in_channels * layer.kernel_size[0] / layer.stride[0]
                quiet = {"conv_post": 0.03}.get(name, 0.3 if "convs2" in name else 1.0)
                torch.nn.init.normal_(layer.weight, std=quiet * (2 / inputs) ** 0.5)
        first = vocoder.conv_pre
        first.weight /= std
        first.bias -= first.weight.sum((1, 2)) * mean
    return vocoder


class SpectrumCritic(torch.nn.Module):
    """Tells sounds from vocoded ones by log magnitudes at several resolutions (Jang et al., 2021); and its features."""

    def __init__(self):
        super().__init__()
        self.stacks = torch.nn.ModuleList()
        for _ in JUDGED:
            sizes = ((1, 12, (3, 7), (1, 2)), (12, 24, (3, 7), (1, 2)), (24, 24, (3, 5), (1, 2)))
            layers = [torch.nn.Conv2d(a, b, k, s, padding=(k[0] // 2, k[1] // 2)) for a, b, k, s in sizes]
            self.stacks.append(torch.nn.ModuleList([*layers, torch.nn.Conv2d(24, 1, 3, padding=1)]))

    def forward(self, sound: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Sound [B, S] -> (verdicts, features), each per resolution."""
        verdicts, features = [], []
        for stack, window in zip(self.stacks, JUDGED, strict=True):
            x = (magnitudes(sound, window).log()[:, None].transpose(2, 3) + 4) / 3
            for layer in stack[:-1]:
                x = F.leaky_relu(layer(x), 0.2)
                features.append(x)
            verdicts.append(stack[-1](x))
        return verdicts, features


def magnitudes(sound: torch.Tensor, window: int) -> torch.Tensor:
    """Sound [B, S] -> STFT magnitudes [B, window // 2 + 1, frames], hop a quarter window, relative to its rms gain."""
    hann = torch.hann_window(window).to(sound)
    spectrum = torch.stft(sound, window, window // 4, window, hann, center=False, return_complex=True)
    return (torch.view_as_real(spectrum).square().sum(-1) + 1e-9).sqrt() / hann.square().sum().sqrt() + 1e-4


def distances(made: torch.Tensor, wave: torch.Tensor) -> dict[str, torch.Tensor]:
    """Log magnitudes and spectral convergence at several windows (Yamamoto et al., 2020), and mel L1; [B, S] each."""
    logs, convergence = 0.0, 0.0
    for window in WINDOWS:
        a, b = magnitudes(made, window), magnitudes(wave, window)
        logs = logs + (a.log() - b.log()).abs().mean() / len(WINDOWS)
        convergence = convergence + ((a - b).norm(dim=(1, 2)) / b.norm(dim=(1, 2))).mean() / len(WINDOWS)
    mel = (MEL.spectrogram(made) - MEL.spectrogram(wave)).abs().mean()
    return {"log": logs, "convergence": convergence, "mel": mel}


def crops(data: WaveSet, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Random pieces of random clips: (mels [B, FRAMES, 64], sound [B, 160 * FRAMES])."""
    pieces = []
    for _ in range(BATCH):
        which = int(torch.randint(len(data.waves), (), generator=generator))
        start = int(torch.randint(data.mels.shape[1] - FRAMES + 1, (), generator=generator))
        mels = data.heard if torch.rand((), generator=generator) < HEARD else data.mels
        wave = data.waves[which, start * MEL.hop : (start + FRAMES) * MEL.hop]
        pieces.append((mels[which, start : start + FRAMES], wave))
    return tuple(torch.from_numpy(np.stack(part)).float() for part in zip(*pieces, strict=True))


def vocoder_stage(data: WaveSet, steps: int) -> Stage:
    """Spectral losses throughout, and in the last part a critic, without which noise becomes smooth."""
    mean, std = float(data.mels.mean(dtype=np.float64)), float(data.mels.std(dtype=np.float64))
    vocoder, critic = new_vocoder(mean, std).train(), SpectrumCritic()
    optimiser = torch.optim.Adam(vocoder.parameters(), betas=(0.8, 0.99))
    judge = torch.optim.Adam(critic.parameters(), betas=(0.8, 0.99))
    edge = EDGE * MEL.hop

    def step(k, generator):
        mel, wave = crops(data, generator)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            made = vocoder(mel)
        made, wave = made.float()[:, edge:-edge], wave[:, edge:-edge]
        losses = distances(made, wave)
        total = losses["log"] + CONVERGENCE * losses["convergence"] + MEL_L1 * losses["mel"]
        judged = k >= ADVERSARY_FROM * steps
        if judged:
            critic.requires_grad_(False)
            said, seen = critic(made)
            _, wanted = critic(wave)
            pairs = zip(seen, wanted, strict=True)
            losses["features"] = sum((a - b).abs().mean() for a, b in pairs) / len(seen)
            losses["adversary"] = -sum(verdict.mean() for verdict in said) / len(said)
            total = total + FEATURES * losses["features"] + ADVERSARY * losses["adversary"]
            critic.requires_grad_(True)
        optimiser.zero_grad()
        total.backward()
        losses["gradient"] = torch.nn.utils.clip_grad_norm_(vocoder.parameters(), 10.0)
        optimiser.step()
        if judged:
            real, fake = critic(wave)[0], critic(made.detach())[0]
            pairs = zip(real, fake, strict=True)
            losses["critic"] = sum(F.relu(1 - a).mean() + F.relu(1 + b).mean() for a, b in pairs) / len(real)
            judge.zero_grad()
            losses["critic"].backward()
            judge.step()
        return {name: value.detach() for name, value in losses.items()}

    state = {"vocoder": vocoder, "critic": critic, "optimiser": optimiser, "judge": judge}
    return Stage("vocoder", steps, 5e-4, state, step)
