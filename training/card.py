"""The model card that lies in a trained model's folder."""

from __future__ import annotations

from .sounds import CLASSES

CARD = """---
license: apache-2.0
tags: [text-to-audio, latent-diffusion]
---
# {name}

A small text-to-audio latent diffusion model for ComfyUI-SaFa: {classes}, and pairs of them; 16 kHz
mono, windows of 5.12 s. It knows {words} words; every other word is read as "unknown".

- **Data**: {clips} clips of 8 s, synthesised and captioned by `training/sounds` (numpy and scipy, seeded; no recording
  of anybody), three in ten of them a mixture of two classes.
- **Layout**: diffusers. AutoencoderKL on log-mels (16 kHz, 1024/160, 64 bands, ln), 8 channels, a quarter of the size
  each way, no attention; UNet2DConditionModel with a T5EncoderModel of two layers over words; AudioLDM's betas,
  v-prediction, DDIM. Weights in half precision. No vocoder: Mel Decode uses Griffin-Lim.
- **Training**: seed {seed}; {vae_steps} steps of the autoencoder in {vae_minutes} min, {steps} of the denoiser (clips
  of 0.32 s to 5.12 s, without padding; weights averaged) in {minutes} min, on {machine}, other work on them
  included; bfloat16 autocast. The log is in `training_log.jsonl`; its last losses:
  autoencoder {vae_losses};
  denoiser {losses}.
- **Command**: `python run.py train --clips {clips} --vae-steps {vae_steps} --steps {steps} --seed {seed}`
- **Figures**: `docs/pocket_eval.md` of the repository, made by `python run.py eval --pocket`.
- **Licence**: Apache-2.0, as the repository.

Limits: it imitates a synthesiser, not the world, and is there to try and to judge the nodes with.
"""


def model_card(options, words: int, log: list[dict], machine: str) -> str:
    """The card. options: of the training; words: that the tokenizer knows; log: its short log; machine: in words."""
    stages: dict[str, list[dict]] = {}
    for line in log:
        stages.setdefault(line["stage"], []).append(line)

    def losses(name):
        last = stages[name][-1]
        return ", ".join(f"{k} {v:.3f}" for k, v in last.items() if k not in ("stage", "step", "seconds_per_step"))

    def minutes(name):
        lines = stages[name]
        pace = sum(line["seconds_per_step"] for line in lines) / len(lines)
        return round(pace * lines[-1]["step"] / 60)

    return CARD.format(
        name=options.out.name,
        classes=", ".join(CLASSES),
        words=words,
        clips=options.clips,
        seed=options.seed,
        vae_steps=options.vae_steps,
        vae_minutes=minutes("vae"),
        steps=options.steps,
        minutes=minutes("denoiser"),
        machine=machine,
        vae_losses=losses("vae"),
        losses=losses("denoiser"),
    )
