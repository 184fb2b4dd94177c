"""Trains the pocket model: sounds, autoencoder, denoiser, and a folder with the result. Every stage resumes."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch

from .card import model_card
from .clips import Bank, read_bank, training_clip
from .data import SECONDS, WAVES, ClipSet, clip_set
from .diffusion import LatentSet, denoiser_stage, encode_clips
from .kinds import NAMES
from .loop import Stage, checkpoint, run_stage
from .nearest import report
from .options import arguments
from .package import write_model
from .recordings import credits, make_recordings
from .sounds import SAMPLE_RATE
from .text import known_words, new_tokenizer
from .vae import standardise, vae_stage
from .vocoder import distances, vocoder_stage

UNHEARD = 1_000_000  # the number of a first clip that no training set reaches
LOG_LINES = 40  # of each stage, in the model's folder


def main(argv=None) -> int:
    """Exit code 0 when the model is finished, 3 when --minutes were over before."""
    options = arguments(argv)
    deadline = time.monotonic() + 60 * options.minutes
    clips = clip_set(options.work, options.clips, recordings_folder(options))
    print(f"{len(clips.captions)} clips in {options.work}", flush=True)
    if options.nearest:
        print("\n".join(report(options.nearest, clips)))
        return 0
    vae = trained_vae(options, clips.first(WAVES), deadline)
    if vae is None:
        return _unfinished()
    tokenizer = new_tokenizer(clips.captions)
    latents = latent_set(options, vae, clips)
    stage = seeded(options, lambda: denoiser_stage(latents, tokenizer, options.steps, options.begin))
    if not run_stage(stage, options.work, options.seed, deadline):
        return _unfinished()
    vocoder = None
    if options.vocoder_steps:
        vocoder = trained_vocoder(options, clips, deadline)
        if vocoder is None:
            return _unfinished()
        vocoder = better_vocoder(options, vocoder)
    average = stage.state["average"].module
    log = short_log(options.work / "log.jsonl")
    texts = {"README.md": model_card(options, known_words(tokenizer), log, machine(), vocoder is not None)}
    if not options.no_recordings:
        texts["CREDITS.md"] = credits()
    write_model(options.out, vae, average["text"], tokenizer, average["unet"], vocoder, loudest(clips), texts, log)
    print(f"the model is in {options.out}")
    return 0


def recordings_folder(options) -> Path | None:
    """The folder with all recordings, fetched where they are missing."""
    if options.no_recordings:
        return None
    folder = options.work / "recordings"
    make_recordings(folder, SAMPLE_RATE, options.mirror)
    return folder


def machine() -> str:
    """Number and kind of the processors that trained."""
    return f"{os.cpu_count()} {platform.machine()} cores, torch {torch.__version__.split('+')[0]}"


def _unfinished() -> int:
    print("the time is over; run this again to go on")
    return 3


def seeded(options, make) -> Stage:
    torch.manual_seed(options.seed)  # of the first weights
    return make()


def trained_vae(options, clips: ClipSet, deadline: float):
    """The autoencoder after its last step, standardised, or None."""
    stage = seeded(options, lambda: vae_stage(clips, options.vae_steps, *spread(clips), options.begin))
    if not run_stage(stage, options.work, options.seed, deadline):
        return None
    vae = stage.state["vae"].eval()
    standardise(vae, clips)
    return vae


def trained_vocoder(options, clips: ClipSet, deadline: float):
    """The vocoder after its last step, or None."""
    stage = seeded(options, lambda: vocoder_stage(clips, options.vocoder_steps, *spread(clips.first(WAVES))))
    return stage.state["vocoder"].eval() if run_stage(stage, options.work, options.seed, deadline) else None


def better_vocoder(options, vocoder):
    """The vocoder, or None where Griffin-Lim comes closer to clips that taught it nothing; says by how much."""
    bank = Bank({}) if options.no_recordings else read_bank(options.work / "recordings", "held-out")
    numbers = range(UNHEARD, UNHEARD + len(NAMES))
    waves = [torch.from_numpy(training_clip(number, SECONDS, bank).wave) for number in numbers]
    own, griffin_lim = distances(vocoder, waves)
    print(f"spectral distance to held-out clips: vocoder {own:.3f}, Griffin-Lim {griffin_lim:.3f}")
    return vocoder if own < griffin_lim else None


def spread(clips: ClipSet) -> tuple[float, float]:
    """(mean, standard deviation) of the clips' log-mels, by some of them."""
    sample = np.asarray(clips.mels[:: max(1, len(clips.captions) // 200)], dtype=np.float32)
    return float(sample.mean()), float(sample.std())


def loudest(clips: ClipSet) -> float:
    """The log-mel that 99 of 100 clips stay below."""
    return float(np.quantile([clip.max() for clip in clips.mels], 0.99))


def latent_set(options, vae, clips: ClipSet) -> LatentSet:
    """The clips' latents, made once for this autoencoder."""
    file = options.work / f"latents_{len(clips.captions)}.pt"
    made_of = checkpoint(options.work, "vae").stat().st_mtime_ns
    if file.is_file():
        kept = torch.load(file, weights_only=True, mmap=True)
        if kept["made_of"] == made_of:
            return LatentSet(kept["latents"], clips.captions)
    data = encode_clips(vae, clips)
    torch.save({"made_of": made_of, "latents": data.latents}, file)
    return data


def short_log(file: Path) -> list[dict]:
    """Some lines of each stage, the last one always."""
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    # Of a step that was made again after an interruption only the last counts
    lines = {(line["stage"], line["step"]): line for line in lines}.values()
    short = []
    for name in dict.fromkeys(line["stage"] for line in lines):
        of_stage = [line for line in lines if line["stage"] == name]
        every = max(1, len(of_stage) // LOG_LINES)
        short += [line for number, line in enumerate(of_stage) if (number + 1) % every == 0 or line is of_stage[-1]]
    return short
