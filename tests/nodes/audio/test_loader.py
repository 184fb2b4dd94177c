import importlib
import json
import os
import pickle
import shutil
from functools import lru_cache
from types import SimpleNamespace

import pytest
import torch
from diffusers import AudioLDM2Pipeline, AudioLDM2UNet2DConditionModel, AutoencoderKL, DDIMScheduler
from diffusers import UNet2DConditionModel as UNet
from diffusers.pipelines import AudioLDMPipeline, MusicLDMPipeline
from diffusers.pipelines.audioldm2 import AudioLDM2ProjectionModel
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, ClapModel, GPT2LMHeadModel, SpeechT5HifiGan, T5EncoderModel
from transformers import ClapTextModelWithProjection as ClapText

import comfy.lora
import comfy.model_management
import comfy.sample
import folder_paths
from comfy_extras.nodes_audio import VAEDecodeAudio, VAEEncodeAudio

import nodes as host_nodes
from safa_pack.nodes.audio import folder as audio_files
from safa_pack.nodes.audio.loader import SaFaAudioModelLoader, load_audio_model
from safa_pack.nodes.canvas import Guide
from safa_pack.nodes.joint.model_facts import model_facts
from safa_pack.nodes.joint.planner import SaFaSubviewPlanner
from safa_pack.nodes.joint.sampler import SaFaModelPatch
from safa_pack.safa_core import SwapJoin
from safa_pack.tests import tiny_audio
from safa_pack.tests.nodes.harness import SeparateCalls, ksampler, own_noise, schedule, start_of
from safa_pack.tests.nodes.literal import literal_algorithm_1

pytestmark = pytest.mark.host

POSITIVE, NEGATIVE = "rain on a tin roof, and far thunder", "low quality"
KINDS = list(tiny_audio.FAMILIES)
V_PREDICTION = {**tiny_audio.SCHEDULER, "prediction_type": "v_prediction", "beta_schedule": "linear"}


@pytest.fixture(autouse=True, scope="module")
def no_grad():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Kind -> folder, MODEL, CLIP, VAE and, for Tango, the modules that its files were made of."""
    root = tmp_path_factory.mktemp("audio_models")
    made = {}
    for kind in KINDS:
        folder = tiny_audio.FAMILIES[kind](root / kind)
        parts = tiny_audio.tango_parts() if kind == "tango" else None
        model, clip, vae = load_audio_model(folder)
        made[kind] = SimpleNamespace(kind=kind, folder=folder, model=model, clip=clip, vae=vae, parts=parts)
    return made


@pytest.fixture(params=KINDS)
def loaded(request, models):
    return models[request.param]


def local(kind, folder, name):
    return kind.from_pretrained(folder / name, local_files_only=True).eval()


def prompt(clip, text):
    return host_nodes.CLIPTextEncode().encode(clip, text)[0]


# ---- Text conditioning ----


def library_prompt(loaded, text):
    """What the library's own pipeline encodes, by the names that its UNet takes."""
    return library_encoder(loaded.kind, loaded.folder)(text)


@lru_cache
def library_encoder(kind, folder):
    """text -> conditioning, by the pipeline of diffusers where there is one."""
    if kind == "audioldm":
        pipe = AudioLDMPipeline(**_pipe(folder, ClapText))
        return lambda text: {"class_labels": pipe._encode_prompt(text, "cpu", 1, False)}
    if kind == "musicldm":
        pipe = MusicLDMPipeline(**_pipe(folder, ClapModel), feature_extractor=None)
        features = pipe.text_encoder.get_text_features  # transformers 4 gave a tensor
        pipe.text_encoder.get_text_features = lambda *a, **k: features(*a, **k).pooler_output
        return lambda text: {"class_labels": pipe._encode_prompt(text, "cpu", 1, False)}
    if kind == "audioldm2":
        pipe = AudioLDM2Pipeline(
            **_pipe(folder, ClapModel, AudioLDM2UNet2DConditionModel),
            text_encoder_2=local(T5EncoderModel, folder, "text_encoder_2"),
            projection_model=local(AudioLDM2ProjectionModel, folder, "projection_model"),
            language_model=local(GPT2LMHeadModel, folder, "language_model"),
            tokenizer_2=AutoTokenizer.from_pretrained(folder / "tokenizer_2"),
            feature_extractor=None,
        )
        names = ("encoder_hidden_states_1", "encoder_attention_mask_1", "encoder_hidden_states")
        return lambda text: dict(zip(names, pipe.encode_prompt(text, "cpu", 1, False, max_new_tokens=8), strict=True))
    if kind == "tango":
        t5, files = tiny_audio.tango_parts()["text_encoder"], folder.parent / "t5_audio"
    else:
        t5, files = local(T5EncoderModel, folder, "text_encoder"), folder
    tokenizer = AutoTokenizer.from_pretrained(files / "tokenizer")

    def encode(text):  # Tango's encode_text
        longest = tokenizer.model_max_length
        batch = tokenizer(text, max_length=longest, padding=True, truncation=True, return_tensors="pt")
        return {"encoder_hidden_states": t5(**batch)[0], "encoder_attention_mask": batch.attention_mask == 1}

    return encode


