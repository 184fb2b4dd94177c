import math

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

import comfy.latent_formats
import comfy.model_management
import latent_preview
from comfy.cli_args import LatentPreviewMethod, args

from safa_pack.nodes.audio import live_spectrogram
from safa_pack.nodes.audio.live_spectrogram import (
    QUIETEST,
    RAMPS,
    SpectrogramLatent,
    fit_linear_map,
    synthetic_latents,
    with_live_spectrogram,
)
from safa_pack.nodes.audio.loader import load_audio_model
from safa_pack.safa_core import SwapJoin
from safa_pack.safa_core.measures.linear_map import LinearMap, explained
from safa_pack.tests import tiny_audio, tiny_models
from safa_pack.tests.nodes import harness

pytestmark = pytest.mark.host

SCALE = 0.4


class MelVAE:
    """What the audio loader's VAE offers, around a real AutoencoderKL of random weights."""

    mel_bins, frames_per_column, latent_axis, log = 64, 4, 2, "ln"

    def __init__(self, seed=1):
        torch.manual_seed(seed)
        self.first_stage_model = AutoencoderKL(
            in_channels=1,
            out_channels=1,
            latent_channels=8,
            block_out_channels=(16, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            layers_per_block=1,
            norm_num_groups=8,
        ).eval()
        self.encoded = 0

    @torch.no_grad()
    def mel_to_latent(self, mel):
        self.encoded += 1
        return self.first_stage_model.encode(mel[:, None]).latent_dist.mode()


@pytest.fixture(autouse=True)
def previews(monkeypatch):
    monkeypatch.setattr(args, "preview_method", LatentPreviewMethod.Latent2RGB)
    monkeypatch.setattr(live_spectrogram, "_maps", {})


def latent_format(fit=None, long_axis=2):
    made = SpectrogramLatent()
    made.scale_factor, made.long_axis, made.fit = SCALE, long_axis, fit
    return made


def picture_of(latents, made):
    """The host's own preview of latents in the model's scale: [H, W, 3] in 0 ... 255."""
    return pixels(latent_preview.get_previewer("cpu", made).decode_latent_to_preview(latents))


def pixels(picture):
    return torch.tensor(np.asarray(picture, dtype=np.float32))


def test_the_map_of_a_real_vae_is_fitted_once_for_its_weights():
    vae = MelVAE()
    found = fit_linear_map(vae)
    latents, brightness = synthetic_latents(vae)
    assert latents.shape == (8, 8, 64, 16) and brightness.shape == (8, 256, 64)
    values = torch.nn.functional.avg_pool2d(brightness, 4)
    rows = np.concatenate([latents.movedim(1, -1).reshape(-1, 8).numpy(), np.ones((8 * 64 * 16, 1))], 1)
    solution, residual, *_ = np.linalg.lstsq(rows, values.double().flatten().numpy())
    assert [*found.weights, found.bias] == pytest.approx(solution.tolist(), rel=1e-3, abs=1e-5)
    assert found.r2 == pytest.approx(1 - residual[0] / (values.numel() * float(values.var(correction=0))), abs=1e-4)
    assert found.r2 == pytest.approx(explained(values, found(latents)), abs=1e-4) and found.r2 > 0.05
    again = MelVAE()  # the same folder loaded a second time
    assert fit_linear_map(again) is found
    assert again.encoded == 0
    assert fit_linear_map(MelVAE(seed=2)) != found


@pytest.mark.parametrize("long_axis", [2, 3])
def test_the_preview_is_the_linear_map_in_colours(long_axis):
    """Against the map written out: time to the right, low frequencies at the bottom, from black to white."""
    found = LinearMap(tuple(torch.linspace(-0.2, 0.3, 8).tolist()), 0.4, 1.0)
    z = torch.randn(2, 8, 24, 16, generator=torch.Generator().manual_seed(5))
    latents = SCALE * (z if long_axis == 2 else z.transpose(2, 3))
    seen = picture_of(latents, latent_format(lambda: found, long_axis))
    assert seen.shape == (16, 24, 3)
    values = 0.4 + (z[0].double() * torch.tensor(found.weights, dtype=torch.double)[:, None, None]).sum(0)
    low, high = np.quantile(values.numpy(), [0.02, 0.995])
    assert 20 < decibels(high - low)
    span = min(high - low, 80 / decibels(1))
    for t, f in [(0, 0), (23, 0), (5, 7), (23, 15)]:
        brightness = (values[t, f].item() - high) / span + 1
        colour = [255 * min(1, max(0, slope * brightness + offset)) for slope, offset in RAMPS]
        assert seen[15 - f, t].tolist() == pytest.approx(colour, abs=1.01)


def decibels(brightness):
    """From AudioLDM's least magnitude, 1e-5, to e squared."""
    return brightness * 20 * math.log10(math.exp(2) / 1e-5)


@pytest.mark.parametrize(("quiet", "loud"), [(0.5, 0.75), (0.1, 0.7), (-0.3, 0.3)])
def test_a_sound_is_seen_in_full_contrast_at_any_loudness(quiet, loud):
    found = LinearMap((1.0,) + (0.0,) * 7, 0.2, 1.0)
    z = torch.zeros(1, 8, 32, 16)
    z[0, 0] = torch.linspace(quiet, loud, 32)[:, None] - 0.2
    seen = picture_of(SCALE * z, latent_format(lambda: found))
    assert seen[:, 0].max() < 40 and seen[:, -1].min() > 250
    assert seen[:, 15:17].mean() == pytest.approx(128, abs=40)


def test_silence_is_not_blown_up_to_a_picture_and_nan_is_no_error():
    found = LinearMap((1.0,) + (0.0,) * 7, 0.2, 1.0)
    z = torch.zeros(1, 8, 32, 16)
    z[0, 0] = torch.linspace(0, 2 / decibels(1), 32)[:, None]  # two dB between quietest and loudest
    seen = picture_of(SCALE * z, latent_format(lambda: found))
    assert seen.mean(2).std() < 20
    assert picture_of(z * torch.nan, latent_format(lambda: found)).shape == (16, 32, 3)


def test_brightness_rises_in_every_colour():
    found = LinearMap((1.0,) + (0.0,) * 7, 0.0, 1.0)
    z = torch.zeros(1, 8, 11, 16)
    z[0, 0] = torch.linspace(0, 0.6, 11)[:, None]
    seen = picture_of(SCALE * z, latent_format(lambda: found))[0]
    assert (seen.diff(dim=0) >= 0).all() and (seen.sum(1).diff() > 0).all()
    assert seen[0].max() < 40 and seen[-1].min() > 250


@pytest.mark.parametrize(
    ("columns", "height", "width"), [(24, 16, 24), (256, 64, 256), (768, 128, 512), (90000, 128, 512)]
)
def test_pictures_of_long_sound_stay_small(columns, height, width):
    found = LinearMap((1.0,) + (0.0,) * 7, 0.0, 1.0)
    z = torch.zeros(1, 8, columns, 16)
    z[:, 0, columns // 2 :] = SCALE
    seen = picture_of(z, latent_format(lambda: found))
    assert seen.shape == (height, width, 3)
    assert seen[:, -1].min() > 250 and seen[:, 0].max() < 40


def test_decibels_of_another_logarithm_are_the_same_sound():
    vae, other = MelVAE(), MelVAE()
    other.log, other.mel_to_latent = "log10", lambda mel: vae.mel_to_latent(mel * math.log(10))
    assert torch.allclose(synthetic_latents(other)[0], synthetic_latents(vae)[0], atol=1e-4)


def test_nothing_is_fitted_without_previews(monkeypatch):
    monkeypatch.setattr(args, "preview_method", LatentPreviewMethod.NoPreviews)
    made = latent_format(lambda: pytest.fail("fitted"))
    assert latent_preview.get_previewer("cpu", made) is None


def test_no_memory_for_the_fit_costs_the_preview_only(caplog):
    def fit():
        raise comfy.model_management.OOM_EXCEPTION("no memory")

    assert latent_preview.get_previewer("cpu", latent_format(fit)) is None
    assert "without it" in caplog.text


@pytest.fixture
def shown(monkeypatch):
    """Pictures that the host's own samplers send to the page."""
    pictures = []

    class Bar:
        def __init__(self, total, node_id=None):
            pass

        def update_absolute(self, value, total=None, preview=None):
            pictures.append(preview and preview[1])

    monkeypatch.setattr("comfy.utils.ProgressBar", Bar)
    return pictures


def test_every_step_shows_the_canvas_through_the_host(shown):
    model = tiny_models.toy(channels=8)
    model.model.latent_format = latent_format()
    vae = MelVAE()
    calls = []
    with_live_spectrogram(model, lambda: calls.append(1) or fit_linear_map(vae))
    canvas = harness.canvas_of(length=44, channels=8, rows=16)
    model.model.latent_format.long_axis = 3
    patched = harness.patched(model.clone(), canvas, SwapJoin(), harness.guide_of())
    out = harness.ksampler(patched, harness.empty(canvas), steps=4)
    assert [picture.size for picture in shown] == [(44, 16)] * 4
    assert len(calls) == 1  # for all steps, clones and pictures
    assert (picture_of(out * SCALE, model.model.latent_format) - pixels(shown[-1])).abs().max() <= 1


def test_the_audio_loader_shows_its_models_sound(shown, tmp_path):
    model, clip, vae = load_audio_model(tiny_audio.audioldm(tmp_path / "audioldm"))
    columns, rows = 40, model.model.latent_format.rows
    prompts = {name: clip.encode_from_tokens_scheduled(clip.tokenize(name)) for name in ("positive", "negative")}
    harness.ksampler(model, {"samples": torch.zeros(1, 8, columns, rows)}, steps=2, **prompts)
    assert [picture.size for picture in shown] == [(columns, rows)] * 2
    assert model.model.latent_format.linear_map == fit_linear_map(vae)


@pytest.mark.parametrize("kind", ["stable_audio", "ace_step"])
def test_models_of_the_host_without_a_map_sample_as_before(kind, shown):
    model = getattr(tiny_models, kind)()
    latent = {"samples": torch.zeros(tiny_models.LATENT_SHAPES[kind])}
    harness.ksampler(model, latent, steps=2, **harness.prompts(kind))
    assert shown == [None, None]


def test_a_live_format_is_a_latent_format_of_the_host():
    made = latent_format()
    assert isinstance(made, comfy.latent_formats.LatentFormat)
    assert made.latent_rgb_factors is None and made.latent_rgb_factors_bias is None
    assert torch.equal(made.process_out(made.process_in(torch.ones(2))), torch.ones(2))
    assert math.exp(QUIETEST) == pytest.approx(1e-5)
