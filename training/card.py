"""The model card that lies in a trained model's folder."""

from __future__ import annotations

from .data import MEL
from .kinds import NAMES

CARD = """---
license: {licence}
tags: [text-to-audio, latent-diffusion]
---
# {name}

A small text-to-audio latent diffusion model for ComfyUI-SaFa: {kinds}, and pairs of them; 24 kHz mono, windows of
5.12 s. It has {words} words of its own, many of them other names of those kinds ("downpour", "bonfire"), and reads
every other word in pieces, which say little to it; the node that encodes a prompt says what it understood.

- **Data**: {clips} clips of 8 s, {data}, three in ten of them a pair of two kinds;
  captions by `training/kinds.py`. {held}
- **Layout**: diffusers. AutoencoderKL on log-mels (24 kHz, {mel}), 8 channels, a quarter of the
  size each way, no attention; UNet2DConditionModel with a T5EncoderModel of two layers over words and pieces of words;
  AudioLDM's betas, v-prediction, DDIM. Weights in half precision. {sound}
- **Training**: seed {seed}{begun}; {stages}, on {machine}, other work on them included. The log is in
  `training_log.jsonl`; its last losses:
  {losses}.
- **Command**: `python run.py train {command}`
- **Licence**: {licence_told}

Limits: a few minutes of sound of most kinds taught it, so that it varies little within a kind; kinds that nobody named
here come out as the nearest of them.
"""


def model_card(options, words: int, log: list[dict], machine: str, vocoder: bool) -> str:
    """The card. options: of the training; words: that the tokenizer knows; log: its short log; machine: in words;
    vocoder: whether there is one.
    """
    stages: dict[str, list[dict]] = {}
    for line in log:
        stages.setdefault(line["stage"], []).append(line)
    free = options.no_recordings
    return CARD.format(
        licence="apache-2.0" if free else "cc-by-sa-4.0",
        licence_told=(
            "Apache-2.0, as the repository."
            if free
            else "CC-BY-SA-4.0, as the recordings ask; `CREDITS.md` names who made them. The code is Apache-2.0."
        ),
        name=options.out.name,
        kinds=", ".join(NAMES),
        words=words,
        clips=options.clips,
        data=(
            "synthesised by `training/sounds`"
            if free
            else "cut from recordings (`training/recordings`) and synthesised by `training/sounds`"
        ),
        held="" if free else "One recording of each kind is held out for measuring.",
        mel=f"{MEL.n_fft}/{MEL.hop}, {MEL.bins} bands, ln",
        sound=(
            "The vocoder is transformers' SpeechT5HifiGan." if vocoder else "No vocoder: Mel Decode uses Griffin-Lim."
        ),
        seed=options.seed,
        begun=f", begun from the weights of {options.begin.name}" if options.begin else "",
        stages=", ".join(_time(name, lines) for name, lines in stages.items()),
        machine=machine,
        losses=";\n  ".join(_losses(name, lines) for name, lines in stages.items()),
        command=_command(options),
    )


def _time(stage: str, lines: list[dict]) -> str:
    pace = sum(line["seconds_per_step"] for line in lines) / len(lines)
    return f"{lines[-1]['step']} steps of the {stage} in {round(pace * lines[-1]['step'] / 60)} min"


def _losses(stage: str, lines: list[dict]) -> str:
    last = lines[-1].items()
    named = ", ".join(f"{k} {v:.3f}" for k, v in last if k not in ("stage", "step", "seconds_per_step"))
    return f"{stage} {named}"


def _command(options) -> str:
    given = [f"--clips {options.clips}", f"--vae-steps {options.vae_steps}", f"--steps {options.steps}"]
    if options.vocoder_steps:
        given.append(f"--vocoder-steps {options.vocoder_steps}")
    if options.no_recordings:
        given.append("--no-recordings")
    if options.begin:
        given.append(f"--begin {options.begin.name}")
    return " ".join([*given, f"--seed {options.seed}"])
