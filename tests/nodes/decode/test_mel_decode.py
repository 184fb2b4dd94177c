"""Mel Decode and Riffusion Decode with the libraries' own VAE and vocoder classes, and the host's own audio VAEs."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import comfy.ldm.ace.vae.music_dcae_pipeline
import comfy.ldm.audio.autoencoder
import comfy.model_management
import comfy.model_patcher
import comfy.nested_tensor
import comfy.sd
import comfy.taesd.taesd
from comfy_extras.nodes_audio import vae_decode_audio

from safa_pack.nodes.audio.parts import Mel
from safa_pack.nodes.audio.vae import AudioVAE
from safa_pack.nodes.canvas import Canvas
from safa_pack.nodes.decode import riffusion_decode
from safa_pack.nodes.decode.mel_decode import SaFaMelDecode
from safa_pack.nodes.decode.riffusion_decode import SaFaRiffusionDecode
from safa_pack.safa_core import SwapJoin, TriangularJoin, plan_views
from safa_pack.safa_core.fold import ViewFold
from safa_pack.safa_core.sound.mel import MelScale
from safa_pack.safa_core.sound.vocode import circular_convolutions, scaled
from safa_pack.tests import tiny_audio
from safa_pack.tests.safa_core.griffin_lim import griffin_lim

pytestmark = pytest.mark.host
COLUMN = 640  # samples of one latent column


@pytest.fixture(autouse=True)
def inference():
    """As the host runs its nodes."""
    with torch.inference_mode():
        yield


def audio_vae(with_vocoder=True):
    """What SaFa Audio Model Loader returns for a tiny AudioLDM."""
    vocoder = tiny_audio.vocoder(6) if with_vocoder else None
    parts = SimpleNamespace(name="tiny AudioLDM", vae=tiny_audio.vae(5), vocoder=vocoder, mel=Mel())
    return AudioVAE(parts)


@pytest.fixture(scope="module")
def vae():
    return audio_vae()


def noise(*shape, seed=3):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def plan_of(length, view, overlap=0.25, loop=True, shape=(8, None, 16), axis=2):
    shape = tuple(length if s is None else s for s in shape)
    return Canvas(plan_views(length, view, overlap, loop), shape, axis, "seconds", 0.04)


def decode(vae, latent, plan=None, **options):
    """(waveform, picture, text)"""
    output = SaFaMelDecode.execute(vae=vae, latent={"samples": latent}, plan=plan, **options)
    audio, picture = output.args
    assert audio["waveform"].dtype == torch.float32 and audio["waveform"].device.type == "cpu"
    text = output.ui["text"][0]
    return audio["waveform"], picture, text


def test_an_open_clip_is_what_the_library_decodes(vae):
    latent = noise(2, 8, 40, 16)
    sound, picture, text = decode(vae, latent)
    whole = vae.vocoder(vae.first_stage_model.decode(latent).sample[:, 0])
    assert whole.shape[1] == 160 * 160 + 32
    assert sound.shape == (2, 1, 40 * COLUMN)
    worst = (sound[:, 0] - whole[:, : 40 * COLUMN]).abs().max().item()
    print(f"against the library on the whole batch: {worst:.1e} of {whole.abs().max():.2f}")
    assert worst <= 1e-5  # one clip at a time
    assert picture.shape == (2, 540, 1280, 3)
    assert "as its library does" in text
    print(text)


def test_a_long_clip_goes_through_the_vocoder_in_pieces(vae):
    latent = noise(1, 8, 600, 16)
    sound, _, _ = decode(vae, latent)
    whole = vae.vocoder(vae.first_stage_model.decode(latent).sample[:, 0])[:, : 600 * COLUMN]
    worst = (sound[0] - whole).abs().max().item()
    print(f"24 s in pieces of 10.24 s against one: {worst:.1e} of {whole.abs().max():.2f}")
    assert worst <= 1e-6


def test_rolling_a_loops_latent_rolls_its_sound(vae):
    length, by = 60, 23
    latent, plan = noise(1, 8, length, 16), plan_of(60, 24)
    sound, _, text = decode(vae, latent, plan)
    rolled, _, _ = decode(vae, latent.roll(by, 2), plan)
    open_ended = decode(vae, latent.roll(by, 2))[0] - decode(vae, latent)[0].roll(by * COLUMN, 2)
    peak = sound.abs().max()
    worst = ((rolled - sound.roll(by * COLUMN, 2)).abs().max() / peak).item()
    print(f"rolled by {by} columns: {worst:.1e} of the peak; without a loop {(open_ended.abs().max() / peak):.2f}")
    print(text)
    assert worst <= 1e-4
    assert open_ended.abs().max() > 1e-2 * peak
    assert "around the loop" in text


def test_a_1d_vae_wraps_too():
    vae, latent = one_dimensional(), noise(1, 20, 24)
    with circular_convolutions(vae.first_stage_model, -1):
        ring, rolled = vae.latent_to_mel(latent), vae.latent_to_mel(latent.roll(7, 2))
    assert (rolled - ring.roll(14, 1)).abs().max() <= 1e-5


def test_24_seconds_from_three_windows_are_24_seconds(vae):
    plan = plan_of(600, 250, 0.2)
    assert len(plan.plan) == 3
    sound, _, _ = decode(vae, noise(1, 8, 600, 16), plan)
    assert sound.shape[-1] == 24 * 16000
    steps = (sound.roll(-1, 2) - sound).abs().flatten()
    print(f"step at the wrap {steps[-1]:.4f}, largest inside {steps[:-1].max():.4f}")
    assert steps[-1] <= steps[:-1].max()


def test_a_loop_leaves_the_vae_as_it_was(vae):
    latent = noise(1, 8, 20, 16)
    before = vae.latent_to_mel(latent)
    decode(vae, latent, plan_of(20, 10))
    assert torch.equal(vae.latent_to_mel(latent), before)


@pytest.mark.parametrize("loop", [False, True])
def test_windows_of_the_vae_are_told_with_what_they_differ_by(vae, loop):
    latent, plan = noise(1, 8, 200, 16), plan_of(200, 100, loop=loop)
    whole, _, _ = decode(vae, latent, plan)
    sound, _, text = decode(vae, latent, plan, window=80 * COLUMN / 16000)
    print(text)
    assert sound.shape == whole.shape
    assert "windows of 3.2 s one by one (asked for)" in text and "dB at most" in text
    assert 0 < (sound - whole).abs().max()
    assert (sound.std() / whole.std() - 1).abs() < 0.2  # one loudness


def test_windows_of_a_loop_join_as_the_fold_of_all_of_them(vae):
    latent, plan = noise(1, 8, 200, 16), plan_of(200, 100)
    sound, _, _ = decode(vae, latent, plan, window=80 * COLUMN / 16000)
    cut = plan_views(200, 80, 32 / 80, loop=True)
    mel = joined_mel(vae, latent, cut, TriangularJoin())
    expected = vae.vocoder(mel.repeat(1, 3, 1))[:, 200 * COLUMN : 400 * COLUMN]
    assert (sound[0] - expected).abs().max() <= 1e-5


def joined_mel(vae, latent, views, join):
    """All views decoded by themselves, and one scatter (Eq. 4) over mel frames."""
    mels = [vae.first_stage_model.decode(latent[:, :, views.indices(i)]).sample[:, 0] for i in range(len(views))]
    frames = scaled(views, 4)
    fold = ViewFold(frames, join.weights(frames, 64), 4, 3)
    return fold.scatter(torch.cat([m.transpose(1, 2).unsqueeze(1) for m in mels], 3))[:, 0].transpose(1, 2)


@pytest.mark.parametrize("loop", [False, True])
def test_safa_plus_joins_views_on_the_mel(vae, loop):
    latent, plan = noise(1, 8, 60, 16), plan_of(60, 24, 0.3, loop)
    sound, _, text = decode(vae, latent, plan, join_at="mel", join=SwapJoin(1, 2))
    print(text)
    mel = joined_mel(vae, latent, plan.plan, SwapJoin(1, 8))
    expected = vae.vocoder(mel.repeat(1, 3, 1))[:, 60 * COLUMN : 120 * COLUMN] if loop else vae.vocoder(mel)[:, :-32]
    assert (sound[0] - expected).abs().max() <= 1e-6
    assert "joined on the mel" in text


class Vae1d(torch.nn.Module):
    """A VAE over time alone, as Make-An-Audio 2's: [B, 20, T] to 80 mels, twice as many frames."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        norm, up = torch.nn.GroupNorm(4, 32), torch.nn.Upsample(scale_factor=2)
        first, last = (torch.nn.Conv1d(a, b, 5, padding=2) for a, b in ((20, 32), (32, 80)))
        self.decoder = torch.nn.Sequential(first, norm, torch.nn.SiLU(), up, last)