def _pipe(folder, text, unet=UNet):
    return {
        "vae": local(AutoencoderKL, folder, "vae"),
        "text_encoder": local(text, folder, "text_encoder"),
        "tokenizer": AutoTokenizer.from_pretrained(folder / "tokenizer"),
        "unet": local(unet, folder, "unet"),
        "scheduler": DDIMScheduler.from_pretrained(folder / "scheduler"),
        "vocoder": local(SpeechT5HifiGan, folder, "vocoder"),
    }


@pytest.mark.parametrize("text", [POSITIVE, NEGATIVE, "", "(brackets:1.2) \\and [all]"])
def test_the_prompt_is_the_librarys(loaded, text):
    expected = library_prompt(loaded, text)
    [[cond, values]] = prompt(loaded.clip, text)
    if "class_labels" in expected:
        given = {"class_labels": values["pooled_output"]}
        assert torch.equal(cond[:, 0], values["pooled_output"])
    elif loaded.kind == "audioldm2":
        given = {"encoder_hidden_states": cond, "encoder_hidden_states_1": values["audioldm2_t5"]}
    else:
        given = {"encoder_hidden_states": cond}
    for name, tensor in given.items():
        assert tensor.shape == expected[name].shape
        torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=1e-6)


def test_different_prompts_differ(loaded):
    first, second = (prompt(loaded.clip, t)[0][0] for t in (POSITIVE, "a dog barks"))
    assert (first[:, :1] - second[:, :1]).abs().max() > 1e-3


def test_a_long_prompt_is_cut_where_the_library_cuts_it(models, caplog):
    text = "thunder " * 700
    cut = prompt(models["t5_audio"].clip, text)[0][0]
    assert cut.shape[1] == 512 and "reads the first 512" in caplog.text
    torch.testing.assert_close(cut, library_prompt(models["t5_audio"], text)["encoder_hidden_states"])


def test_clip_clones_and_takes_patches(models):
    clip = models["t5_audio"].clip
    other = clip.clone()
    key = "t5.encoder.block.0.layer.0.SelfAttention.q.weight"
    weight = clip.cond_stage_model.state_dict()[key]
    other.add_patches({key: ("diff", (torch.ones_like(weight),))}, 1.0)
    before = prompt(clip, POSITIVE)[0][0]
    assert not torch.allclose(prompt(other, POSITIVE)[0][0], before)
    assert torch.equal(prompt(clip, POSITIVE)[0][0], before)


# ---- Sampling ----


def library_unet(loaded):
    if loaded.parts is not None:
        return loaded.parts["unet"]
    return local(AudioLDM2UNet2DConditionModel if loaded.kind == "audioldm2" else UNet, loaded.folder, "unet")


def ddim(loaded, scheduler, latent, steps, cfg):
    """diffusers' own loop with guidance, the two prompts one after the other, each in its own length."""
    unet, conds = library_unet(loaded), [library_prompt(loaded, t) for t in (NEGATIVE, POSITIVE)]
    # the host's samplers end at sigma 0, which this setting names
    scheduler = DDIMScheduler.from_config({**scheduler, "set_alpha_to_one": True, "clip_sample": False})
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        out, guided = (
            unet(latent, t, **{"encoder_hidden_states": None, **cond}, return_dict=False)[0] for cond in conds
        )
        latent = scheduler.step(out + cfg * (guided - out), t, latent).prev_sample
    return latent


