"""Decoding a ring of latents without a seam where its two ends meet.

A convolution that pads with zeros is wrong for a ring only within its reach of the two ends. `circular` lets every
convolution run as it always does and then computes those few columns again from a strip in which the ends are joined.
No padded copy of a feature map is made, so a wide picture needs no more memory than without a ring.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

_CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_ALIKE_EVERYWHERE = (
    nn.Identity,
    nn.Sequential,
    nn.ModuleList,
    nn.ModuleDict,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.GroupNorm,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.PixelShuffle,
    nn.SiLU,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.GELU,
    nn.Mish,
    nn.Tanh,
    nn.Sigmoid,
    nn.Hardtanh,
    nn.Hardswish,
    nn.Softplus,
)


def decoding_layers(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """`module` and everything below it that decodes, with dotted names; a VAE's own `…encoder` is left out."""
    yield name or type(module).__name__, module
    for child_name, child in module.named_children():
        if name or not child_name.endswith("encoder"):
            yield from decoding_layers(child, f"{name}.{child_name}".lstrip("."))


def wrap_obstacle(module: nn.Module, axis: int) -> str | None:
    """Why `module` cannot decode a ring along `axis` exactly, or None where it can.

    axis: the long axis counted from the back, -1 for the last, because layers differ in the number of dimensions.

    Conservative, by inspection of every layer that decodes:
    - a convolution must have stride 1 and keep the length by its own padding, a transposed one must give exactly
      stride times the length. Causal convolutions and those whose input is padded outside (F.pad, nn.ZeroPad2d) fail;
    - of torch's other layers only those that treat every place alike pass: activations, group, batch and instance
      norms, nearest upsampling by a whole factor, pixel shuffle. Linear layers, attention over tokens and embeddings
      may know positions and fail; attention built from 1x1 convolutions passes;
    - a class of the model's own may hold parameters per channel, but no map of two or more dimensions, such as a
      learned positional embedding.
    What a `forward` computes besides its layers cannot be seen here: decode a rolled latent to be certain.
    """
    for name, layer in decoding_layers(module):
        reason = _layer_obstacle(layer, axis)
        if reason is not None:
            return f"{name} ({type(layer).__name__}) {reason}"
    return None


@contextmanager
def circular(module: nn.Module, axis: int) -> Iterator[None]:
    """Inside the block every convolution of `module` that decodes is circular along `axis`, and only there.

    axis: the long axis counted from the back, -1 for the last. Only instances are touched, never a class, and they
    are restored however the block ends. Raises ValueError for a module with a `wrap_obstacle`.
    """
    if axis >= 0:
        raise ValueError(f"Expected `axis` counted from the back (-1 is the last), got {axis}.")
    obstacle = wrap_obstacle(module, axis)
    if obstacle is not None:
        raise ValueError(f"Expected a module that can wrap along axis {axis}, but {obstacle}; pad and crop instead.")
    with ExitStack() as restore:
        for layer in dict.fromkeys(layer for _, layer in decoding_layers(module)):
            if isinstance(layer, _CONV + _TRANSPOSED):
                _make_circular(layer, axis, restore)
        yield


def pad_ring(x: torch.Tensor, axis: int, amount: int) -> torch.Tensor:
    """`x` with `amount` columns from the other side at each end of `axis`: length + 2·amount columns."""
    index = torch.arange(-amount, x.shape[axis] + amount, device=x.device) % x.shape[axis]
    return x.index_select(axis, index)


def crop_ring(decoded: torch.Tensor, axis: int, length: int, amount: int) -> tuple[torch.Tensor, float]:
    """Cut a ring of `length` latents out of what `pad_ring(…, amount)` was decoded to.

    axis: the long axis of `decoded`. Returns the ring and the largest absolute difference between the two decodings
    of the columns on either side of the cut: the step that the joint adds to the picture.
    """
    padded = length + 2 * amount
    size = decoded.shape[axis]
    scale = math.ceil(size / padded)
    missing = scale * padded - size  # a causal decoder gives fewer frames for its first latent
    start = scale * amount - missing
    stop = start + scale * length
    doubled = decoded.narrow(axis, start - 1, 2) - decoded.narrow(axis, stop - 1, 2)
    return decoded.narrow(axis, start, stop - start), doubled.abs().max().item()


