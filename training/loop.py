"""One training loop for every stage: seeded steps, checkpoints, a log; it resumes where it stopped."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

LOG_EVERY, SAVE_EVERY = 50, 100  # steps
WARM_UP = 200  # steps
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# torch says so of a processor whose bfloat16 products are emulated, ten times as slow as float32
HALF = DEVICE == "cuda" or torch.cpu.get_capabilities().get("avx512_bf16", False)


def half_precision():
    """bfloat16 autocast where it is quicker than float32."""
    return torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=HALF)


@dataclass(frozen=True)
class Stage:
    """What a stage trains. state: modules and optimisers by name; step(k, generator) -> its losses.

    rate: of learning, reached after a warm-up and brought to a twentieth along a cosine.
    """

    name: str
    steps: int
    rate: float
    state: dict[str, torch.nn.Module | torch.optim.Optimizer]
    step: Callable[[int, torch.Generator], dict[str, torch.Tensor]]


def run_stage(stage: Stage, folder: Path, seed: int, deadline: float = math.inf) -> bool:
    """Train until the stage's last step; whether it got there before `deadline` (of time.monotonic())."""
    folder.mkdir(parents=True, exist_ok=True)
    start = _restore(stage, folder)
    sums, since = {}, time.monotonic()
    for k in range(start, stage.steps):
        if time.monotonic() > deadline:
            save(stage, folder, k)
            return False
        _set_rate(stage, k)
        # of the step alone, so that a resumed training draws what an uninterrupted one would have drawn
        generator = torch.Generator().manual_seed(seed * 1_000_003 + k)
        for name, value in stage.step(k, generator).items():
            sums[name] = sums.get(name, 0.0) + float(value)
        if (k + 1) % LOG_EVERY == 0:
            means = {name: round(total / LOG_EVERY, 5) for name, total in sums.items()}
            pace = (time.monotonic() - since) / LOG_EVERY
            _log(folder, {"stage": stage.name, "step": k + 1, **means, "seconds_per_step": round(pace, 3)})
            sums, since = {}, time.monotonic()
        if (k + 1) % SAVE_EVERY == 0:
            save(stage, folder, k + 1)
    if start < stage.steps:
        save(stage, folder, stage.steps)
    return True


def weights(model: Path, part: str, file: str) -> dict[str, torch.Tensor]:
    """Of a part of a finished model's folder, in float32."""
    return {name: value.float() for name, value in load_file(model / part / f"{file}.safetensors").items()}


def save(stage: Stage, folder: Path, step: int) -> None:
    """Write the checkpoint beside its place and rename it, so that there is always a whole one."""
    content = {"step": step, **{name: part.state_dict() for name, part in stage.state.items()}}
    part = folder / f"{stage.name}.part"
    torch.save(content, part)
    os.replace(part, checkpoint(folder, stage.name))


def checkpoint(folder: Path, name: str) -> Path:
    return folder / f"{name}.ckpt"


def _restore(stage: Stage, folder: Path) -> int:
    file = checkpoint(folder, stage.name)
    if not file.is_file():
        return 0
    content = torch.load(file, map_location="cpu", weights_only=True)
    try:
        for name, part in stage.state.items():
            part.load_state_dict(content[name])
    except (KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"The checkpoint {file} is of another recipe: remove it, or use another --work.") from error
    return content["step"]


def _set_rate(stage: Stage, k: int) -> None:
    warm = min(1.0, (k + 1) / min(WARM_UP, max(1, stage.steps // 10)))
    cosine = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * k / stage.steps))
    for part in stage.state.values():
        for group in getattr(part, "param_groups", ()):
            group["lr"] = stage.rate * warm * cosine


def _log(folder: Path, line: dict) -> None:
    print(" ".join(f"{name} {value}" for name, value in line.items()), flush=True)
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")