def one_dimensional():
    model = Vae1d().eval()

    def latent_to_mel(latent):
        return model.decoder(latent).transpose(1, 2)

    return SimpleNamespace(
        name="1-D", audio_sample_rate=16000, hop=256, n_fft=1024, mel_bins=80, frames_per_column=2, fmin=0.0,
        fmax=8000.0, log="log10", loudest=None, latent_axis=2, latent_channels=20, first_stage_model=model,
        vocoder=None,
        device=torch.device("cpu"), vae_dtype=torch.float32, latent_to_mel=latent_to_mel, load=lambda memory=0: None,
        memory_used_decode=lambda shape, dtype: 1000 * shape[2],
    )  # fmt: skip


def test_safa_plus_for_a_vae_over_time_alone_without_a_vocoder():
    vae, latent = one_dimensional(), 0.5 * noise(1, 20, 24)
    plan = plan_of(24, 10, 0.4, True, (20, None))
    sound, picture, text = decode(vae, latent, plan, join_at="mel", join=SwapJoin(1, 3), marks=True, level="leave")
    mels = [vae.latent_to_mel(latent[..., plan.plan.indices(i)]) for i in range(len(plan.plan))]
    frames = scaled(plan.plan, 2)
    fold = ViewFold(frames, SwapJoin(1, 6).weights(frames), 3, 2)
    mel = fold.scatter(torch.cat([m.transpose(1, 2) for m in mels], 2)).transpose(1, 2)
    expected = griffin_lim(mel, 16000, 1024, 256, 0, 8000, "log10", loop=True)
    assert sound.shape == (1, 1, 24 * 512)
    assert (sound[:, 0] - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert "Griffin-Lim" in text


@pytest.mark.parametrize("loop", [False, True])
def test_without_a_vocoder_it_is_griffin_lim(loop):
    vae, latent = audio_vae(with_vocoder=False), noise(1, 8, 30, 16)
    sound, _, text = decode(vae, latent, plan_of(30, 12, loop=loop), level="leave")
    assert sound.shape == (1, 1, 30 * COLUMN)
    if not loop:
        mel = vae.first_stage_model.decode(latent).sample[:, 0]
        assert (sound[0] - griffin_lim(mel, 16000, 1024, 160, 0, 8000)).abs().max() <= 1e-4 * sound.abs().max()
    assert "Griffin-Lim" in text


def test_a_batch_is_decoded_as_each_clip_alone(vae):
    latent, plan = noise(2, 8, 30, 16), plan_of(30, 12)
    both, picture, _ = decode(vae, latent, plan)
    for i in range(2):
        assert torch.equal(both[i], decode(vae, latent[i : i + 1], plan)[0][0])
    assert picture.shape[0] == 2 and not torch.equal(picture[0], picture[1])


def test_marks_show_in_the_picture(vae):
    latent, plan = noise(1, 8, 60, 16), plan_of(60, 24)
    _, plain, _ = decode(vae, latent, plan)
    _, marked, _ = decode(vae, latent, plan, marks=True)
    assert plain.shape == marked.shape and 0 <= marked.min() and marked.max() <= 1
    assert (plain - marked).abs().mean() > 0.005


def test_a_machine_short_of_memory_decodes_in_windows(vae, monkeypatch):
    latent = noise(1, 8, 300, 16)
    need = vae.memory_used_decode([1, 8, 100, 16], torch.float32) * 1.5 + 300 * COLUMN * 4
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda *a, **k: need)
    _, _, text = decode(vae, latent)
    assert "windows of 4 s one by one (for lack of memory)" in text
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda *a, **k: need / 4)
    with pytest.raises(ValueError, match="Mel Decode: 1 × 12 s of sound take .* MB of memory are free"):
        decode(vae, latent)


