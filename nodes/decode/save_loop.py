"""Save Loop (WAV): sound with loop points that samplers and game engines read, and with its workflow."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

import comfy.model_management
import folder_paths
from comfy.cli_args import args
from comfy_api.latest import io, ui

from ...safa_core.measures.seam import sound_seam
from ...safa_core.sound.riff import LARGEST, append_chunks, info_chunk, smpl_chunk
from ..errors import named
from ..node_text import show_text, text_output
from ..sockets import CATEGORY
from .level import levelled

NAME = "Save Loop (WAV)"
FORMATS = {"16-bit": ("PCM_16", 2), "24-bit": ("PCM_24", 3), "float": ("FLOAT", 4)}  # soundfile's name, bytes
CLEAR_SEAM = 2.0  # twice the change that there is beside it
BLOCK = 2**18  # samples per channel that are converted together


def check_library() -> None:
    """Refuse to save where soundfile lacks its C library, as its wheel for any platform does (ValueError).

    Not at import, where the error would take all nodes with it.
    """
    try:
        import soundfile  # noqa: F401
    except OSError as error:
        raise ValueError(
            f"the package soundfile finds no libsndfile ({error}); install it (Debian, Ubuntu: apt-get install "
            "libsndfile1), then restart ComfyUI. Nothing is saved."
        ) from error


def write_wav(path: Path, waveform: torch.Tensor, rate: int, format: str, repeat: int, chunks: list[bytes]) -> None:
    """Write waveform [channels, samples] within ±1, or beyond where the format is float, `repeat` times.

    rate: in Hz. format: one of FORMATS. chunks: RIFF chunks for the end of the file, which appears under its name only
    when it is whole.
    """
    import soundfile

    subtype, _ = FORMATS[format]
    part = path.with_name(f"{path.name}.part")
    try:
        with soundfile.SoundFile(part, "w", rate, len(waveform), subtype, format="WAV") as file:
            for _ in range(repeat):
                for block in waveform.split(BLOCK, dim=1):
                    comfy.model_management.throw_exception_if_processing_interrupted()
                    file.write(quantise(block.T.float().numpy(), format))
        with open(part, "r+b") as file:
            append_chunks(file, *chunks)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def quantise(samples: np.ndarray, format: str) -> np.ndarray:
    """Samples as soundfile takes them without loss.

    Rounded to the nearest: libsndfile alone rounds down, half a step of offset.
    """
    if format == "float":
        return samples
    bits = 8 * FORMATS[format][1]
    steps = np.rint(samples.astype(np.float64) * 2 ** (bits - 1)).clip(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if bits == 16:
        return steps.astype(np.int16)
    return steps.astype(np.int32) << (32 - bits)


def metadata(hidden: Any) -> list[bytes]:
    """The prompt and workflow as the comment of the file, one JSON object; none with --disable-metadata.

    The host's page reads workflows back from FLAC, MP3, Ogg and others; from a WAV the pack's own extension of the page
    does. The comment is also what tag editors and ffprobe show.
    """
    if args.disable_metadata or hidden is None:
        return []
    comment = {"prompt": hidden.prompt} if hidden.prompt else {}
    comment |= hidden.extra_pnginfo or {}
    return [info_chunk(ISFT="ComfyUI", ICMT=json.dumps(comment))] if comment else []


def check(audio: dict | None, format: str, repeat: int) -> tuple[torch.Tensor, int]:
    """(waveform [B, channels, samples] on the CPU, rate in Hz); refuses what cannot be written (ValueError)."""
    if audio is None:
        raise ValueError("expected audio, got none; the video it comes from may have no sound.")
    waveform = audio["waveform"].cpu()
    rate = int(audio["sample_rate"])
    if waveform.ndim != 3 or waveform.shape[1] not in (1, 2):
        raise ValueError(f"expected mono or stereo audio, [batch, 1 or 2, samples], got {list(waveform.shape)}.")
    if not waveform.numel() or rate < 1:
        raise ValueError(f"expected sound, got {list(waveform.shape)} samples at {rate} Hz; nothing is saved.")
    if not torch.isfinite(waveform).all():
        raise ValueError("the audio holds NaN or infinity; look at the node that made it. Nothing is saved.")
    size = file_size(waveform, format, repeat)
    if size > LARGEST - 2**24:
        raise ValueError(
            f"a WAV file ends at 4 GiB, but {repeat} × the clip is {size / 2**30:.1f} GiB; lower `repeat`, "
            "choose fewer bits, or save FLAC with the host's Save Audio."
        )
    return waveform, rate


def file_size(waveform: torch.Tensor, format: str, repeat: int) -> int:
    """Bytes of samples in each clip's file."""
    return waveform[0].numel() * FORMATS[format][1] * repeat


