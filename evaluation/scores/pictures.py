"""Networks for pictures: FID's Inception, LPIPS, and the first layers of VGG for the style loss."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn.functional import avg_pool2d, conv2d, interpolate, max_pool2d, relu

from ...safa_core.methods.lpips import backbone_name, load_backbone
from .backbones import Backbone, device, ready, state

SIDE = 299  # pixels of Inception's input
TENSORFLOW = ("5b", "5c", "5d", "6b", "6c", "6d", "6e", "7b")  # blocks that average without their padding
STYLE = (0, 2, 5, 7, 10)  # the first five convolutions of VGG in torchvision's numbering
POOLED = (5, 10)  # those that a pooling precedes
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, torchvision


def as_bytes(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures in 0 ... 1 as the 8-bit numbers that a file of them would hold."""
    return (pictures * 255).round().to(torch.uint8)


def _pooled_otherwise(block, pool) -> None:
    """The block's pooling branch gets pool(the block's input) in place of torchvision's padded average."""
    given = []
    block.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    block.branch_pool.register_forward_pre_hook(lambda _, inputs: pool(given.pop()))


class Inception:
    """The network of FID (Heusel et al., 2017): torchvision's InceptionV3 with TensorFlow's pooling and weights.

    Blocks average over what lies inside the picture, and the last one takes the maximum.
    """

    def __init__(self, path: Path):
        from torchvision.models import inception_v3

        weights = state(path)
        classes = weights["fc.weight"].shape[0]
        if classes != 1008:
            raise ValueError(f"expected FID's weights with 1008 classes, got {classes}")
        network = inception_v3(weights=None, num_classes=classes, aux_logits=False, init_weights=False)
        for name in TENSORFLOW:
            _pooled_otherwise(
                getattr(network, f"Mixed_{name}"), lambda x: avg_pool2d(x, 3, 1, 1, count_include_pad=False)
            )
        _pooled_otherwise(network.Mixed_7c, lambda x: max_pool2d(x, 3, 1, 1))
        self.network = ready(network, weights)
        self.network.fc = torch.nn.Identity()

    def windows(self, batch: torch.Tensor, rate: None) -> dict[str, torch.Tensor]:
        """Pictures [N, 3, H, W] in 0 ... 1 -> embedding [N, 2048]."""
        pictures = as_bytes(batch).float() / 255
        small = interpolate(pictures, (SIDE, SIDE), mode="bilinear", align_corners=False)  # as pytorch-fid
        return {"embedding": self.network(2 * small - 1)}


class Lpips:
    """LPIPS with VGG16 or AlexNet (Zhang et al., 2018): torchmetrics' heads on the user's backbone."""

    def __init__(self, path: Path):
        from torchmetrics.functional.image.lpips import _LPIPS

        weights = state(path)
        kind = backbone_name(weights)
        if kind is None:
            raise ValueError("expected torchvision's vgg16 or alexnet")
        self.network = ready(load_backbone(_LPIPS(net=kind, pnet_rand=True), weights))

    def distance(self, a: torch.Tensor, b: torch.Tensor) -> float:
        """Of two pictures [3, H, W] in 0 ... 1."""
        return float(self.network(2 * a[None] - 1, 2 * b[None] - 1))


class Style:
    """The first five convolutions of VGG, before their rectifiers, as SyncDiffusion's evaluation takes them."""

    def __init__(self, path: Path):
        weights = state(path)
        self.layers = []
        for number in STYLE:
            weight, bias = (weights[f"features.{number}.{part}"].float() for part in ("weight", "bias"))
            self.layers.append((number, weight.to(device()), bias.to(device())))

    def maps(self, picture: torch.Tensor) -> list[torch.Tensor]:
        """Picture [3, H, W] in 0 ... 1 -> feature maps [C, h, w] of the five layers."""
        mean, spread = (torch.tensor(v, device=picture.device)[:, None, None] for v in (MEAN, SPREAD))
        maps = []
        x = ((picture - mean) / spread)[None]
        for number, weight, bias in self.layers:
            x = conv2d(max_pool2d(x, 2) if number in POOLED else x, weight, bias, padding=1)
            maps.append(x[0])
            x = relu(x)
        return maps


INCEPTION = Backbone(
    "inception",
    "evaluation/inception",
    "pt_inception-2015-12-05-6726825d.pth of pytorch-fid (github.com/mseitzer/pytorch-fid, releases)",
    Inception,
    fetched=True,
)
LPIPS = Backbone(
    "lpips",
    "perceptual",
    "vgg16-397923af.pth of torchvision (download.pytorch.org/models)",
    Lpips,
    prefix="vgg16",
    package="torchmetrics",
    fetched=True,
)
ALEXNET = Backbone(
    "lpips@alexnet",
    LPIPS.folder,
    "alexnet-owt-7be5be79.pth of torchvision (download.pytorch.org/models)",
    Lpips,
    prefix="alexnet",
    package=LPIPS.package,
    fetched=True,
)
VGG19 = Backbone(
    "vgg19",
    "evaluation/vgg19",
    "vgg19-dcbb9e9d.pth of torchvision (download.pytorch.org/models)",
    Style,
    prefix="vgg19",
)
VGG16 = Backbone("vgg16", LPIPS.folder, LPIPS.what, Style, prefix="vgg16", fetched=True)