def test_an_hour_is_refused_before_anything_is_decoded(monkeypatch):
    vae = audio_vae()
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda *a, **k: 2e8)
    monkeypatch.setattr(vae, "latent_to_mel", None)
    with pytest.raises(ValueError, match="Mel Decode: 1 × 3600 s of sound take 220 MB"):
        decode(vae, torch.zeros(1, 8, 90000, 16))


def test_out_of_memory_halves_the_windows(monkeypatch):
    vae, latent, sizes = audio_vae(), noise(1, 8, 300, 16), []
    plain = vae.latent_to_mel

    def full(latent):
        sizes.append(latent.shape[2])
        if latent.shape[2] > 100:
            raise comfy.model_management.OOM_EXCEPTION("full")
        return plain(latent)

    monkeypatch.setattr(vae, "latent_to_mel", full)
    sound, _, text = decode(vae, latent, plan_of(300, 100))
    assert sizes[:3] == [300, 150, 75] and sound.shape[-1] == 300 * COLUMN
    assert "for lack of memory" in text
    monkeypatch.setattr(vae, "latent_to_mel", plain)
    again, _, _ = decode(vae, latent, plan_of(300, 100), window=75 * COLUMN / 16000)
    assert torch.equal(sound, again)


def test_nan_out_of_vae_or_vocoder_is_refused_by_name(monkeypatch):
    vae, latent = audio_vae(), noise(1, 8, 20, 16)
    bias = vae.vocoder.conv_post.bias
    bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="Mel Decode: the vocoder gave NaN"):
        decode(vae, latent)
    vae.first_stage_model.decoder.conv_out.bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="Mel Decode: the VAE gave NaN"):
        decode(vae, latent)


