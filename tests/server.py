"""The demo's driver of a real ComfyUI server, with this pack linked in, and what tests import with it.

Imported by tests as `safa_pack.tests.server`.
"""

import os

import torch

from safa_pack import host_setup, run
from safa_pack.demo import server
from safa_pack.demo.convert import ui_to_api
from safa_pack.demo.server import PromptRefused, Result

__all__ = ["ComfyServer", "PromptRefused", "Result", "ui_to_api"]

PATIENCE = 1800  # seconds for one prompt: a machine may have other work to do


class ComfyServer(server.ComfyServer):
    """`with ComfyServer(comfyui, base) as server:` a server with this pack only, its data below `base`."""

    def __init__(self, comfyui, base, *arguments):
        pack = ["--whitelist-custom-nodes", run.PACK, "--preview-method", "latent2rgb"]
        if os.environ.get("SAFA_PAGE"):  # `run.py test --page`
            pack += ["--front-end-root", os.environ["SAFA_PAGE"]]
        super().__init__(comfyui, base, *pack, *arguments, *([] if torch.cuda.is_available() else ["--cpu"]))

    def run(self, prompt, timeout=PATIENCE, **options):
        return super().run(prompt, timeout, **options)

    def __enter__(self):
        host_setup.link_pack(self.base / "custom_nodes")
        return super().__enter__()
