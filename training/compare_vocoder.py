"""Griffin-Lim against a vocoder, on clips that neither has seen."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from transformers import SpeechT5HifiGan

from ..safa_core.mel import GriffinLim
from .data import MEL
from .sounds import CLASSES, SAMPLE_RATE, clip
from .vocoder import magnitudes, through

WINDOWS = (256, 512, 1024, 2048)  # samples, of the STFT distance
MARGIN = 0.1  # s at either end that are not measured
Maker = Callable[[torch.Tensor], torch.Tensor]  # mel [B, T, 64] -> sound [B, 160 * T]


def held_out(each: int, seconds: float) -> torch.Tensor:
    """Sounds [len(CLASSES) * each, S] of the stream "held-out", of all classes in turn."""
    waves = [clip("held-out", number, seconds).wave for number in range(len(CLASSES) * each)]
    return torch.from_numpy(np.stack(waves)).float()


def griffin_lim(mel: torch.Tensor) -> torch.Tensor:
    return GriffinLim(MEL)(mel, torch.arange(mel.shape[1]))


def measures(made: torch.Tensor, wave: torch.Tensor) -> dict[str, torch.Tensor]:
    """Per clip of [B, S]: mel and stft, mean distance of log magnitudes; grain, what is left of their fine detail.

    stft also rewards a spectrum smoother than the real one, so grain goes with it: the spread of log magnitudes (window
    512) around a 5 x 5 mean, over the real sound's; 1 is right, less is smooth or tonal, more is rough.
    """
    edge = round(MARGIN * SAMPLE_RATE)
    mel = (MEL.spectrogram(made) - MEL.spectrogram(wave)).abs()[:, edge // MEL.hop : -edge // MEL.hop].mean((1, 2))
    made, wave = made[:, edge:-edge], wave[:, edge:-edge]
    stft = sum((magnitudes(made, w).log() - magnitudes(wave, w).log()).abs().mean((1, 2)) for w in WINDOWS)
    return {"mel": mel, "stft": stft / len(WINDOWS), "grain": _detail(made) / _detail(wave)}


def _detail(sound: torch.Tensor) -> torch.Tensor:
    log = magnitudes(sound, 512).log()[:, None]
    return (log - F.avg_pool2d(log, 5, 1, 2, count_include_pad=False)).std((1, 2, 3))


@torch.inference_mode()
def compared(makers: dict[str, Maker], mels: torch.Tensor, waves: torch.Tensor) -> dict[str, dict[str, torch.Tensor]]:
    """Measures per clip for each maker, and "seconds" (one number): time per second of sound."""
    results = {}
    for name, maker in makers.items():
        maker(mels[:1])  # the first call is slow
        start = time.process_time()
        made = torch.cat([maker(mel[None]) for mel in mels])[:, : waves.shape[1]]
        spent = time.process_time() - start
        results[name] = {**measures(made, waves), "seconds": torch.tensor(spent * SAMPLE_RATE / waves.numel())}
    return results


def table(results: dict[str, dict[str, torch.Tensor]]) -> str:
    """Rows: classes and all; columns: each maker's mel, stft and grain."""
    names = ("mel", "stft", "grain")
    lines = [" ".join(["class".ljust(10), *(f"{maker}:{name}".rjust(18) for maker in results for name in names)])]
    for row in (*range(len(CLASSES)), "all"):
        own = slice(None) if row == "all" else slice(row, None, len(CLASSES))
        figures = [f"{result[name][own].mean():18.4f}" for result in results.values() for name in names]
        lines.append(" ".join([(row if row == "all" else CLASSES[row]).ljust(10), *figures]))
    times = ", ".join(f"{maker} {result['seconds']:.4f} s" for maker, result in results.items())
    return "\n".join([*lines, f"processor time per second of sound: {times}"])


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="model folder with vae/ and vocoder/")
    parser.add_argument("--each", type=int, default=4, help="clips of a class")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a clip")
    options = parser.parse_args(argv)
    vae = AutoencoderKL.from_pretrained(options.model / "vae", torch_dtype=torch.float32).eval()
    vocoder = SpeechT5HifiGan.from_pretrained(options.model / "vocoder", torch_dtype=torch.float32).eval()
    makers = {"griffin-lim": griffin_lim, "vocoder": vocoder}
    waves = held_out(options.each, options.seconds)
    mels = MEL.spectrogram(waves)
    print(f"true spectrograms\n{table(compared(makers, mels, waves))}")
    print(f"spectrograms through the autoencoder\n{table(compared(makers, through(vae, mels), waves))}")


if __name__ == "__main__":
    main()
