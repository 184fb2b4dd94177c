"""What the README opens with, out of one run of `python run.py demo --compare`.

docs/loop.ogg is the sound; docs/loop.jpg its spectrogram; docs/loop.mp4 both, played twice so that the seam is heard:
the pages that show a README play films, not sounds. docs/demo_compare.jpg shows its joins, one above the other.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np
import soundfile
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
ROUNDS = 2  # of the loop in the film
FRAMES = 5  # of the film, in a second
BAR, COLOUR = 6, (240, 162, 74)  # pixels below the spectrogram that fill while the loop plays
WIDTH, QUALITY = 960, 85  # pixels; of the JPEG files


def film(path: Path, picture: Image.Image, sound: np.ndarray, rate: int) -> None:
    """A film of the picture, with a bar that fills in every round, and the sound [samples], ROUNDS times."""
    width, height = picture.width // 2 * 2, picture.height // 2 * 2  # H.264 halves the colours' size
    still = np.asarray(picture)[:height, :width]
    count = round(ROUNDS * FRAMES * len(sound) / rate)
    with av.open(path, "w") as container:
        video = container.add_stream("libx264", rate=FRAMES, options={"crf": "28", "tune": "stillimage"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = container.add_stream("aac", rate=rate, layout="mono")
        for number in range(count):
            frame = still.copy()
            frame[-BAR:, : round(width * (number * ROUNDS % count) / count)] = COLOUR
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        samples = np.tile(sound, ROUNDS).astype(np.float32)[None]
        heard = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="mono")
        heard.sample_rate = rate
        container.mux(audio.encode(heard))
        for stream in (video, audio):
            container.mux(stream.encode(None))


def _picture(path: Path) -> Image.Image:
    picture = Image.open(path).convert("RGB")
    return picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)


def write(demo: Path) -> None:
    """The files of DOCS, out of the folder that the demo wrote."""
    sound, rate = soundfile.read(demo / "loop.wav", dtype="float32", always_2d=True)
    picture, compare = (_picture(demo / name) for name in ("spectrogram.png", "compare.png"))
    soundfile.write(DOCS / "loop.ogg", sound, rate, format="OGG", subtype="VORBIS")
    film(DOCS / "loop.mp4", picture, sound.mean(1), rate)
    picture.save(DOCS / "loop.jpg", quality=QUALITY)
    compare.save(DOCS / "demo_compare.jpg", quality=QUALITY)
    for name in ("loop.ogg", "loop.mp4", "loop.jpg", "demo_compare.jpg"):
        print(f"{DOCS / name}: {(DOCS / name).stat().st_size / 1000:.0f} kB")


def main(options: argparse.Namespace) -> None:
    if options.demo is not None:
        return write(options.demo)
    with tempfile.TemporaryDirectory(prefix="safa-loop-") as folder:
        subprocess.run([sys.executable, ROOT / "run.py", "demo", "--compare", "--out", folder], check=True)
        write(Path(folder))
