"""What SyncDiffusion compares: decoded views, by the VAE's own features or by LPIPS with the user's backbone."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import safetensors
import torch

import comfy.utils
import folder_paths

from ...safa_core.methods.lpips import backbone_name, load_backbone
from ...safa_core.methods.perceptual import gram_distance, gram_matrix
from ..mel_vae import mel_vae
from .differentiable import levels

FOLDER = "perceptual"
VAE_FEATURES = "VAE features"
ENDINGS = (".safetensors", ".pth", ".pt")

folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))


def backbones() -> list[str]:
    """What the node offers: the VAE's own features, and every file of weights in models/perceptual."""
    files = folder_paths.get_filename_list(FOLDER)
    return [VAE_FEATURES, *(name for name in files if name.lower().endswith(ENDINGS))]


ToDistance = Callable[[torch.Tensor], torch.Tensor]  # a denoised latent -> its distance [B]


class Pictures:
    """A VAE's decoder as a differentiable function, its result a picture [B, 3, H, W] in 0 ... 1.

    vae: the host's, for pictures, or the audio loader's. process_out: the model's latents to the VAE's. A mel
    spectrogram becomes grey, from the quietest to the loudest place of the anchor's.
    """

    def __init__(self, vae: Any, process_out: Callable[[torch.Tensor], torch.Tensor]):
        self.vae, self.process_out = vae, process_out

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """What the decoder gives for a latent in the model's scale: [B, 3, H, W] in 0 ... 1, or mel [B, 1, T, F]."""
        vae = self.vae
        latent = self.process_out(latent).to(vae.device, vae.vae_dtype)
        if mel_vae(vae) is not None:
            return vae.first_stage_model.decode(latent, return_dict=False)[0].float()
        return vae.process_output(vae.first_stage_model.decode(latent).float())

    def scaled_to(self, anchor: torch.Tensor) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
        """(the anchor's picture, function of a latent that gives its picture on the anchor's scale)."""
        first = self.decode(anchor)
        if first.shape[1] == 3:
            return first, self.decode
        low, high = first.amin(), first.amax()

        def grey(mel: torch.Tensor) -> torch.Tensor:
            return ((mel - low) / (high - low).clamp_min(1e-8)).clamp(0, 1).expand(-1, 3, -1, -1)

        return grey(first), lambda latent: grey(self.decode(latent))


class Distance(Protocol):
    """How far apart two views look; differentiable.

    modules: the networks it needs besides the VAE.
    """

    modules: tuple[torch.nn.Module, ...]

    def to(self, device: torch.device | str) -> Distance:
        """Move `modules`; returns itself."""

    def distance_to(self, pictures: Pictures, anchor: torch.Tensor) -> ToDistance:
        """The distance of denoised latents to the anchor's, both decoded by `pictures`."""


class GramDistance:
    """Gram matrices of the decoder's own features while it decodes: needs no weights but the VAE's."""

    modules: tuple[torch.nn.Module, ...] = ()

    def __init__(self, vae: Any):
        self.layers = [level[-1] for level in levels(getattr(vae.first_stage_model, "decoder", torch.nn.Module()))]
        if not self.layers:
            raise ValueError(
                "this VAE has no levels to take features from; choose an LPIPS backbone or a VAE of the AutoencoderKL "
                "kind."
            )

    def to(self, device: torch.device | str) -> GramDistance:
        return self

    def distance_to(self, pictures: Pictures, anchor: torch.Tensor) -> ToDistance:
        grams = [gram_matrix(features) for features in self._features(pictures, anchor)]
        return lambda latent: gram_distance(self._features(pictures, latent), grams)

    def _features(self, pictures: Pictures, latent: torch.Tensor) -> list[torch.Tensor]:
        with _outputs(self.layers) as outputs:
            pictures.decode(latent)
        return outputs


@contextmanager
def _outputs(layers: Iterable[torch.nn.Module]) -> Iterator[list[torch.Tensor]]:
    """What layers give while they run, in the order of running."""
    outputs: list[torch.Tensor] = []
    with ExitStack() as stack:
        for layer in layers:
            handle = layer.register_forward_hook(lambda _, given, out: outputs.append(out))
            stack.callback(handle.remove)
        yield outputs


class LpipsDistance:
    """LPIPS of two pictures, mapped to -1 ... 1: torchmetrics' heads on the user's backbone.

    name: a file in models/perceptual; ValueError where it is not there or not usable.
    """

    def __init__(self, name: str):
        self.net = _lpips(name)
        self.modules = (self.net,)

    def to(self, device: torch.device | str) -> LpipsDistance:
        with torch.inference_mode(False):
            self.net.to(device)
        return self

    def distance_to(self, pictures: Pictures, anchor: torch.Tensor) -> ToDistance:
        target, picture = pictures.scaled_to(anchor)
        return lambda latent: self.net(2 * picture(latent) - 1, 2 * target - 1).flatten(1).sum(1)


def perceptual_distance(backbone: str, vae: Any) -> Distance:
    """The distance for a choice of `backbones`; refuses what is not there or not usable (ValueError)."""
    return GramDistance(vae) if backbone == VAE_FEATURES else LpipsDistance(backbone)


def _lpips(name: str) -> torch.nn.Module:
    weights, kind = _backbone(name)
    try:
        from torchmetrics.functional.image.lpips import _LPIPS  # takes a second
    except ImportError as error:
        raise ValueError(
            f"LPIPS needs the package torchmetrics (pip install torchmetrics); install it, or choose {VAE_FEATURES}."
        ) from error
    with torch.inference_mode(False):
        try:
            network = load_backbone(_LPIPS(net=kind, pnet_rand=True), weights)
        except (KeyError, RuntimeError) as error:
            raise ValueError(
                f"models/{FOLDER}/{name} is not torchvision's {kind} backbone ({error}); put its weights there."
            ) from error
    return network.eval().requires_grad_(False)


def _backbone(name: str) -> tuple[dict[str, torch.Tensor], str]:
    """(weights of a file in models/perceptual, torchmetrics' name of their network)."""
    path = folder_paths.get_full_path(FOLDER, name) if name in backbones() else None
    if path is None:
        raise ValueError(
            f"there is no backbone {name!r} in models/{FOLDER}; put torchvision's vgg16 weights there "
            f"(.safetensors or .pth), or choose {VAE_FEATURES}."
        )
    try:
        weights = comfy.utils.load_torch_file(path, safe_load=True)
    except (safetensors.SafetensorError, pickle.UnpicklingError, ValueError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"models/{FOLDER}/{name} is cut off or no file of weights; put it there again.") from error
    kind = backbone_name(weights)
    if kind is None:
        raise ValueError(
            f"models/{FOLDER}/{name} holds none of torchvision's vgg16, alexnet and squeezenet1_1; put vgg16 there."
        )
    return weights, kind
