"""The denoiser: diffusers' UNet2DConditionModel on latents of clips of many lengths, led by the text encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor

from .data import MEL, ClipSet
from .loop import DEVICE, Stage, half_precision, weights
from .text import WIDTH, new_text_encoder, roughened, token_batch
from .vae import CHANNELS, DOWN

COLUMNS = 128  # the native window: 5.12 s
# Clips of many lengths without padding (section 3.1 of SaFa), 0.64 s to the native window, and how often each
LENGTHS, SHARES = (16, 32, 64, 128), (0.06, 0.08, 0.16, 0.7)
BATCH_COLUMNS, MOST = 8 * COLUMNS, 32  # columns of a batch; clips of a batch of short ones
UNPROMPTED = 0.1  # share of prompts left out for guidance
EMA = 0.999
# AudioLDM's betas; v-prediction (Salimans and Ho, 2022), which weighs all noise levels for a small model
SCHEDULER = {
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "prediction_type": "v_prediction",
}


@dataclass(frozen=True)
class LatentSet:
    """latents: float16 [N, 8, T, 16], every channel of mean 0 and spread 1; captions: N."""

    latents: torch.Tensor
    captions: list[str]


def new_unet() -> UNet2DConditionModel:
    """An untrained denoiser of latents [B, 8, T, 16]; attention from the second level on, 4 heads."""
    return UNet2DConditionModel(
        sample_size=(COLUMNS, MEL.bins // DOWN),
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        block_out_channels=(64, 96, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,  # diffusers' name for the number of heads
        norm_num_groups=16,
    )


@torch.inference_mode()
def encode_clips(vae: AutoencoderKL, clips: ClipSet) -> LatentSet:
    """Every clip's latent. A window is cut out of it later, so that its edges have heard what lies beyond them."""
    parts = []
    for start in range(0, len(clips.captions), 8):
        mel = torch.from_numpy(np.array(clips.mels[start : start + 8])).float()[:, None].to(DEVICE)
        with half_precision():
            parts.append(vae.encode(mel).latent_dist.mean.half().cpu())
    return LatentSet(torch.cat(parts), clips.captions)


def window_batch(data: LatentSet, generator: torch.Generator) -> tuple[torch.Tensor, list[str]]:
    """Random pieces of random clips, all of one random length, [B, 8, T, 16], with their captions."""
    length = LENGTHS[int(torch.multinomial(torch.tensor(SHARES), 1, generator=generator))]
    count = min(BATCH_COLUMNS // length, MOST)
    which = torch.randint(len(data.captions), (count,), generator=generator).tolist()
    starts = torch.randint(data.latents.shape[2] - length + 1, (count,), generator=generator).tolist()
    pieces = [data.latents[i, :, s : s + length] for i, s in zip(which, starts, strict=True)]
    return torch.stack(pieces).float(), [data.captions[i] for i in which]


def denoiser_stage(data: LatentSet, tokenizer, steps: int, begin: Path | None = None) -> Stage:
    """Noise is predicted as v, with the prompt left out now and then (Ho and Salimans, 2022).

    begin: the folder of a model whose denoiser and text encoder are trained on.
    """
    unet, text = new_unet(), new_text_encoder(tokenizer, begin)
    if begin is not None:
        unet.load_state_dict(weights(begin, "unet", "diffusion_pytorch_model"))
    # Both faster backwards on a CPU, many times in bfloat16, than torch's fused attention and than its default layout
    unet.set_attn_processor(AttnProcessor())
    unet.to(memory_format=torch.channels_last)
    both = torch.nn.ModuleDict({"unet": unet, "text": text}).to(DEVICE)
    average = torch.optim.swa_utils.AveragedModel(
        both, avg_fn=lambda old, new, k: old + (new - old) * max(1 - EMA, 9 / (10 + k))
    )
    optimiser = torch.optim.AdamW(both.parameters(), betas=(0.9, 0.99), weight_decay=0.01)
    scheduler = DDIMScheduler(**SCHEDULER)

    def step(k, generator):
        latents, captions = window_batch(data, generator)
        prompts = [roughened(caption, generator) for caption in captions]
        prompts = ["" if torch.rand((), generator=generator) < UNPROMPTED else prompt for prompt in prompts]
        ids, mask = (tokens.to(DEVICE) for tokens in token_batch(tokenizer, prompts))
        noise = torch.randn(latents.shape, generator=generator).to(DEVICE)
        # spread evenly over the schedule in every batch, which makes its loss steadier
        spread = (torch.rand((), generator=generator) + torch.arange(len(latents)) / len(latents)) % 1
        times = (spread * 1000).long().to(DEVICE)
        latents = latents.to(DEVICE)
        noisy = scheduler.add_noise(latents, noise, times).contiguous(memory_format=torch.channels_last)
        with half_precision():
            hidden = text(input_ids=ids, attention_mask=mask)[0]
            made = unet(noisy, times, encoder_hidden_states=hidden, encoder_attention_mask=mask).sample
        loss = torch.nn.functional.mse_loss(made.float(), scheduler.get_velocity(latents, noise, times))
        optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        optimiser.step()
        average.update_parameters(both)
        return {"loss": loss.detach(), "gradient": norm}

    return Stage("denoiser", steps, 5e-4, {"both": both, "average": average, "optimiser": optimiser}, step)
