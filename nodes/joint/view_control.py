"""ControlNet hints per window: the host would give every window the centre of the whole hint.

Each group of windows gets a copy of the control, by the host's own `copy`, whose hint is a batch of pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

import comfy.utils
from comfy.controlnet import ControlBase, ControlLora

from .windows import Chosen, Windows


class ViewControls:
    """The controls of one sampling, copied for groups of windows; the weights are shared and the user's stay as are."""

    def __init__(self, windows: Windows):
        self.windows = windows
        self._copies: dict[tuple[int, Chosen], tuple[ControlBase, ControlBase]] = {}
        self._hints: dict[int, list[torch.Tensor]] = {}

    def for_windows(self, model: torch.nn.Module, control: ControlBase, windows: Chosen) -> ControlBase:
        """The control with the hints of these windows, ready to run on the model."""
        key = id(control), windows
        if key not in self._copies:
            self._copies[key] = control, self._copy(model, control, windows)
        return self._copies[key][1]

    def close(self) -> None:
        """Let go of what the copies made for their run."""
        for _, copy in self._copies.values():
            copy.cleanup()
        self._copies.clear()

    def _copy(self, model: torch.nn.Module, control: ControlBase, windows: Chosen) -> ControlBase:
        copy, alone = control.copy(), len(windows) == 1
        if isinstance(control, ControlLora):  # its pre_run builds a network; copies share the one there is
            vars(copy).update({k: v for k, v in vars(control).items() if k not in vars(copy) or k == "timestep_range"})
        else:
            copy.pre_run(model, model.model_sampling.percent_to_sigma)
        pixels = _pixels(control)
        hint, *extra = (
            h if h is None else self.windows.cut(h, windows, pixels, alone) for h in self._on_canvas(control)
        )
        copy.cond_hint_original, copy.extra_concat_orig = hint, extra
        if control.vae is not None and not alone:
            copy.vae = PieceByPiece(control.vae)
        of_device = {p.load_device: p.model for p in model.current_patcher.get_additional_models_with_key("multigpu")}
        for device, clone in control.multigpu_clones.items():
            copy.multigpu_clones[device] = self._copy(of_device.get(device, model), clone, windows)
        if control.previous_controlnet is not None:
            copy.set_previous_controlnet(self._copy(model, control.previous_controlnet, windows))
        return copy

    def _on_canvas(self, control: ControlBase) -> list[torch.Tensor]:
        """The control's hint and what is concatenated to it, at the canvas's size in pixels."""
        if id(control) not in self._hints:
            height, width = (size * _pixels(control) for size in self.windows.dims[-2:])
            self._hints[id(control)] = [
                h if h is None else comfy.utils.common_upscale(h, width, height, control.upscale_algorithm, "center")
                for h in (control.cond_hint_original, *control.extra_concat_orig)
            ]
        return self._hints[id(control)]


class PieceByPiece:
    """A VAE that encodes the pictures of a batch one by one: one for video would take them for frames."""

    def __init__(self, vae: Any):
        self.vae = vae

    def __getattr__(self, name: str) -> Any:
        return getattr(self.vae, name)

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """IMAGE [N, H, W, C] -> latents [N, ...]."""
        return torch.cat([self.vae.encode(picture) for picture in pictures.split(1)])


def _pixels(control: ControlBase) -> int:
    """Hint pixels per latent."""
    ratio = control.compression_ratio
    return ratio if control.vae is None else ratio * control.vae.spacial_compression_encode()


def is_video(control: ControlBase) -> bool:
    """Whether the hint of a control, or of one before it, is a video: the host encodes its pictures as frames."""
    return any(
        c.vae is not None
        and getattr(c.vae, "latent_dim", 2) == 3
        and not getattr(c.vae, "not_video", False)
        and c.cond_hint_original is not None
        and len(c.cond_hint_original) > 1
        for c in _chain(control)
    )


def _chain(control: ControlBase | None) -> Iterator[ControlBase]:
    """The control and those before it."""
    while control is not None:
        yield control
        control = control.previous_controlnet
