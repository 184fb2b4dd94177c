"""LPIPS (Zhang et al., 2018): torchvision's weights in the network of the package torchmetrics, which brings the heads.

The network itself is the caller's, `torchmetrics.functional.image.lpips._LPIPS(net=name, pnet_rand=True)`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

# a weight that only one of torchvision's networks has, tried in this order -> torchmetrics' name of the network
NETWORKS = {
    "features.28.weight": "vgg",
    "features.12.squeeze.weight": "squeeze",
    "features.10.weight": "alex",
}


def backbone_name(weights: Mapping[str, torch.Tensor]) -> str | None:
    """torchmetrics' name of the network with these weights; None unless vgg16, alexnet or squeezenet1_1."""
    return next((name for key, name in NETWORKS.items() if key in weights), None)


def load_backbone(network: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """The LPIPS network with torchvision's weights in its backbone, in float32.

    network: torchmetrics' for `backbone_name(weights)`; changed in place and returned. Raises KeyError or RuntimeError
    where weights are missing or of another shape.
    """
    backbone = network.get_submodule("net")
    backbone.load_state_dict({key: weights[_torchvision_key(key)].float() for key in backbone.state_dict()})
    return network


def _torchvision_key(key: str) -> str:
    """slice1.0.weight (squeezenet: slices.0.0.weight) is features.0.weight."""
    levels = 2 if key.startswith("slices.") else 1
    return "features." + key.split(".", levels)[levels]
