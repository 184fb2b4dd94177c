"""FID's Inception out of a TorchScript archive, and VGG16 and AlexNet out of a pickle of NumPy's arrays."""

from __future__ import annotations

import torch

from .arrays import script_tensors, unpickled_arrays

CLASSES = 1008  # of FID's Inception; the archive has no logits, which FID does not need
PLACES = {  # of the convolutions in torchvision's `features`
    "VGG16_0": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    "AlexNet_0": (0, 3, 6, 8, 10),
}
NORM = {"weight": "conv.weight", "beta": "bn.bias", "mean": "bn.running_mean", "var": "bn.running_var"}


def inception(data: bytes) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """(torchvision's names -> weights, no metadata): both have their 94 convolutions in the same order."""
    from torchvision.models import inception_v3

    with torch.device("meta"):
        network = inception_v3(weights=None, num_classes=CLASSES, aux_logits=False, init_weights=False)
    theirs = list(script_tensors(data).items())
    blocks = [name for name, part in network.named_modules() if hasattr(part, "bn")]
    weights = {"fc.weight": torch.zeros(CLASSES, 2048), "fc.bias": torch.zeros(CLASSES)}
    for i, block in enumerate(blocks):
        for name, value in theirs[len(NORM) * i : len(NORM) * (i + 1)]:
            weights[f"{block}.{NORM[name.rpartition('.')[2]]}"] = value
        weights[f"{block}.bn.weight"] = torch.ones_like(weights[f"{block}.bn.bias"])
        weights[f"{block}.bn.num_batches_tracked"] = torch.tensor(0)
    return weights, {}


def backbone(data: bytes) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """(torchvision's names -> weights, no metadata) of LPIPS's backbone; JAX has a kernel's channels last."""
    arrays = unpickled_arrays(data)
    name = next(name for name in PLACES if name in arrays)
    weights = {}
    for i, place in enumerate(PLACES[name]):
        layer = arrays[name][f"Conv_{i}"]
        weights[f"features.{place}.weight"] = torch.tensor(layer["kernel"]).permute(3, 2, 0, 1).contiguous()
        weights[f"features.{place}.bias"] = torch.tensor(layer["bias"])
    return weights, {}
