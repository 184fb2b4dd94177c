"""The host's nodes that move a model to another device or split its work: copies of the loader's weights.

The second device is another name of the CPU, cpu:0, so that the numbers must be the same.
"""

import copy
import logging

import pytest
import torch

import comfy.model_management
from comfy_extras.nodes_multigpu import (
    MultiGPUCFGSplitNode,
    SelectModelDeviceNode,
    SelectVAEDeviceNode,
    _retarget_patcher,
)

from safa_pack.nodes.audio.loader import load_audio_model
from safa_pack.nodes.audio.vae import LibraryModel
from safa_pack.nodes.canvas import Canvas
from safa_pack.nodes.decode.mel_decode import SaFaMelDecode
from safa_pack.safa_core import SwapJoin, plan_views
from safa_pack.tests import tiny_audio
from safa_pack.tests.nodes import harness

pytestmark = pytest.mark.host

COLUMNS, VIEW = 40, 16
HERE, THERE = torch.device("cpu"), torch.device("cpu:0")


@pytest.fixture(autouse=True)
def two_devices(monkeypatch, caplog):
    """A machine with two; what a node cannot move it passes on with a warning."""
    monkeypatch.setattr(
        comfy.model_management,
        "get_all_torch_devices",
        lambda exclude_current=False: [THERE] if exclude_current else [HERE, THERE],
    )
    with torch.inference_mode(), caplog.at_level(logging.INFO):
        yield
    assert "passing through unchanged" not in caplog.text


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return load_audio_model(tiny_audio.audioldm(tmp_path_factory.mktemp("audio") / "tiny"))


def plan(model):
    rows = model.model.latent_format.rows
    return Canvas(plan_views(COLUMNS, VIEW, 0.25), (8, COLUMNS, rows), 2, "seconds", 0.04)


def sampled(model, clip):
    canvas = plan(model)
    prompts = {name: clip.encode_from_tokens_scheduled(clip.tokenize(name)) for name in ("positive", "negative")}
    patched = harness.patched(model.clone(), canvas, SwapJoin(), harness.guide_of(axis="frames"))
    return harness.ksampler(patched, harness.empty(canvas), steps=3, **prompts)


def weights(model):
    return [value.data_ptr() for value in model.model.parameters()]


def test_multigpu_cfg_split_samples_the_loaders_model_on_both_devices(loaded):
    model, clip, _ = loaded
    expected = sampled(model, clip)
    split = MultiGPUCFGSplitNode.execute(model, 2).args[0]
    (second,) = split.get_additional_models_with_key("multigpu")
    assert (split.load_device, second.load_device) == (HERE, THERE)
    assert not set(weights(split)) & set(weights(second))
    ran = []
    for patcher in (split, second):
        network = patcher.model.diffusion_model
        network.register_forward_hook(lambda module, args, out: ran.append(id(module)))
    assert (sampled(split, clip) - expected).abs().max() <= 1e-5 * expected.abs().max()  # smaller batches round anew
    assert len(set(ran)) == 2


def moved_there(patcher):
    """What Select Model, CLIP and VAE Device do for a GPU; for any CPU they have a shorter way."""
    return _retarget_patcher(patcher.clone(), THERE, HERE)


def test_the_model_on_another_device_is_a_copy_with_the_same_live_spectrogram(loaded):
    model, clip, _ = loaded
    expected = sampled(model, clip)
    moved = moved_there(model)
    assert moved.load_device == THERE and not set(weights(model)) & set(weights(moved))
    assert torch.equal(sampled(moved, clip), expected)
    assert moved.model.latent_format is model.model.latent_format


@pytest.mark.parametrize("device", ["cpu", "default"])
def test_select_model_device_takes_the_loaders_model(loaded, device):
    model, clip, _ = loaded
    assert torch.equal(sampled(SelectModelDeviceNode.execute(model, device).args[0], clip), sampled(model, clip))


def test_the_text_encoder_on_another_device_is_a_copy(loaded):
    _, clip, _ = loaded
    moved = moved_there(clip.patcher)
    assert moved.load_device == THERE and not set(weights(clip.patcher)) & set(weights(moved))


@pytest.mark.parametrize("move", [lambda patcher: patcher.clone(), moved_there])
def test_the_vae_decodes_and_encodes_as_select_vae_device_leaves_it(loaded, move):
    model, _, vae = loaded
    latent = {"samples": torch.randn(1, 8, COLUMNS, model.model.latent_format.rows)}
    expected = SaFaMelDecode.execute(vae, latent, plan(model)).args[0]["waveform"]
    moved = copy.copy(vae)
    moved.patcher = move(vae.patcher)
    moved.first_stage_model, moved.device = moved.patcher.model, moved.patcher.load_device
    assert torch.equal(SaFaMelDecode.execute(moved, latent, plan(model)).args[0]["waveform"], expected)
    sound = expected.movedim(1, -1)
    assert torch.equal(moved.encode(sound), vae.encode(sound))


def test_select_vae_device_takes_the_loaders_vae(loaded):
    vae = SelectVAEDeviceNode.execute(loaded[2], "default").args[0]
    assert not isinstance(vae.first_stage_model, LibraryModel)
    assert vae.encode(torch.randn(1, 16000, 1)).shape[1] == 8


@pytest.mark.parametrize("part", ["MODEL", "CLIP", "VAE"])
def test_a_copy_of_the_hosts_plain_kind_is_made_where_the_host_asks_for_it(loaded, part):
    model, clip, vae = loaded
    patcher = {"MODEL": model, "CLIP": clip.patcher, "VAE": vae.patcher}[part]
    make, arguments = patcher.cached_patcher_init
    again = make(*arguments, disable_dynamic=True)
    assert not again.is_dynamic() and not set(weights(again)) & set(weights(patcher))
    for ours, others in zip(again.model.parameters(), patcher.model.parameters(), strict=True):
        assert torch.equal(ours, others)