def empty(loaded, columns=24, batch=1):
    return {"samples": torch.zeros(batch, 8, columns, tiny_audio.ROWS)}


def conds(loaded):
    return {"positive": prompt(loaded.clip, POSITIVE), "negative": prompt(loaded.clip, NEGATIVE)}


def scheduler_of(loaded):
    if loaded.parts is None:
        return json.loads((loaded.folder / "scheduler" / "scheduler_config.json").read_text())
    sd2 = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    return {**sd2, "steps_offset": 1, "prediction_type": "v_prediction"}


def agree(given, expected, within):
    assert (given - expected).abs().max() < within * expected.abs().max()


def test_ksampler_is_the_librarys_loop(loaded, columns=27):
    steps, cfg, latent = 5, 3.0, empty(loaded, columns)
    given = ksampler(loaded.model, latent, "ddim", "ddim_uniform", steps=steps, cfg=cfg, **conds(loaded))
    noise = comfy.sample.prepare_noise(latent["samples"], 3)
    sigma = schedule(loaded.model, "ddim_uniform", steps)[0]
    start = noise * sigma / (1 + sigma**2) ** 0.5  # the host starts at sigma * noise, the library at noise
    expected = (
        ddim(loaded, scheduler_of(loaded), start, steps, cfg) / loaded.vae.first_stage_model.config.scaling_factor
    )
    assert expected.std() > 0.1
    agree(given, expected, 1e-5)


def test_v_prediction_and_betas_come_from_the_scheduler(tmp_path):
    folder = tiny_audio.t5_audio(tmp_path / "v", scheduler=V_PREDICTION)
    model, clip, vae = load_audio_model(folder)
    loaded = SimpleNamespace(kind="t5_audio", folder=folder, model=model, clip=clip, vae=vae, parts=None)
    sampling = model.get_model_object("model_sampling")
    alphas = DDIMScheduler.from_config(V_PREDICTION).alphas_cumprod
    torch.testing.assert_close(sampling.sigmas, ((1 - alphas) / alphas) ** 0.5, rtol=1e-4, atol=0)
    test_ksampler_is_the_librarys_loop(loaded)


def test_prompts_of_unequal_length_run_in_one_batch(models, monkeypatch):
    model, seen = models["t5_audio"].model, []
    forward = type(model.model.diffusion_model).forward

    def counted(self, x, t, **kwargs):
        seen.append((len(x), kwargs["context_mask"].sum(1).tolist()))
        return forward(self, x, t, **kwargs)

    monkeypatch.setattr(type(model.model.diffusion_model), "forward", counted)
    ksampler(model, empty(models["t5_audio"], batch=2), steps=1, **conds(models["t5_audio"]))
    [(batch, tokens)] = seen
    assert batch == 4 and len(set(tokens)) == 2


def test_lora_patches_reach_the_unet(loaded):
    inner = loaded.model.model
    keys = comfy.lora.model_lora_keys_unet(inner, {})
    name = next(k for k in keys if k.startswith("lora_unet_") and k.endswith("attn1_to_q"))
    out, into = inner.state_dict()[keys[name]].shape
    lora = {f"{name}.lora_up.weight": torch.ones(out, 1), f"{name}.lora_down.weight": torch.ones(1, into)}
    patched = loaded.model.clone()
    assert patched.add_patches(comfy.lora.load_lora(lora, keys), 1.0)
    latent, kwargs = empty(loaded), conds(loaded)
    plain = ksampler(loaded.model, latent, steps=2, **kwargs)
    assert not torch.allclose(ksampler(patched, latent, steps=2, **kwargs), plain)
    torch.testing.assert_close(ksampler(loaded.model, latent, steps=2, **kwargs), plain)


# ---- The planner and the patch ----


def planned(model, monkeypatch, tmp_path, **inputs):
    monkeypatch.setattr("folder_paths.get_temp_directory", lambda: str(tmp_path))
    defaults = {"length": 0, "unit": "seconds", "view": 0, "overlap": 0.2, "loop": True, "height": 0, "batch_size": 1}
    return SaFaSubviewPlanner.execute(model, **defaults | inputs).result