def _layer_obstacle(layer: nn.Module, axis: int) -> str | None:
    if isinstance(layer, _CONV + _TRANSPOSED):
        return _conv_obstacle(layer, axis)
    if isinstance(layer, _ALIKE_EVERYWHERE):
        return None
    if isinstance(layer, nn.Upsample):
        whole = layer.scale_factor is not None and all(float(f).is_integer() for f in _each(layer.scale_factor))
        return None if whole and layer.mode.startswith("nearest") else "interpolates between neighbours"
    if any(base.__module__.startswith("torch.nn.") and base is not nn.Module for base in type(layer).__mro__):
        return "may treat places differently"
    tensors = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
    if any(tensor.squeeze().ndim > 1 for tensor in tensors):
        return "holds a learned map"
    return None


def _conv_obstacle(layer: nn.Module, axis: int) -> str | None:
    if -axis > len(layer.kernel_size):
        return None if set(layer.kernel_size) == {1} else "does not run along the axis"
    extent = _extent(layer, axis)
    stride = layer.stride[axis]
    padding = _padding(layer, axis)
    if isinstance(layer, _TRANSPOSED):
        exact = extent + 1 - stride + layer.output_padding[axis] == padding
        return None if exact else "does not give stride times the length"
    if stride != 1:
        return f"has stride {stride}"
    return None if padding == extent else "is causal, or padded outside the convolution"


def _make_circular(layer: nn.Module, axis: int, restore: ExitStack) -> None:
    """Replace the call of this one convolution until `restore` closes."""
    if -axis > len(layer.kernel_size):
        return
    extent = _extent(layer, axis)
    if isinstance(layer, _TRANSPOSED):
        name = "forward"
        stride = layer.stride[axis]
        cropped = layer.padding[axis]
        reach = math.ceil(max(cropped, extent - cropped) / stride)
    else:
        # torch and its subclasses all convolve in `_conv_forward`: after weights are cast and cached frames joined
        name = "_conv_forward"
        stride = 1
        reach = math.ceil(extent / 2)
    if reach:
        restore.callback(_restore, layer, name, vars(layer).get(name))
        setattr(layer, name, _with_joined_ends(getattr(layer, name), axis, reach, stride))


def _restore(layer: nn.Module, name: str, before: Callable | None) -> None:
    if before is None:
        vars(layer).pop(name, None)
    else:
        setattr(layer, name, before)


def _with_joined_ends(convolve: Callable, axis: int, reach: int, scale: int) -> Callable:
    """`convolve`, then the `reach`·`scale` outputs at each end again from 4·`reach` inputs around the joint."""

    def call(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        around = torch.arange(-2 * reach, 2 * reach, device=x.device) % x.shape[axis]
        out = convolve(x, *args, **kwargs)
        joint = convolve(x.index_select(axis, around), *args, **kwargs)
        middle = 2 * reach * scale
        size = out.shape[axis]
        wrong = min(reach * scale, size)
        out.narrow(axis, 0, wrong).copy_(joint.narrow(axis, middle, wrong))
        out.narrow(axis, size - wrong, wrong).copy_(joint.narrow(axis, middle - wrong, wrong))
        return out

    return call


def _extent(layer: nn.Module, axis: int) -> int:
    return layer.dilation[axis] * (layer.kernel_size[axis] - 1)


def _padding(layer: nn.Module, axis: int) -> int:
    """Columns that the layer pads along `axis`, both ends together."""
    if isinstance(layer.padding, str):
        return _extent(layer, axis) if layer.padding == "same" else 0
    return 2 * layer.padding[axis]


def _each(value: float | tuple) -> tuple:
    return value if isinstance(value, tuple) else (value,)