def check_prefix(prefix: str) -> None:
    """Refuse a name that is not below ComfyUI's output folder, or below a file in it (ValueError).

    By the name alone, before anything runs; where links lead is the host's to judge when it saves.
    """
    output = Path(os.path.abspath(folder_paths.get_output_directory()))
    folder = Path(os.path.abspath(output / os.path.dirname(os.path.normpath(prefix))))
    if "\0" in prefix or not folder.is_relative_to(output):
        raise ValueError(
            f"expected a `filename_prefix` below ComfyUI's output folder, such as audio/loop, got {prefix!r}; leave "
            "out '..' and drives."
        )
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    if not existing.is_dir():
        raise ValueError(f"the folder of `filename_prefix` {prefix!r} is a file, {existing}; choose another name.")


def check_space(folder: Path, size: int) -> None:
    """Refuse `size` bytes that the disk has no room for (ValueError)."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ValueError(f"{size / 1e6:.0f} MB are to be written, but {free / 1e6:.0f} MB are free in {folder}.")


def loop_points(loop: bool, audio: dict) -> tuple[bool, str]:
    """Whether loop points are written, and what the node says about it.

    loop: what the user asks for. Decoders tell by the key "loop" of their sound whether it is one; of others its ends
    are listened to.
    """
    if not loop:
        return False, ""
    if not audio.get("loop", True):
        return False, "; no loop points, because its plan has no loop"
    if "loop" not in audio and (score := seam_score(audio)) > CLEAR_SEAM:
        return True, f"; loop points written, but the end does not flow into the start (seam score {score:.2g})"
    return True, ""


def seam_score(audio: dict) -> float:
    """The seam of a sound as Roll by Half scores it; 0 where it is too short for that."""
    try:
        return sound_seam(audio["waveform"].cpu().float(), int(audio["sample_rate"])).score
    except ValueError:
        return 0.0


class SaFaSaveLoop(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaFaSaveLoop",
            display_name=NAME,
            category=CATEGORY,
            description="Saves sound as WAV with loop points (a smpl chunk) over the whole clip, so that samplers and "
            "game engines repeat it without a gap. The workflow is kept in the file's comment: dropped on the "
            "page, the file opens it.",
            search_aliases=["safa", "wav", "export wav", "save audio", "smpl", "sample loop", "seamless loop"],
            inputs=[
                io.Audio.Input("audio", tooltip="Mono or stereo; one file for each clip of a batch."),
                io.String.Input(
                    "filename_prefix",
                    default="audio/loop",
                    tooltip="Folder and start of the name below ComfyUI's output folder; %year% etc. as in Save Image.",
                ),
                io.Boolean.Input(
                    "loop",
                    default=True,
                    tooltip="Write loop points from the first to the last sample. The sound of a plan without a loop "
                    "gets none.",
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="16-bit",
                    tooltip="Float keeps what lies beyond ±1. For 16-bit and 24-bit such a sound is given one gain, so "
                    "that nothing is clipped; the node says which.",
                ),
                io.Int.Input(
                    "repeat",
                    default=1,
                    min=1,
                    max=1000,
                    tooltip="Write the clip so many times in a row, for listening. The loop points are around all of "
                    "it. The file grows as often; the node says its seconds and MB before it writes.",
                ),
                io.Custom("AUDIO_UI").Input("audioUI", optional=True, tooltip="Plays the saved file."),
            ],
            outputs=[],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None) -> bool | str:
        """The host asks before anything runs; None for a name that another node gives."""
        try:
            check_prefix(filename_prefix or "")
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls, audio: dict, filename_prefix: str, loop: bool, format: str, repeat: int = 1, audioUI: Any = None
    ) -> io.NodeOutput:
        with named(NAME):
            check_library()
            check_prefix(filename_prefix)
            waveform, rate = check(audio, format, repeat)
        chunks = metadata(cls.hidden)
        looped, remark = loop_points(loop, audio)
        if looped:
            chunks.insert(0, smpl_chunk(rate, waveform.shape[-1] * repeat))
        folder, stem, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory()
        )
        size = file_size(waveform, format, repeat) * len(waveform)
        with named(NAME):
            check_space(Path(folder), size)
        seconds = waveform.shape[-1] * repeat / rate
        if repeat > 1:
            show_text(f"writing {repeat} × the clip: {seconds:.6g} s, {size / 1e6:.3g} MB")
        gained: list[str] = []
        if format != "float":
            waveform, gained = levelled(waveform, "limit")
        saved = []
        for number, clip in enumerate(waveform):
            path, counter = free_path(Path(folder), stem.replace("%batch_num%", str(number)), counter)
            write_wav(path, clip, rate, format, repeat, chunks)
            saved.append(ui.SavedResult(path.name, subfolder, io.FolderType.output))
        names = saved[0].filename
        if len(saved) > 1:
            names += f" to {saved[-1].filename}"
        levels = "".join(f"; {line}" for line in gained)
        text = f"{names}: {seconds:.6g} s at {rate} Hz{remark}{levels}"
        show_text(text)
        return io.NodeOutput(ui={"audio": saved, "safa_audio": saved, **text_output(text)})


def free_path(folder: Path, stem: str, counter: int) -> tuple[Path, int]:
    """The first name from `counter` on that no file has, and the next counter."""
    while (path := folder / f"{stem}_{counter:05}_.wav").exists():
        counter += 1
    return path, counter + 1