def test_silence_is_said():
    vae = audio_vae()
    for parameter in vae.vocoder.conv_post.parameters():
        parameter.zero_()
    sound, _, text = decode(vae, noise(1, 8, 20, 16))
    assert not sound.any() and "warning: silence" in text


def test_a_sound_beyond_full_scale_gets_one_gain_unless_it_is_left():
    vae, latent = audio_vae(with_vocoder=False), noise(1, 8, 20, 16)
    vae.first_stage_model.decoder.conv_out.bias.add_(5.0)  # ln: a hundred and fifty times as loud
    left, _, text = decode(vae, latent, level="leave")
    assert left.abs().max() > 1 and "warning: peak" in text
    limited, _, text = decode(vae, latent)
    torch.testing.assert_close(limited, left * 0.99 / left.abs().max())
    assert "one gain of -" in text
    normalised, _, _ = decode(vae, latent, level="normalise")
    assert torch.equal(normalised, limited)


def test_what_guidance_overshoots_is_held_at_the_loudest_of_the_training():
    vae, latent = audio_vae(with_vocoder=False), noise(1, 8, 20, 16)
    free, _, text = decode(vae, latent, level="leave")
    assert "held" not in text
    mel = vae.latent_to_mel(latent)
    vae.loudest = mel.quantile(0.9).item()
    held, _, text = decode(vae, latent, level="leave")
    torch.testing.assert_close(vae.latent_to_mel(latent), mel.clamp(max=vae.loudest))
    assert f"{int((mel >= vae.loudest).sum())} places of the mel held" in text
    assert held.square().mean() < free.square().mean()


LATENT = noise(1, 8, 20, 16)


@pytest.mark.parametrize(
    "latent, options, words",
    [
        (torch.zeros(1, 4, 20, 16), {}, r"expected a latent \[batch, 8, time, 16\] for this VAE, got \[1, 4, 20, 16\]"),
        (torch.zeros(1, 8, 16, 20), {}, "connect the VAE of the model that made it"),
        (torch.zeros(1, 64, 20), {}, r"expected a latent \[batch, 8, time, 16\]"),
        (torch.zeros(1, 8, 0, 16), {}, "is empty"),
        (torch.full((1, 8, 20, 16), torch.nan), {}, "the latent holds NaN"),
        (LATENT, {"plan": plan_of(24, 12)}, "the plan is for a canvas of 0.96 s, but .* is 0.8 s long"),
        (LATENT, {"join_at": "mel"}, "expected a plan"),
        (LATENT, {"window": 0.1}, "expected `window` of at least 2.56 s"),
        (LATENT, {"plan": plan_of(20, 10), "join_at": "mel", "join": SwapJoin(1, 9)}, "Expected `shift` below"),
        (comfy.nested_tensor.NestedTensor((LATENT, LATENT)), {}, "one latent"),
    ],
)
def test_what_cannot_be_decoded_is_refused_in_a_sentence(vae, latent, options, words):
    with pytest.raises(ValueError, match=f"^Mel Decode: .*{words}"):
        decode(vae, latent, **options)


