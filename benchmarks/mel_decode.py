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
import resource
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from panorama import import_host, machine

COMPARED = 10  # minutes


def vae():
    """As SaFa Audio Model Loader returns it."""
    from safa_pack.nodes.audio.diffusers_layout import Mel
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
    held = peak()
    latent = torch.randn(1, 8, columns, 16)
    begin = time.perf_counter()
    sound, spectra, said = decode_mel(model, latent, loop, None, window)
    spectrogram_picture(spectra[0], "benchmark")
    took = time.perf_counter() - begin
    size = 4 * (sound.numel() + latent.numel()) / 1e6
    return {"peak": peak(), "held": held, "sound": size, "seconds": took, "said": said[0]}


def peak() -> float:
    """Most memory that the process has held so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10, 60], help="lengths; 10 is the measure")
    parser.add_argument("--window", type=float, default=30, help="seconds that the VAE decodes at once")
    parser.add_argument("--open", action="store_true", help="an open clip instead of a loop")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        import_host()
        figures = measure(options.minutes[0], options.window, not options.open)
        print(json.dumps({**figures, "machine": machine()}))
        return
    results = {}
    for minutes in sorted({*options.minutes, COMPARED}):
        child = [sys.executable, __file__, "--one", "--minutes", str(minutes), "--window", str(options.window)]
        done = subprocess.run(child + ["--open"] * options.open, stdout=subprocess.PIPE, text=True, check=True)
        results[minutes] = json.loads(done.stdout.splitlines()[-1])
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


if __name__ == "__main__":
    main()
