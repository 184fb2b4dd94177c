"""How much of a mel spectrogram the live preview's linear map (SaFa Eq. 5) explains, family by family.

    python run.py bench linear_map [MODEL FOLDER ...] [--train 400]

Each family is first tried with tiny random weights, whose figure only shows that the fit runs; folders in the audio
loader's formats follow. --train makes a small AutoencoderKL learn synthetic spectrograms for so many steps, to see the
map of a VAE that has learned something where no checkpoint is at hand. Columns:

R2        share of the variance explained, on the clips of the fit
held out  on other clips
fit       seconds for encoding and least squares
"""

import tempfile
import time
from pathlib import Path

from ..bootstrap import host
from .common import parser

ROW = "{:28} {:>8} {:>8} {:>9} {:>7}"


class TrainedVAE:
    """An AutoencoderKL of the families' layout after `steps` of learning synthetic spectrograms."""

    mel_bins, frames_per_column, latent_axis, log = 64, 4, 2, "ln"

    def __init__(self, steps: int):
        import torch
        from diffusers import AutoencoderKL

        torch.manual_seed(0)
        self.first_stage_model = AutoencoderKL(
            in_channels=1,
            out_channels=1,
            latent_channels=8,
            block_out_channels=(16, 32, 32),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            layers_per_block=1,
            norm_num_groups=8,
        )
        with torch.enable_grad():
            self._learn(steps)

    def _learn(self, steps):
        import torch

        from safa_pack.nodes.audio.live_spectrogram import LOUDEST, QUIETEST
        from safa_pack.safa_core.measures.linear_map import synthetic_spectrograms

        optimizer = torch.optim.Adam(self.first_stage_model.parameters(), 1e-3)
        for step in range(steps):
            mel = QUIETEST + (LOUDEST - QUIETEST) * synthetic_spectrograms(2, 128, 64, seed=1000 + step)[:, None]
            latents = self.first_stage_model.encode(mel).latent_dist
            loss = (self.first_stage_model.decode(latents.sample()).sample - mel).abs().mean()
            optimizer.zero_grad()
            (loss + 1e-4 * latents.kl().mean() / latents.mean[0].numel()).backward()
            optimizer.step()

    def mel_to_latent(self, mel):
        return self.first_stage_model.encode(mel[:, None]).latent_dist.mode()


def report(name: str, vae) -> None:
    from safa_pack.nodes.audio.live_spectrogram import fit_linear_map, synthetic_latents
    from safa_pack.safa_core.measures.linear_map import downsample, explained

    start = time.perf_counter()
    found = fit_linear_map(vae)
    seconds = time.perf_counter() - start
    latents, brightness = synthetic_latents(vae, seed=1)
    held_out = explained(downsample(brightness, *latents.shape[2:]).to(latents), found(latents))
    print(ROW.format(name, len(found.weights), f"{found.r2:.3f}", f"{held_out:.3f}", f"{seconds:.2f}"), flush=True)


def main(argv: list[str]) -> None:
    command = parser("linear_map", __doc__)
    command.add_argument("folders", nargs="*", type=Path, help="audio models in the loader's formats")
    command.add_argument("--train", type=int, default=0, metavar="STEPS", help="also try a VAE trained here")
    options = command.parse_args(argv)
    host()
    from safa_pack.nodes.audio.loader import load_audio_model
    from safa_pack.tests import tiny_audio

    print(ROW.format("family", "channels", "R2", "held out", "fit"))
    with tempfile.TemporaryDirectory() as folder:
        for name, write in tiny_audio.FAMILIES.items():
            report(f"{name}, tiny random", load_audio_model(write(Path(folder) / name))[2])
    if options.train:
        report(f"trained {options.train} steps here", TrainedVAE(options.train))
    for folder in options.folders:
        report(folder.name, load_audio_model(folder)[2])
