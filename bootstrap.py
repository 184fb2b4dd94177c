"""Makes the pack and its host importable in a program that is not ComfyUI: tests, benchmarks, commands of run.py.

Standard library only until the host is asked for.
"""

import os
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ALIAS = "safa_pack"


def pack() -> None:
    """Make `safa_pack` the name of this repository, whose folder may have any name.

    Its `__init__.py`, which registers the nodes, is not run.
    """
    if ALIAS not in sys.modules:
        package = types.ModuleType(ALIAS)
        package.__path__ = [str(ROOT)]
        sys.modules[ALIAS] = package


def leave_path() -> None:
    """Take the repository off sys.path: its folder `nodes` must not be found as the host's module of that name."""
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]


def host_folder() -> Path:
    """ComfyUI's folder: what run.py says, else what run.py would choose."""
    named = os.environ.get("SAFA_COMFYUI_PATH")
    if named:
        return Path(named)
    pack()
    from safa_pack import host_setup

    return host_setup.host_folder()


def host() -> Path:
    """Put ComfyUI's folder first on sys.path and return it; on the CPU where torch sees no CUDA device.

    The repository leaves sys.path. Raises ValueError where there is no ComfyUI.
    """
    pack()
    folder = host_folder()
    if not (folder / "comfy").is_dir():
        raise ValueError(f"Expected ComfyUI in {folder}, which has none: run `python run.py setup`.")
    leave_path()
    sys.path[:] = [str(folder), *(entry for entry in sys.path if entry != str(folder))]
    import torch

    from comfy.cli_args import args

    args.cpu = args.cpu or not torch.cuda.is_available()  # read once, when comfy.model_management is imported
    return folder


def called_from() -> None:
    """Go back to the folder that run.py was called from, so that relative paths in arguments mean what they say."""
    os.chdir(os.environ.get("SAFA_CALLED_FROM", os.curdir))
