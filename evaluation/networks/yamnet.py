"""YAMNet's TensorFlow Lite file as the tensors of `scores.yamnet.Network`."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import torch

from ..scores.yamnet import CLASSES
from .tflite import Tensor, tensors

LABELS = "yamnet_label_list.txt"  # in the zip archive that the file ends with
WINDOW, FILTERS, OFFSET, ENTRY = 11, 22, 23, 28  # numbers of the file's tensors; its sha256 is known
FIRST, LAYERS, POOLED, FULL = 33, 27, 115, 116  # a convolution is weight, bias and result


def convert(data: bytes) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """(weights, metadata) for a .safetensors file; the 8-bit integers as the values that they stand for."""
    listed = tensors(data)
    weights = {"window": listed[WINDOW].value, "filters": listed[FILTERS].value, "offset": listed[OFFSET].value}
    weights |= _step("entry", listed[ENTRY]) | _step("pooled", listed[POOLED])
    for i in range(LAYERS):
        kernel, bias, result = listed[FIRST + 3 * i : FIRST + 3 * i + 3]
        axis = kernel.shape.index(len(bias.scale)) if kernel.shape[0] == 1 else 0
        values = np.moveaxis(_values(kernel, axis), axis, 0)  # depthwise: [1, 3, 3, channels], else [out, 3, 3, in]
        depthwise = axis == 3
        weights[f"layers.{i}.weight"] = values.transpose(0, 1, 2, 3) if depthwise else values.transpose(0, 3, 1, 2)
        weights[f"layers.{i}.bias"] = _values(bias, 0)
        weights |= _step(f"layers.{i}.step", result)
    weights["classes.weight"] = _values(listed[FULL], 0)
    weights["classes.bias"] = _values(listed[FULL + 1], 0)
    labels = zipfile.ZipFile(io.BytesIO(data)).read(LABELS).decode().strip()
    return {name: torch.tensor(np.ascontiguousarray(value, np.float32)) for name, value in weights.items()}, {
        CLASSES: labels
    }


def _step(name: str, tensor: Tensor) -> dict[str, np.ndarray]:
    return {f"{name}.scale": tensor.scale.reshape(()), f"{name}.zero": tensor.zero.reshape(())}


def _values(tensor: Tensor, axis: int) -> np.ndarray:
    """The numbers that integers stand for; their scales lie along `axis`, or are one."""
    scale = np.expand_dims(tensor.scale.astype(np.float64), tuple(i for i in range(len(tensor.shape)) if i != axis))
    return tensor.value * (scale if len(tensor.scale) > 1 else tensor.scale.astype(np.float64))
