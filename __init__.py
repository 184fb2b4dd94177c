"""ComfyUI-SaFa: long audio and wide panoramas out of models trained on short clips and small pictures."""

from importlib.util import find_spec

WEB_DIRECTORY = "./web"  # help pages: web/docs

if find_spec("comfy_api"):
    from .nodes import comfy_entrypoint

    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