def test_the_planner_knows_the_family(loaded, monkeypatch, tmp_path):
    facts = model_facts(loaded.model)
    own = 256 if loaded.kind == "tango" else tiny_audio.COLUMNS  # Tango's sample_size is of another UNet
    assert (facts.unit, facts.scale, facts.view, facts.rows, facts.axis) == ("seconds", 0.04, own, 16, 2)
    canvas, latent, _, info, *_ = planned(loaded.model, monkeypatch, tmp_path)
    assert list(latent["samples"].shape) == [1, 8, 3 * (own - -(-own // 5)), 16] and canvas.axis == 2
    assert len(canvas.plan) == 3 and "loop" in info and canvas.rows == 16


def test_24_seconds_in_three_views(models, monkeypatch, tmp_path):
    canvas, latent, *_ = planned(models["tango"].model, monkeypatch, tmp_path, length=24)
    assert latent["samples"].shape == (1, 8, 600, 16) and latent["type"] == "audio"
    assert len(canvas.plan) == 3 and canvas.plan.view == 256


@pytest.mark.parametrize(
    "guide", [None, Guide(0.5, 2, "frames"), Guide(0.5, 1, "rows")], ids=["none", "frames", "rows"]
)
def test_views_of_a_loop_are_separate_windows_swapped(guide, loaded, monkeypatch, tmp_path):
    canvas, latent, *_ = planned(loaded.model, monkeypatch, tmp_path, view=0.8, length=1.92)
    views, kwargs, steps = canvas.plan, conds(loaded), 4
    assert len(views) == 3 and latent["samples"].shape[2] == 48
    patched = SaFaModelPatch.execute(loaded.model, canvas, SwapJoin(), guide).result[0]
    given = ksampler(patched, latent, "euler", "simple", steps=steps, **kwargs)
    sigmas = schedule(loaded.model, "simple", steps)
    calls = SeparateCalls(loaded.model, **kwargs).euler(sigmas)
    noise = comfy.sample.prepare_noise(latent["samples"], 3)
    starts = [start_of(loaded.model, sigmas, n).transpose(2, 3) for n in (noise, own_noise(noise[:, :, : views.view]))]
    guided = {} if guide is None else {"guided": 2, "w_refer": guide.interval, "by_rows": guide.axis == "rows"}
    expected, _ = literal_algorithm_1(
        lambda window, k, i: calls(window.transpose(2, 3), k).transpose(2, 3),
        starts[0],
        None if guide is None else starts[1],
        views.starts,
        views.view,
        steps,
        True,
        1,
        **guided,
    )
    agree(given, loaded.model.model.process_latent_out(expected).transpose(2, 3), 1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_in_half_of_what_it_computes_in(kind, models, monkeypatch):
    """A GPU without fast float16: the host keeps float16 weights and casts each layer as it runs."""
    monkeypatch.setattr("comfy.model_management.unet_dtype", lambda *a, **k: torch.float16)
    monkeypatch.setattr("comfy.model_management.unet_manual_cast", lambda *a, **k: torch.float32)
    loaded = models[kind]
    half = load_audio_model(loaded.folder)[0]
    assert half.model.get_dtype() == torch.float16 and half.model.get_dtype_inference() == torch.float32
    plain, given = (ksampler(m, empty(loaded), steps=2, **conds(loaded)) for m in (loaded.model, half))
    assert not torch.equal(given, plain)
    agree(given, plain, 0.02)


def test_latents_and_prompts_of_other_models_are_refused(models):
    loaded = models["t5_audio"]
    with pytest.raises(ValueError, match=r"expected a latent \[batch, 8, time, 16\], got \[1, 8, 24, 12\]"):
        ksampler(loaded.model, {"samples": torch.zeros(1, 8, 24, 12)}, steps=1, **conds(loaded))
    with pytest.raises(ValueError, match=r"expected a latent \[batch, 8, time, 16\]"):
        ksampler(loaded.model, {"samples": torch.zeros(1, 64, 100)}, steps=1, **conds(loaded))
    other = {"positive": [[torch.zeros(1, 77, 768), {}]], "negative": [[torch.zeros(1, 77, 768), {}]]}
    for kind in ("t5_audio", "audioldm", "audioldm2"):
        with pytest.raises(ValueError, match="use the CLIP of SaFa Audio Model Loader"):
            ksampler(models[kind].model, empty(loaded), steps=1, **other)


# ---- Decoding and encoding ----


def random_latent(columns=12, batch=2):
    return torch.randn(batch, 8, columns, 16, generator=torch.Generator().manual_seed(5))


def library_waveform(loaded, latent):
    """The pipelines' decode_latents and mel_spectrogram_to_waveform, cut to whole hops; latent in the model's scale."""
    if loaded.parts is not None:
        mel = loaded.parts["vae"].decode(latent / 0.9227914214134216)
        wave = loaded.parts["vocoder"](mel.squeeze(1))
    else:
        vae = local(AutoencoderKL, loaded.folder, "vae")
        mel = vae.decode(1 / vae.config.scaling_factor * latent).sample
        wave = local(SpeechT5HifiGan, loaded.folder, "vocoder")(mel.squeeze(1))
    return mel.squeeze(1), wave[:, : mel.shape[2] * 160]


def test_decode_is_the_librarys(loaded):
    """What leaves the sampler is unscaled: process_out and decode together are the pipeline's decode."""
    latent = random_latent()
    mel, wave = library_waveform(loaded, latent)
    unscaled = loaded.model.model.process_latent_out(latent)
    torch.testing.assert_close(loaded.vae.latent_to_mel(unscaled), mel, rtol=1e-5, atol=1e-5)
    given = VAEDecodeAudio.execute(loaded.vae, {"samples": unscaled}).result[0]
    assert given["sample_rate"] == 16000 and given["waveform"].shape == (2, 1, 12 * 4 * 160)
    assert wave.std() > 0.01
    torch.testing.assert_close(given["waveform"][:, 0], wave, rtol=1e-4, atol=1e-5)


def test_what_mel_decode_asks_for(loaded):
    vae = loaded.vae
    assert (vae.audio_sample_rate, vae.hop, vae.mel_bins, vae.frames_per_column) == (16000, 160, 64, 4)
    assert (vae.fmin, vae.fmax, vae.log, vae.latent_axis, vae.latent_channels) == (0, 8000, "ln", 2, 8)
    assert isinstance(vae.first_stage_model, AutoencoderKL) and isinstance(vae.vocoder, SpeechT5HifiGan)
    vae.load()
    mel = vae.latent_to_mel(random_latent(batch=1))
    assert mel.shape == (1, 48, 64) and mel.dtype == torch.float32
    assert vae.mel_to_audio(mel).shape == (1, 48 * 160)
    assert vae.patcher.model.model is vae.first_stage_model and vae.vocoder_patcher.model.model is vae.vocoder


def test_tiled_decode_of_one_tile_is_the_whole(models):
    vae, latent = models["audioldm"].vae, random_latent(40)
    whole = vae.decode(latent)
    torch.testing.assert_close(vae.decode_tiled(latent, tile_x=64, overlap=16), whole)
    assert vae.decode_tiled(latent, tile_x=16, overlap=4).shape == whole.shape


def test_encode_is_the_librarys(models):
    """A sweep against librosa's published filters by hand: the filters' areas are 1, and AutoencoderKL's mode."""
    loaded, generator = models["audioldm"], torch.Generator().manual_seed(7)
    wave = 0.1 * torch.randn(2, 1, 6400, generator=generator)
    given = VAEEncodeAudio.execute(loaded.vae, {"waveform": wave, "sample_rate": 16000}).result[0]["samples"]
    assert given.shape == (2, 8, 10, 16)
    mel = loaded.vae.audio_to_mel(wave[:, 0])
    vae = local(AutoencoderKL, loaded.folder, "vae")
    torch.testing.assert_close(given, vae.encode(mel[:, None]).latent_dist.mode(), rtol=1e-4, atol=1e-5)


def test_log_mel_is_audioldms(models):
    torchaudio = pytest.importorskip("torchaudio", reason="newer hosts come without it")
    wave = 0.1 * torch.randn(1, 6400, generator=torch.Generator().manual_seed(8))
    reference = torchaudio.transforms.MelSpectrogram(
        16000, 1024, hop_length=160, f_min=0, f_max=8000, n_mels=64, power=1, norm="slaney", mel_scale="slaney"
    )
    expected = reference(wave)[..., :40].clamp(min=1e-5).log().transpose(1, 2)
    torch.testing.assert_close(models["tango"].vae.audio_to_mel(wave), expected, rtol=1e-4, atol=1e-4)


def test_sound_of_other_lengths_and_channels_encodes(models):
    vae = models["audioldm"].vae
    stereo = {"waveform": torch.randn(1, 2, 7000), "sample_rate": 16000}
    assert VAEEncodeAudio.execute(vae, stereo).result[0]["samples"].shape == (1, 8, 11, 16)
    with pytest.raises(ValueError, match="expected sound of more than 512 samples"):
        VAEEncodeAudio.execute(vae, {"waveform": torch.zeros(1, 1, 0), "sample_rate": 16000})


def test_a_latent_of_another_family_is_refused(models):
    vae = models["audioldm"].vae
    for shape in ([1, 4, 64, 64], [1, 64, 100], [1, 8, 16, 256], [1, 8, 0, 16]):
        with pytest.raises(ValueError, match=r"expected a latent \[batch, 8, time, 16\], got"):
            vae.decode(torch.zeros(shape))


def test_without_vocoder(tmp_path):
    folder = tiny_audio.t5_audio(tmp_path / "pocket", with_vocoder=False)
    (folder / "mel_config.json").write_text(json.dumps({"sampling_rate": 16000, "log": "log10"}))
    vae = load_audio_model(folder)[2]
    assert vae.vocoder is None and vae.vocoder_patcher is None and vae.log == "log10"
    vae.load()
    assert vae.latent_to_mel(random_latent()).shape == (2, 48, 64)
    with pytest.raises(ValueError, match="has no vocoder; use Mel Decode, which has Griffin-Lim"):
        vae.decode(random_latent())


# ---- Folders and bad input ----


@pytest.fixture
def model_dirs(models, tmp_path, monkeypatch):
    """models/audio_models with every tiny model, as links: users keep models on other disks."""
    root = tmp_path / "audio_models"
    root.mkdir()
    for kind, loaded in models.items():
        (root / kind).symlink_to(loaded.folder)
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "audio_models", ([str(root)], ["folder"]))
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "diffusers", ([str(tmp_path / "none")], ["folder"]))
    return root


def test_lists_audio_models_only(model_dirs):
    picture = {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    picture["text_encoder"] = ["transformers", "CLIPTextModel"]
    (model_dirs / "sd15").mkdir()
    (model_dirs / "sd15" / "model_index.json").write_text(json.dumps(picture))
    (model_dirs / "broken").mkdir()
    (model_dirs / "broken" / "model_index.json").write_text("{")
    (model_dirs / "lab").mkdir()
    (model_dirs / "tango").rename(model_dirs / "lab" / "tango2")
    assert list(audio_files.audio_models()) == ["audioldm", "audioldm2", "lab/tango2", "musicldm", "t5_audio"]
    options = SaFaAudioModelLoader.define_schema().inputs[0].options
    assert options == list(audio_files.audio_models())
    model, clip, vae = SaFaAudioModelLoader.execute("lab/tango2").result
    assert model.model.name == "tango2"


def test_a_users_own_folder_stays(tmp_path, monkeypatch):
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "audio_models", ([str(tmp_path)], set()))
    importlib.reload(audio_files)
    default = os.path.join(folder_paths.models_dir, "audio_models")
    assert folder_paths.get_folder_paths("audio_models") == [str(tmp_path), default, audio_files.PACK_MODELS]


@pytest.mark.parametrize("name", ["../audioldm", "/etc", "audioldm/../tango", "audioldm/unet", "nothing", ""])
def test_names_outside_the_list_are_refused(model_dirs, name):
    with pytest.raises(ValueError, match="there is no audio model"):
        SaFaAudioModelLoader.execute(name)


class Harmful:
    def __reduce__(self):
        return os.system, ("touch harmed",)


def own_copy(root, kind):
    """A model's folder in `root` as files that a test may change."""
    target = (root / kind).resolve()
    (root / kind).unlink()
    return shutil.copytree(target, root / kind)


def _cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _set(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def _old_bin(folder, content):
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(content, folder / "diffusion_pytorch_model.bin")


def _shards(folder, second="model-00002-of-00002.safetensors"):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": second}}
    shutil.move(folder / "model.safetensors", folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _endless(file):
    """In the place of a file, one that nobody writes into: whoever opens it waits for ever."""
    file.unlink()
    os.mkfifo(file)


DEEP = "[" * 10**5
BAD = {
    "no component": ("audioldm", lambda f: shutil.rmtree(f / "vocoder"), "no folder 'vocoder'"),
    "no weights": ("audioldm", lambda f: (f / "vae/diffusion_pytorch_model.safetensors").unlink(), "vae has no"),
    "no config": ("audioldm", lambda f: (f / "unet/config.json").unlink(), "unet/config.json is missing"),
    "no scheduler": ("audioldm", lambda f: shutil.rmtree(f / "scheduler"), "scheduler_config.json is missing"),
    "unknown class": (
        "audioldm2",
        lambda f: _set(f / "model_index.json", text_encoder_2=["transformers", "VitsModel"]),
        "names VitsModel as 'text_encoder_2', but only T5EncoderModel is known",
    ),
    "cut": ("t5_audio", lambda f: _cut(f / "text_encoder/model.safetensors"), "model.safetensors is cut off or broken"),
    "unfinished": ("t5_audio", lambda f: (f / "unet/x.incomplete").touch(), r"unet is not finished \(x.incomplete\)"),
    "shard": ("t5_audio", lambda f: _shards(f / "text_encoder"), "model-00002-of-00002.safetensors is missing"),
    "shard elsewhere": (
        "t5_audio",
        lambda f: _shards(f / "text_encoder", "../vae/diffusion_pytorch_model.safetensors"),
        "text_encoder/../vae/diffusion_pytorch_model.safetensors is missing",
    ),
    "no shards": (
        "t5_audio",
        lambda f: (f / "unet/x.safetensors.index.json").write_text('{"weight_map": [[]]}'),
        "x.safetensors.index.json lists no files",
    ),
    "deep": ("audioldm", lambda f: (f / "unet/config.json").write_text(DEEP), "unet/config.json is not JSON"),
    "endless": ("audioldm", lambda f: _endless(f / "unet/config.json"), "unet/config.json is no file"),
    "endless tokenizer": ("audioldm", lambda f: _endless(f / "tokenizer/tokenizer.json"), "tokenizer.json is no file"),
    "other weights": (
        "audioldm",
        lambda f: shutil.copy(f / "vocoder/model.safetensors", f / "text_encoder/model.safetensors"),
        "text_encoder lacks .* weights that a",
    ),
    "code": ("audioldm", lambda f: _old_bin(f / "vae", {"w": Harmful()}), "diffusion_pytorch_model.bin holds code"),
    "not weights": ("audioldm", lambda f: _old_bin(f / "vae", [1, 2]), "holds no named weights but list"),
    "curve": (
        "audioldm",
        lambda f: _set(f / "scheduler/scheduler_config.json", beta_schedule="squaredcos_cap_v2"),
        "has beta_schedule = squaredcos_cap_v2, which should be 'scaled_linear' or 'linear'",
    ),
    "prediction": (
        "audioldm",
        lambda f: _set(f / "scheduler/scheduler_config.json", prediction_type="sample"),
        "has prediction_type = sample, which should be 'epsilon' or 'v_prediction'",
    ),
    "mel": ("t5_audio", lambda f: (f / "mel_config.json").write_text('{"hop": 1}'), r"unknown fields \['hop'\]"),
    "log": (
        "t5_audio",
        lambda f: (f / "mel_config.json").write_text('{"log": "db"}'),
        "mel_config.json has log = db, which should be 'ln' or 'log10'",
    ),
    "steps": (
        "audioldm",
        lambda f: _set(f / "scheduler/scheduler_config.json", num_train_timesteps=10**9),
        "has num_train_timesteps = 1000000000, which should be less than or equal to 10000",
    ),
    "scale": ("audioldm", lambda f: _set(f / "vae/config.json", scaling_factor=-1), "scaling_factor = -1, .* 0"),
    "rate": ("audioldm", lambda f: _set(f / "vocoder/config.json", sampling_rate=10**9), "sampling_rate = 1000000000"),
    "text for a number": (
        "audioldm",
        lambda f: _set(f / "unet/config.json", in_channels="8"),
        "in_channels = 8, .* int",
    ),
    "layers": (
        "t5_audio",
        lambda f: _set(f / "text_encoder/config.json", num_layers=10**6),
        "text_encoder asks for num_layers = 1e.06, but its weights are",
    ),
    "blocks": (
        "audioldm",
        lambda f: _set(f / "unet/config.json", layers_per_block=10**6),
        "unet asks for layers_per_block = 1e.06, but its weights are",
    ),
    "rates": (
        "audioldm",
        lambda f: _set(f / "vocoder/config.json", upsample_kernel_sizes=[4] * 10**6),
        "vocoder asks for upsample_kernel_sizes with a length = 1e.06, but its weights are",
    ),
    "width": (
        "t5_audio",
        lambda f: _set(f / "text_encoder/config.json", d_ff=2**40),
        "text_encoder lacks .* of the weights that a T5EncoderModel of its config.json needs",
    ),
    "mixed": (
        "t5_audio",
        lambda f: tiny_audio.token_unet(1, in_channels=4, out_channels=4).save_pretrained(f / "unet"),
        "has 4 channels, but its VAE makes 8",
    ),
    "tango cut": ("tango", lambda f: _cut(f / "pytorch_model_main.bin"), "pytorch_model_main.bin is cut off or broken"),
    "tango part": ("tango", lambda f: (f / "pytorch_model_vae.bin").unlink(), "pytorch_model_vae.bin is missing"),
    "tango code": (
        "tango",
        lambda f: (f / "pytorch_model_main.bin").write_bytes(pickle.dumps(Harmful(), protocol=2)),
        "pytorch_model_main.bin holds code",
    ),
    "tango weights": (
        "tango",
        lambda f: torch.save({"a": torch.zeros(1)}, f / "pytorch_model_main.bin"),
        "the weights of tango are not Tango's",
    ),
    "tango unet": ("tango", lambda f: _set(f / "main_config.json", unet_model_name="sd"), "another UNet or text"),
    "tango scheduler": (
        "tango",
        lambda f: _set(f / "main_config.json", scheduler_name="x/y"),
        "scheduler of 'x/y', which is not known",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_folders_are_refused_in_one_sentence(case, model_dirs, monkeypatch, tmp_path):
    kind, break_it, words = BAD[case]
    monkeypatch.chdir(tmp_path)
    break_it(own_copy(model_dirs, kind))
    with pytest.raises(ValueError, match=words) as refused:
        SaFaAudioModelLoader.execute(kind)
    message = str(refused.value)
    assert message.startswith("SaFa Audio Model Loader: ") and "\n" not in message and len(message) < 420
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("break_it", [lambda file: file.write_text(DEEP), _endless])
def test_one_broken_folder_does_not_take_the_list_of_models_away(break_it, model_dirs):
    break_it(own_copy(model_dirs, "audioldm") / "model_index.json")
    listed = audio_files.audio_models()
    assert "audioldm" not in listed and "audioldm2" in listed


def test_interrupt_stops_a_load(model_dirs):
    comfy.model_management.interrupt_current_processing(True)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        SaFaAudioModelLoader.execute("audioldm2")


def test_old_weights_load_without_pickled_code(model_dirs, models):
    folder = own_copy(model_dirs, "audioldm") / "vae"
    _old_bin(folder, models["audioldm"].vae.first_stage_model.state_dict())
    vae = SaFaAudioModelLoader.execute("audioldm").result[2]
    latent = random_latent()
    assert torch.equal(vae.latent_to_mel(latent), models["audioldm"].vae.latent_to_mel(latent))


def test_half_size_variants_and_old_names_load(model_dirs, models):
    """`*.fp16.safetensors` alone, and the VAE's attention in the names of published AudioLDM checkpoints."""
    vae = own_copy(model_dirs, "musicldm") / "vae"
    weights = load_file(vae / "diffusion_pytorch_model.safetensors")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, name in old.items():
        weights = {k.replace(f"attentions.0.{new}", f"attentions.0.{name}"): v for k, v in weights.items()}
    assert any("proj_attn" in k for k in weights)
    save_file(weights, vae / "diffusion_pytorch_model.safetensors")
    for name in ("unet", "vae", "text_encoder", "vocoder"):
        [file] = (model_dirs / "musicldm" / name).glob("*.safetensors")
        file.rename(file.with_name(f"{file.stem}.fp16.safetensors"))
    loaded = SaFaAudioModelLoader.execute("musicldm").result[2]
    latent = random_latent()
    assert torch.equal(loaded.latent_to_mel(latent), models["musicldm"].vae.latent_to_mel(latent))


def test_no_network(model_dirs, monkeypatch):
    import socket

    def no(*args, **kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", no)
    for kind in ("audioldm2", "tango"):
        SaFaAudioModelLoader.execute(kind)
