"""How much memory a long sound takes to decode: Mel Decode with a tiny AudioLDM VAE and vocoder, in windows.

    python run.py bench mel_decode [--minutes 1 10 60] [--window 30] [--open] [--json FILE]

Each length runs in a process of its own, so that its peak is its own. Columns:

sound    the waveform and the latent themselves, MB: they grow with the length by nature
peak     of the whole process, MB
beyond   peak without the sound
ratio    beyond, over that of 10 minutes
working  beyond, without what the process held before it began to decode
seconds  for decoding and for drawing the spectrogram
"""

import argparse
import json
import time
from pathlib import Path
from types import SimpleNamespace

from ..bootstrap import host
from .common import machine, parser, peak_of_process, run_apart

COMPARED = 10  # minutes


def vae():
    """As SaFa Audio Model Loader returns it."""
    from safa_pack.nodes.audio.parts import Mel
    from safa_pack.nodes.audio.vae import AudioVAE
    from safa_pack.tests import tiny_audio

    parts = SimpleNamespace(name="tiny", vae=tiny_audio.vae(5), vocoder=tiny_audio.vocoder(6), mel=Mel())
    return AudioVAE(parts)


def measure(minutes: float, window: float, loop: bool) -> dict:
    """Decode so many minutes; memory in MB."""
    import torch

    from safa_pack.nodes.decode.sound_decoder import decode_mel
    from safa_pack.nodes.decode.spectrogram_picture import spectrogram_picture

    model, columns = vae(), round(minutes * 60 * 25)
    _, warm, _ = decode_mel(model, torch.randn(1, 8, 100, 16), loop)
    spectrogram_picture(warm[0], "warm")
    held = peak_of_process() / 1e6
    latent = torch.randn(1, 8, columns, 16)
    begin = time.perf_counter()
    sound, spectra, said = decode_mel(model, latent, loop, None, window)
    spectrogram_picture(spectra[0], "benchmark")
    took = time.perf_counter() - begin
    size = 4 * (sound.numel() + latent.numel()) / 1e6
    return {"peak": peak_of_process() / 1e6, "held": held, "sound": size, "seconds": took, "said": said[0]}


def main(argv: list[str]) -> None:
    command = parser("mel_decode", __doc__)
    command.add_argument("--minutes", type=float, nargs="+", default=[1, 10, 60], help="lengths; 10 is the measure")
    command.add_argument("--window", type=float, default=30, help="seconds that the VAE decodes at once")
    command.add_argument("--open", action="store_true", help="an open clip instead of a loop")
    command.add_argument("--json", type=Path, help="also write the figures to this file")
    command.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = command.parse_args(argv)
    if options.one:
        host()
        figures = measure(options.minutes[0], options.window, not options.open)
        print(json.dumps({**figures, "machine": machine()}))
        return
    results = {}
    for minutes in sorted({*options.minutes, COMPARED}):
        kind = ["--open"] if options.open else []
        figures = run_apart("mel_decode", "--one", "--minutes", str(minutes), "--window", str(options.window), *kind)
        if figures is None:
            raise SystemExit(f"{minutes:g} minutes failed, see above.")
        results[minutes] = figures
    report(results)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


def report(results: dict):
    measure_of = results[COMPARED]["peak"] - results[COMPARED]["sound"]
    print(f"{results[COMPARED]['machine']}\n")
    print("| minutes | sound | peak | beyond | ratio | working | seconds |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for minutes, figures in results.items():
        beyond = figures["peak"] - figures["sound"]
        print(
            f"| {minutes:g} | {figures['sound']:.0f} | {figures['peak']:.0f} | {beyond:.0f} | "
            f"{beyond / measure_of:.3f} | {beyond - figures['held']:.0f} | {figures['seconds']:.1f} |"
        )
    print(f"\n{results[COMPARED]['said']}")