def test_a_latent_for_another_rate_is_refused(vae):
    with pytest.raises(ValueError, match="made for 44100 Hz, but this VAE decodes to 16000 Hz"):
        SaFaMelDecode.execute(vae=vae, latent={"samples": LATENT, "sample_rate": 44100})


def test_a_vocoder_of_another_model_is_refused():
    vae = audio_vae()
    vae.hop = 200
    with pytest.raises(ValueError, match="the vocoder makes 160 samples of a mel frame"):
        decode(vae, LATENT)


def test_a_vae_for_pictures_is_refused():
    vae = comfy.sd.VAE(sd=comfy.taesd.taesd.TAESD(latent_channels=4).state_dict())
    with pytest.raises(ValueError, match="Mel Decode: expected a VAE for sound"):
        decode(vae, torch.zeros(1, 4, 8, 8))


@pytest.fixture(scope="module")
def oobleck():
    """Stable Audio's VAE through the host's detection, then slim: the host's loader knows full width only."""
    vae = comfy.sd.VAE(sd=comfy.ldm.audio.autoencoder.AudioOobleckVAE().state_dict())
    slim = comfy.ldm.audio.autoencoder.AudioOobleckVAE(channels=8)
    generator = torch.Generator().manual_seed(2)
    for name, weight in slim.requires_grad_(False).named_parameters():  # the host leaves them uninitialised
        if weight.ndim == 3 and weight[0].numel() > 1:
            weight.copy_(torch.randn(weight.shape, generator=generator))
        else:
            weight.fill_(1.0 if name.endswith("original0") else 0.0)
    vae.first_stage_model = slim.to(torch.float32).eval()
    vae.vae_dtype = torch.float32
    vae.patcher = comfy.model_patcher.ModelPatcher(slim, vae.device, vae.device)
    return vae


def test_stable_audio_is_what_the_host_decodes(oobleck):
    latent = noise(2, 64, 12)
    sound, picture, text = decode(oobleck, latent)
    expected = vae_decode_audio(copy.copy(oobleck), {"samples": latent})
    assert expected["sample_rate"] == 44100
    assert sound.shape == expected["waveform"].shape == (2, 2, 12 * 2048)
    assert torch.allclose(sound, expected["waveform"], atol=1e-6)
    assert picture.shape == (2, 540, 1280, 3)


def test_stable_audio_loops(oobleck):
    latent, plan = noise(1, 64, 24), plan_of(24, 12, 0.25, True, (64, None))
    sound, _, text = decode(oobleck, latent, plan, marks=True)
    rolled, _, _ = decode(oobleck, latent.roll(11, 2), plan)
    worst = ((rolled - sound.roll(11 * 2048, 2)).abs().max() / sound.abs().max()).item()
    print(f"rolled: {worst:.1e} of the peak; {text}")
    assert sound.shape == (1, 2, 24 * 2048)
    assert worst <= 1e-4


