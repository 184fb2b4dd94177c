"""The autoencoder: diffusers' AutoencoderKL on log-mel spectrograms, trained to keep the grain of noise-like sounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from .data import MEL, ClipSet
from .loop import DEVICE, Stage, half_precision, weights

CHANNELS, DOWN = 8, 4  # of a latent column: AudioLDM's
LENGTHS = (64, 128, 256, 512)  # frames of a training crop: 0.64 s to 5.12 s
BATCH_FRAMES = 1024
# Of the loss, in units of the spectrogram's standard deviation
KL, TEXTURE, FEATURES, ADVERSARY = 2e-3, 0.5, 0.5, 0.03
ADVERSARY_FROM = 0.3  # of the steps


def new_vae(mean: float, std: float) -> AutoencoderKL:
    """An untrained autoencoder whose first and last layers stand for the spectrograms' mean and spread.

    Its first level is narrow, as it works on every bin of the spectrogram; no attention, so that it does not depend on
    a clip's length.
    """
    vae = AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 96),
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=8,
        sample_size=MEL.bins,
        mid_block_add_attention=False,
    )
    with torch.no_grad():
        first, last = vae.encoder.conv_in, vae.decoder.conv_out
        first.weight /= std
        first.bias -= first.weight.sum((1, 2, 3)) * mean
        last.weight *= std
        last.bias.fill_(mean)
    return vae


class Critic(torch.nn.Module):
    """Tells spectrograms from reconstructions patch by patch (Isola et al., 2017); returns its features too."""

    def __init__(self, mean: float, std: float):
        super().__init__()
        self.mean, self.std = mean, std
        sizes = ((1, 32, 4, 2), (32, 64, 4, 2), (64, 96, 3, 1))
        self.layers = torch.nn.ModuleList(torch.nn.Conv2d(a, b, k, s, padding=1) for a, b, k, s in sizes)
        self.last = torch.nn.Conv2d(96, 1, 3, padding=1)

    def forward(self, mel: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        features, x = [], (mel - self.mean) / self.std
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.last(x), features


def grain(mel: torch.Tensor) -> torch.Tensor:
    """Local strength of the detail in [B, 1, T, F]: rms over 8 x 8 bins of what a 3 x 3 mean leaves out."""
    detail = mel - F.avg_pool2d(mel, 3, 1, 1, count_include_pad=False)
    return (F.avg_pool2d(detail.square(), 8, 4) + 1e-4).sqrt()


def crops(clips: ClipSet, generator: torch.Generator) -> torch.Tensor:
    """Random pieces of random clips, all of one random length: [B, 1, T, 64]."""
    length = LENGTHS[int(torch.randint(len(LENGTHS), (), generator=generator))]
    count = BATCH_FRAMES // length
    which = torch.randint(len(clips.captions), (count,), generator=generator).tolist()
    starts = torch.randint(clips.mels.shape[1] - length + 1, (count,), generator=generator).tolist()
    pieces = np.stack([clips.mels[i, s : s + length] for i, s in zip(which, starts, strict=True)])
    return torch.from_numpy(pieces).float()[:, None]


def vae_stage(clips: ClipSet, steps: int, mean: float, std: float, begin: Path | None = None) -> Stage:
    """Reconstruction, texture, KL and adversarial losses (Rombach et al., 2022, section 3.1).

    begin: the folder of a model whose autoencoder is trained on, instead of one that has learnt nothing.
    """
    vae = new_vae(mean, std)
    if begin is not None:
        vae.load_state_dict(weights(begin, "vae", "diffusion_pytorch_model"))
    vae, critic = vae.to(DEVICE), Critic(mean, std).to(DEVICE)
    judged_from = round(ADVERSARY_FROM * steps)
    vae.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(vae.parameters(), betas=(0.5, 0.95), weight_decay=1e-4)
    judge = torch.optim.AdamW(critic.parameters(), betas=(0.5, 0.9), weight_decay=1e-4)

    def step(k, generator):
        mel = crops(clips, generator).to(DEVICE)
        with half_precision():
            posterior = vae.encode(mel).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=generator).to(DEVICE)
            latent = posterior.mean + posterior.std * noise
            made = vae.decode(latent).sample
        made, posterior_kl = made.float(), posterior.kl().mean() / posterior.mean[0].numel()
        losses = {
            "l1": (made - mel).abs().mean() / std,
            "texture": (grain(made) - grain(mel)).abs().mean() / std,
            "kl": posterior_kl,
        }
        total = losses["l1"] + TEXTURE * losses["texture"] + KL * losses["kl"]
        if k >= judged_from:
            critic.requires_grad_(False)
            with half_precision():
                said, seen = critic(made)
                _, wanted = critic(mel)
            pairs = zip(seen, wanted, strict=True)
            losses["features"] = sum((a.float() - b.float()).abs().mean() for a, b in pairs) / len(seen)
            losses["adversary"] = -said.float().mean()
            total = total + FEATURES * losses["features"] + ADVERSARY * losses["adversary"]
            critic.requires_grad_(True)
        optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        if k >= judged_from - steps // 10:
            with half_precision():
                real, fake = critic(mel)[0].float(), critic(made.detach())[0].float()
            losses["critic"] = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
            judge.zero_grad()
            losses["critic"].backward()
            judge.step()
        return {name: value.detach() for name, value in losses.items()}

    state = {"vae": vae, "critic": critic, "optimiser": optimiser, "judge": judge}
    return Stage("vae", steps, 1e-3 if begin is None else 5e-4, state, step)


@torch.no_grad()
def standardise(vae: AutoencoderKL, clips: ClipSet) -> None:
    """Give every latent channel mean 0 and spread 1 on the clips, by its 1 x 1 convolutions: reconstructions stay."""
    mels = torch.from_numpy(np.array(clips.mels[:: max(1, len(clips.captions) // 200)])).float()[:, None]
    means = torch.cat([vae.encode(mel.to(DEVICE)).latent_dist.mean for mel in mels.split(8)])
    mean, std = means.mean((0, 2, 3)), means.std((0, 2, 3))
    into, out = vae.quant_conv, vae.post_quant_conv
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight *= std[:, None, None]
    into.weight[:CHANNELS] /= std[:, None, None, None]
    into.bias[:CHANNELS] = (into.bias[:CHANNELS] - mean) / std
    into.bias[CHANNELS:] -= 2 * std.log()  # the logarithm of the posterior's variance
