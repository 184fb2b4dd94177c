"""Loop VAE Decode: the picture of a loop, without a seam where its ends meet."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch

from comfy_api.latest import io, ui

from ...safa_core.sound.circular import circular, crop_ring, pad_ring, wrap_obstacle
from ..canvas import Canvas
from ..errors import named
from ..mel_vae import check_latent, check_vae
from ..node_text import show_text, text_output
from ..sockets import CATEGORY, SaFaPlan

NAME = "Loop VAE Decode"
PADDING = 16  # latents from the other side, as wide as the overlap of the host's own tiled decode
TEST_LONG, TEST_SHORT = 16, 8  # latents of the test picture
TEST_ROLL = 5  # latents that it is rolled by
TILED_DECODES = ("decode_tiled_", "decode_tiled_1d", "decode_tiled_3d", "_decode_tiled_owned")


def decode_loop(vae: Any, latent: torch.Tensor, axis: int, what: str = "picture") -> tuple[torch.Tensor, str]:
    """Decode a latent whose ends meet along `axis`.

    vae:    the host's VAE; its own `decode` loads, batches, and falls back to tiles when memory runs out.
    latent: [B, C, ...]; `axis` is counted from the back, -1 for the last dimension.
    what:   "picture" or "sound", the word for the result in the line of text.
    Returns the result as `vae.decode` gives it (channels last; pictures in 0 to 1) and one line on how it was decoded.
    """
    obstacle = _obstacle(vae, axis)
    error = 0.0
    if obstacle is None:
        error = _roll_error(vae, latent, axis)
        if not error <= _rounding(vae.vae_dtype):
            obstacle = f"a rolled test latent gave a {what} that differs by {error:.2g}"
    if obstacle is None:
        picture, difference = _decode_circular(vae, latent, axis)
        if difference is None:
            dtype = str(vae.vae_dtype).removeprefix("torch.")
            return picture, (
                f"circular: exact but for rounding in {dtype} (a rolled test latent gave the rolled {what}, "
                f"differing by at most {error:.1g} of the value range)"
            )
        obstacle = "memory ran out and the host decoded in tiles"
    else:
        picture, difference = _decode_padded(vae.decode, latent, axis, axis - 1)
    return picture, (
        f"padded by {PADDING} latents from the other side and cropped, because {obstacle}; the two ends differ by at "
        f"most {difference:.2g} of the value range where both were decoded"
    )


def _obstacle(vae: Any, axis: int) -> str | None:
    if vae.handles_tiling:
        return "the VAE cuts its input into tiles itself"
    return wrap_obstacle(vae.first_stage_model, axis)


def _rounding(dtype: torch.dtype) -> float:
    """The largest difference of two decodings of a column that is rounding; without a ring it is 0.16 to 1."""
    return max(0.01, 16 * torch.finfo(dtype).eps)


def _roll_error(vae: Any, latent: torch.Tensor, axis: int) -> float:
    """How far a small latent, rolled, is from decoding to its picture, rolled: finds what a look at layers cannot."""
    shape = [1, latent.shape[1], *(min(size, TEST_SHORT) for size in latent.shape[2:])]
    shape[axis] = TEST_LONG
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with circular(vae.first_stage_model, axis):
        picture = vae.decode(noise)
        rolled = vae.decode(noise.roll(TEST_ROLL, axis))
    step = picture.shape[axis - 1] // TEST_LONG
    return (picture.roll(TEST_ROLL * step, axis - 1) - rolled).abs().max().item()


def _decode_padded(
    decode: Callable, latent: torch.Tensor, axis: int, picture_axis: int, *args: Any, **kwargs: Any
) -> tuple[torch.Tensor, float]:
    """Decode with PADDING latents from the other side: (picture, how far the two ends differ)."""
    picture = decode(pad_ring(latent, axis, PADDING), *args, **kwargs)
    return crop_ring(picture, picture_axis, latent.shape[axis], PADDING)


def _decode_circular(vae: Any, latent: torch.Tensor, axis: int) -> tuple[torch.Tensor, float | None]:
    """Decode with circular convolutions: (picture, None), or as `_decode_padded` if the host falls back to tiles.

    A tile is no ring: its convolutions must be the ordinary ones again, over a latent that was padded as a whole. The
    fallback happens inside `vae.decode`, so a copy of the VAE object (the model itself is shared) gets its own.
    """
    differences = []
    ring_vae = copy.copy(vae)
    with ExitStack() as ring:
        ring.enter_context(circular(vae.first_stage_model, axis))

        def padded(tiled_decode: Callable) -> Callable:
            def decode(samples: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
                ring.close()
                picture, difference = _decode_padded(tiled_decode, samples, axis, axis, *args, **kwargs)
                differences.append(difference)
                return picture

            return decode

        for name in TILED_DECODES:
            setattr(ring_vae, name, padded(getattr(vae, name)))
        picture = ring_vae.decode(latent)
    return picture, differences[0] if differences else None


class SaFaLoopDecode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaFaLoopDecode",
            display_name=NAME,
            category=CATEGORY,
            description="Decodes a loop (a 360° panorama) without a seam where its right end meets its left. Along the "
            "long axis the VAE's convolutions run around the ring, so that rolling the latent rolls the picture. "
            "Where a VAE does not allow that, the latent is padded from the other side and the picture cropped; the "
            "node then says by how much the ends differ. Without a loop in the plan it decodes like VAE Decode.",
            search_aliases=["safa", "seamless decode", "tileable", "circular vae", "360 panorama", "vae decode loop"],
            inputs=[
                io.Vae.Input("vae", tooltip="The VAE of the model that made the latent, for pictures."),
                io.Latent.Input("latent", tooltip="The canvas to decode: as long as the plan, in latent columns."),
                SaFaPlan.Input("plan", tooltip="The plan of the canvas: it knows the long axis and whether it loops."),
            ],
            outputs=[io.Image.Output("image", tooltip="The picture, as many pixels as the plan asked for.")],
            has_intermediate_output=True,  # what it says is shown again when its result comes from the cache
        )

    @classmethod
    def execute(cls, vae: Any, latent: dict, plan: Canvas) -> io.NodeOutput:
        canvas = plan
        samples = latent["samples"]
        with named(NAME):
            canvas.check(samples)
            check_vae(vae, "pictures")
            check_latent(vae, samples)
        if canvas.plan.loop:
            picture, text = decode_loop(vae, samples, canvas.axis_in(samples) - samples.ndim)
        else:
            picture = vae.decode(samples)
            text = "the plan has no loop: decoded as VAE Decode does"
        if picture.ndim == 5:
            picture = picture.reshape(-1, *picture.shape[-3:])
        show_text(text)
        ring = {
            "images": ui.PreviewImage(picture, cls=cls).as_dict()["images"],
            "axis": "width" if canvas.axis_in(samples) == samples.ndim - 1 else "height",
            "loop": canvas.plan.loop,
        }
        return io.NodeOutput(picture, ui={**text_output(text), "safa_ring": [ring]})