def ace_step(like):
    """ACE-Step 1.0's VAE, slim, in a VAE with what the host sets for it."""
    slim = comfy.ldm.ace.vae.music_dcae_pipeline.MusicDCAE(
        44100,
        {
            "encoder_block_out_channels": (8, 8, 8, 32), "decoder_block_out_channels": (8, 8, 8, 32),
            "encoder_layers_per_block": (1,) * 4, "decoder_layers_per_block": (1,) * 4,
        },
        {
            "depths": [1] * 4, "dims": [8, 8, 8, 16], "num_mels": 16, "upsample_initial_channel": 128,
            "resblock_kernel_sizes": (3,), "resblock_dilation_sizes": ((1, 3, 5),),
        },
    )  # fmt: skip
    generator = torch.Generator().manual_seed(4)
    for name, weight in slim.requires_grad_(False).named_parameters():
        spread = 0.05 if weight.ndim < 2 else weight[0].numel() ** -0.5
        weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
        if weight.ndim < 2 and name.endswith("weight") or name.endswith("original0"):
            weight.fill_(1.0)
    vae = copy.copy(like)
    vae.first_stage_model, vae.latent_channels, vae.latent_dim, vae.extra_1d_channel = slim, 8, 2, 16
    vae.upscale_ratio = vae.downscale_ratio = 4096
    vae.memory_used_decode = lambda shape, dtype: shape[2] * shape[3] * 87000 * 4
    vae.patcher = comfy.model_patcher.ModelPatcher(slim.eval(), vae.device, vae.device)
    return vae


def test_ace_step_decodes_as_in_the_host_and_loops_by_padding(oobleck):
    vae, latent = ace_step(oobleck), noise(1, 8, 16, 20)
    sound, _, _ = decode(vae, latent)
    assert sound.abs().max() > 1e-3
    expected = vae_decode_audio(vae, {"samples": latent})["waveform"]
    assert torch.allclose(sound, expected, atol=1e-6)
    plan = plan_of(20, 10, 0.3, True, (8, 16, None), 3)
    ring, _, text = decode(vae, latent, plan)
    print(text)
    assert ring.shape == (1, 2, 20 * 4096)
    assert "padded by 16 latents from the other side" in text
    with pytest.raises(ValueError, match="expected a latent .batch, 8, 16, time."):
        decode(vae, noise(1, 64, 40))


def test_riffusions_picture_sounds_like_its_frequencies(monkeypatch):
    coarse = replace(riffusion_decode.RIFFUSION, n_fft=4410)  # a quarter of the work
    monkeypatch.setattr(riffusion_decode, "RIFFUSION", coarse)
    picture = torch.ones(1, 512, 60, 3)
    scale = MelScale(44100, 512, 441, 0, 10000, 17640, 4410, "", "htk", False)
    row = 200
    picture[:, 511 - row] = 0
    audio = SaFaRiffusionDecode.execute(image=picture, loop=True).args[0]
    sound = audio["waveform"]
    assert audio["sample_rate"] == 44100 and sound.shape == (1, 1, 60 * 441)
    assert sound.abs().max() == 1
    bank = scale.filterbank()[row]
    spectrum = torch.fft.rfft(sound[0, 0]).abs()
    loudest = spectrum.argmax().item() / sound.shape[-1] * 44100
    assert abs(loudest - bank.argmax().item() * 2.5) < 40
    steps = (sound.roll(-1, 2) - sound).abs().flatten()
    assert steps[-1] <= steps[:-1].max()


def test_a_riffusion_picture_of_another_height_is_refused():
    with pytest.raises(ValueError, match="Riffusion Decode: expected a picture 512 pixels high, got 640 x 768"):
        SaFaRiffusionDecode.execute(image=torch.ones(1, 768, 640, 3), loop=False)


def test_a_grey_picture_is_no_stereo():
    with pytest.raises(ValueError, match="Riffusion Decode: stereo is read from green and blue, .* has 1 channels"):
        SaFaRiffusionDecode.execute(image=torch.ones(1, 512, 8, 1), loop=False, stereo=True)


def test_a_white_riffusion_picture_is_silence():
    sound = SaFaRiffusionDecode.execute(image=torch.ones(1, 512, 8, 3), loop=False).args[0]["waveform"]
    assert not sound.any()


def test_schema():
    schema = SaFaMelDecode.GET_SCHEMA()
    assert (schema.node_id, schema.display_name, schema.category) == ("SaFaMelDecode", "Mel Decode", "SaFa")
    assert [i.id for i in schema.inputs] == ["vae", "latent", "plan", "marks", "window", "join_at", "join", "level"]
    assert [o.io_type for o in schema.outputs] == ["AUDIO", "IMAGE"]
    schema = SaFaRiffusionDecode.GET_SCHEMA()
    assert (schema.node_id, schema.display_name) == ("SaFaRiffusionDecode", "Riffusion Decode")
