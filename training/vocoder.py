"""The vocoder: transformers' SpeechT5HifiGan from log-mels to samples, trained on the clips' own mels."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from ..safa_core.sound.mel import GriffinLim
from .data import MEL, ClipSet
from .loop import DEVICE, Stage

FRAMES, BATCH = 48, 6  # of a training piece: 0.48 s
EDGE = 4  # frames at either end of a piece, whose context is cut off, that no loss sees
RESOLUTIONS = ((512, 128), (1024, 256), (2048, 512))  # n_fft and hop of the distances
JUDGED = RESOLUTIONS[:2]
MEL_LOSS, FEATURES, ADVERSARY = 1.0, 1.0, 0.2
ADVERSARY_FROM = 1200  # steps
FLOOR = 1e-4


def new_vocoder(mean: float, std: float) -> SpeechT5HifiGan:
    """An untrained one, a hundredth of AudioLDM's; mean, std: of the log-mels."""
    config = SpeechT5HifiGanConfig(
        model_in_dim=MEL.bins,
        sampling_rate=MEL.sample_rate,
        upsample_initial_channel=128,
        upsample_rates=[5, 4, 4, 3],
        upsample_kernel_sizes=[11, 8, 8, 7],
        resblock_kernel_sizes=[3, 7],
        resblock_dilation_sizes=[[1, 3, 5], [1, 3, 5]],
        normalize_before=True,
    )
    vocoder = SpeechT5HifiGan(config)
    vocoder.mean.fill_(mean)
    vocoder.scale.fill_(std)
    return vocoder


class Judge(torch.nn.Module):
    """Tells recorded from made sound by its spectrogram of one resolution (Jang et al., 2021); and its features."""

    def __init__(self, n_fft: int, hop: int):
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        shapes = ((1, 8, (2, 1)), (8, 16, (2, 1)), (16, 32, (2, 2)))
        self.layers = torch.nn.ModuleList(torch.nn.Conv2d(a, b, (7, 3), s, padding=(3, 1)) for a, b, s in shapes)
        self.last = torch.nn.Conv2d(32, 1, 3, padding=1)

    def forward(self, wave: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        features, x = [], spectrum(wave, self.n_fft, self.hop).clamp_min(FLOOR).log()[:, None] / 3
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.last(x), features


def spectrum(wave: torch.Tensor, n_fft: int, hop: int) -> torch.Tensor:
    """[B, samples] -> magnitudes [B, n_fft // 2 + 1, frames]."""
    window = torch.hann_window(n_fft, device=wave.device)
    made = torch.stft(wave, n_fft, hop, window=window, center=False, return_complex=True)
    return torch.view_as_real(made).square().sum(-1).clamp_min(1e-12).sqrt()


def spectral_distance(made: torch.Tensor, wave: torch.Tensor) -> torch.Tensor:
    """Spectral convergence and mean difference of logarithms, over three resolutions (Yamamoto et al., 2020)."""
    total = torch.zeros((), device=wave.device)
    for n_fft, hop in RESOLUTIONS:
        one, other = spectrum(made, n_fft, hop), spectrum(wave, n_fft, hop)
        convergence = (one - other).norm() / other.norm().clamp_min(1e-6)
        logs = (one.clamp_min(FLOOR).log() - other.clamp_min(FLOOR).log()).abs().mean()
        total = total + convergence + logs
    return total / len(RESOLUTIONS)


def pieces(clips: ClipSet, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Mels [B, FRAMES, bins] of random pieces of clips, and their samples [B, FRAMES * hop]."""
    which = torch.randint(len(clips.waves), (BATCH,), generator=generator).tolist()
    starts = torch.randint(clips.mels.shape[1] - FRAMES + 1, (BATCH,), generator=generator).tolist()
    chosen = list(zip(which, starts, strict=True))
    mels = np.stack([clips.mels[i, s : s + FRAMES] for i, s in chosen])
    waves = np.stack([clips.waves[i, s * MEL.hop : (s + FRAMES) * MEL.hop] for i, s in chosen])
    return torch.from_numpy(mels).float(), torch.from_numpy(waves).float() / 32768


def vocoder_stage(clips: ClipSet, steps: int, mean: float, std: float) -> Stage:
    """Spectral distances, then judges of two resolutions as well (least squares; Mao et al., 2017)."""
    vocoder = new_vocoder(mean, std).to(DEVICE)
    judges = torch.nn.ModuleList(Judge(*resolution) for resolution in JUDGED).to(DEVICE)
    optimiser = torch.optim.AdamW(vocoder.parameters(), betas=(0.8, 0.99), weight_decay=1e-3)
    judging = torch.optim.AdamW(judges.parameters(), betas=(0.8, 0.99), weight_decay=1e-3)
    cut = slice(EDGE * MEL.hop, (FRAMES - EDGE) * MEL.hop)

    def step(k, generator):
        mel, wave = (part.to(DEVICE) for part in pieces(clips, generator))
        made, wave = vocoder(mel)[:, cut], wave[:, cut]
        heard, wanted = (MEL.spectrogram(sound) for sound in (made, wave))
        losses = {"stft": spectral_distance(made, wave), "mel": (heard - wanted).abs().mean()}
        total = losses["stft"] + MEL_LOSS * losses["mel"]
        if k >= ADVERSARY_FROM:
            judges.requires_grad_(False)
            losses["features"] = losses["adversary"] = torch.zeros((), device=wave.device)
            for judge in judges:
                said, seen = judge(made)
                _, sought = judge(wave)
                differences = [(a - b).abs().mean() for a, b in zip(seen, sought, strict=True)]
                losses["features"] = losses["features"] + sum(differences) / len(seen) / len(judges)
                losses["adversary"] = losses["adversary"] + (1 - said).square().mean() / len(judges)
            total = total + FEATURES * losses["features"] + ADVERSARY * losses["adversary"]
            judges.requires_grad_(True)
        optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(vocoder.parameters(), 5.0)
        optimiser.step()
        if k >= ADVERSARY_FROM - 100:
            losses["judges"] = torch.zeros((), device=wave.device)
            for judge in judges:
                real, fake = judge(wave)[0], judge(made.detach())[0]
                losses["judges"] = losses["judges"] + ((1 - real).square().mean() + fake.square().mean()) / len(judges)
            judging.zero_grad()
            losses["judges"].backward()
            judging.step()
        return {name: value.detach() for name, value in losses.items()}

    state = {"vocoder": vocoder, "judges": judges, "optimiser": optimiser, "judging": judging}
    return Stage("vocoder", steps, 5e-4, state, step)


@torch.no_grad()
def distances(vocoder: SpeechT5HifiGan, waves: list[torch.Tensor]) -> tuple[float, float]:
    """(the vocoder's, Griffin-Lim's) mean spectral distance to sounds [samples] that their own mels are made of."""
    vocoder, griffin_lim = vocoder.eval().cpu(), GriffinLim(MEL)
    sums = [0.0, 0.0]
    for wave in waves:
        frames = len(wave) // MEL.hop
        wave = wave[None, : frames * MEL.hop]
        mel = MEL.spectrogram(wave)
        for number, made in enumerate((vocoder(mel), griffin_lim(mel, torch.arange(frames)))):
            sums[number] += float(spectral_distance(made, wave)) / len(waves)
    return sums[0], sums[1]
