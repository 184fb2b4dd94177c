"""What is known of a model before it is loaded: from the names and shapes in its file's header."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

import folder_paths
from comfy import model_detection
from comfy.supported_models_base import BASE

from ..audio.fields import Kind, UnetFields, VaeFields, VocoderFields, checked
from ..audio.folder import INDEX, audio_models, class_of, read_json
from ..audio.shapes import audio_latent, read_mel
from .model_facts import ModelFacts, facts_of, measure_of

FILES = ("checkpoints", "diffusion_models")  # the host's folders; the third one is the pack's own of whole folders
AUDIO_MODELS = "audio_models"
# The values, and not only the shapes, that the host looks at to tell what a network predicts.
LOOKED_AT = "output_blocks.11.1.transformer_blocks.0.norm1.bias"


def facts_before(folder: str, name: str) -> ModelFacts | None:
    """The facts of a model in one of ComfyUI's folders; None where they are not known before it is loaded.

    Refuses a model that makes no canvas (ValueError).
    """
    if folder == AUDIO_MODELS:
        return _of_audio_folder(name)
    path = folder_paths.get_full_path(folder, name) if folder in FILES else None
    if path is None or not path.endswith((".safetensors", ".sft")):
        return None
    weights, metadata = _header(path)
    prefix = model_detection.unet_prefix_from_state_dict(weights)
    config = model_detection.model_config_from_unet(weights, prefix, metadata=metadata)
    if config is None:  # the prefix is of a checkpoint, the file may hold the network alone
        prefix = ""
        config = model_detection.model_config_from_unet(weights, prefix, metadata=metadata)
    if config is None:
        return None
    return facts_of(config, config.latent_format, _prediction(config, weights, prefix))


def _header(path: str) -> tuple[dict[str, torch.Tensor], dict | None]:
    """(weights without memory, metadata) of a safetensors file; single numbers, and what is looked at, as they are."""
    weights = {}
    try:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118
                part = file.get_slice(key)
                shape = part.get_shape()
                if not shape or key.endswith(LOOKED_AT):
                    weights[key] = file.get_tensor(key)
                else:
                    weights[key] = torch.empty(shape, dtype=_dtype(part.get_dtype()), device="meta")
            metadata = file.metadata()
    except (OSError, SafetensorError):
        return {}, None
    return weights, metadata


def _dtype(name: str) -> torch.dtype:
    """safetensors' name of a type as torch's; detection asks only whether it is one of eight bits."""
    return {"F32": torch.float32, "BF16": torch.bfloat16, "F8_E4M3": torch.float8_e4m3fn}.get(name, torch.float16)


def _prediction(config: BASE, weights: dict[str, torch.Tensor], prefix: str) -> str:
    """The host's name of what the network predicts."""
    return config.model_type(weights, prefix).name


def _of_audio_folder(name: str) -> ModelFacts | None:
    """The facts of a folder in diffusers' layout, from its configurations; None for another layout."""
    path = audio_models().get(name)
    if path is None or not (path / INDEX).is_file():
        return None
    vocoder = _fields(VocoderFields, path / "vocoder") if class_of(read_json(path / INDEX), "vocoder") else None
    latents = audio_latent(
        _fields(UnetFields, path / "unet"), _fields(VaeFields, path / "vae"), read_mel(path, vocoder)
    )
    unit, scale = measure_of(latents)
    view = round(latents.native_seconds / scale)
    return ModelFacts(path.name, latents.latent_channels, 2, unit, scale, view, latents.rows, latents.long_axis)


def _fields(kind: type[Kind], component: Path) -> Kind:
    return checked(kind, read_json(component / "config.json"), f"{component.parent.name}/{component.name}/config.json")


def add_route() -> None:
    """GET /safa/model_facts?folder=...&name=...: the facts as JSON, for the page that draws a plan before any run.

    {"problem": sentence} for a model that makes no canvas; null where nothing is known. It tells of files that the
    page's own loaders list, and nothing else.
    """
    from aiohttp import web
    from server import PromptServer  # starts with a running server only

    if not hasattr(PromptServer, "instance"):  # a program that loads nodes and serves no page
        return

    @PromptServer.instance.routes.get("/safa/model_facts")
    async def model_facts(request: web.Request) -> web.Response:
        folder, name = request.query.get("folder", ""), request.query.get("name", "")
        try:
            facts = await asyncio.to_thread(facts_before, folder, name)
        except ValueError as error:
            return web.json_response({"problem": str(error)})
        return web.json_response(None if facts is None else for_page(facts))


def for_page(facts: ModelFacts) -> dict[str, Any]:
    """Facts as the page reads them, under the names that the planner's own output has."""
    known = asdict(facts)
    return {"model": known.pop("name"), "native_view": known.pop("view"), **known}
