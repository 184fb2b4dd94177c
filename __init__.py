"""ComfyUI-SaFa: long audio and wide panoramas out of models trained on short clips and small pictures."""

import logging
import re
from importlib.util import find_spec

OLDEST = "0.28.0"  # the ComfyUI that pyproject.toml requires


def numbers(version):
    """(0, 18, 0) of "0.18.0" and of "0.18.0-dev"."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def host_version():
    try:
        from comfyui_version import __version__
    except ImportError:  # it came with 0.3.11
        return "0.3.10 or older"
    return __version__


if find_spec("comfy"):  # else it is not ComfyUI that imports this
    if numbers(host_version()) < numbers(OLDEST):
        # no nodes, and no traceback in an old host either
        NODE_CLASS_MAPPINGS: dict[str, type] = {}
        logging.warning(
            f"ComfyUI-SaFa needs ComfyUI {OLDEST} or newer, this is {host_version()}: "
            "update ComfyUI and restart it to get the pack's nodes."
        )
    else:
        from .nodes import comfy_entrypoint

        WEB_DIRECTORY = "./web"  # help pages: web/docs
        __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
