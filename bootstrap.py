"""The pack and ComfyUI importable, for every program that is not ComfyUI: tests, evaluation, training, benchmarks."""

import os
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def add_pack() -> None:
    """Makes the repository importable as `safa_pack`.

    The folder of a pack has any name, and inside everything is imported relatively. Its own `__init__.py`, which
    registers the nodes, is not executed.
    """
    pack = types.ModuleType("safa_pack")
    pack.__path__ = [str(ROOT)]
    sys.modules.setdefault("safa_pack", pack)


def host_folder() -> Path:
    """ComfyUI's folder: the one that run.py has chosen, else the one that it would choose."""
    from safa_pack import host_setup

    return Path(os.environ.get("SAFA_COMFYUI_PATH") or host_setup.host_folder())


def add_host(folder: Path) -> None:
    """Makes ComfyUI's modules importable; on the CPU where torch sees no CUDA device.

    `nodes` and `comfy` are the host's: the repository, which has a folder `nodes`, leaves the path.
    """
    others = [entry for entry in sys.path if Path(entry or ".").resolve() not in (ROOT, folder)]
    sys.path[:] = [str(folder), *others]
    import torch

    if (folder / "comfy").is_dir() and not torch.cuda.is_available():
        from comfy.cli_args import args

        args.cpu = True  # read once, when comfy.model_management is imported
