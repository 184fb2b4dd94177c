"""What the planner reads from every model that the host knows, against what its makers and the host's nodes say."""

import pytest
import torch

import comfy.latent_formats
import comfy.supported_models

from safa_pack.nodes.joint.model_facts import facts_of, model_facts
from safa_pack.tests import tiny_models

pytestmark = pytest.mark.host

# By the host's class: (width, height) in pixels of one view, seconds of one view, or words of the refusal.
PACKED, SHAPES, UPSCALER, TURNS = "one pack", "neither pictures nor sound", "enlarges", "from another side"
JUDGED = {
    **dict.fromkeys(("SD15", "SD15_instructpix2pix", "SD20"), (512, 512)),
    **dict.fromkeys(("SD21UnclipL", "SD21UnclipH"), (768, 768)),
    **dict.fromkeys(("SDXL", "SDXL_instructpix2pix", "SDXLRefiner", "SSD1B", "Segmind_Vega"), (1024, 1024)),
    **dict.fromkeys(("KOALA_700M", "KOALA_1B", "SD3", "AuraFlow", "PixArtAlpha", "PixArtSigma"), (1024, 1024)),
    **dict.fromkeys(("HunyuanDiT", "HunyuanDiT1", "Flux", "FluxInpaint", "FluxSchnell", "Flux2"), (1024, 1024)),
    **dict.fromkeys(("LongCatImage", "ZImage", "ZImagePixelSpace", "Lumina2", "Chroma", "HiDream"), (1024, 1024)),
    **dict.fromkeys(("ChromaRadiance", "PixelDiTT2I", "PiD", "Omnigen2", "Boogu", "MageFlow"), (1024, 1024)),
    **dict.fromkeys(("JoyImage", "Ideogram4", "Krea2", "Kandinsky5Image", "Anima", "ErnieImage"), (1024, 1024)),
    **dict.fromkeys(("Stable_Cascade_B", "CosmosT2IPredict2"), (1024, 1024)),
    "Stable_Cascade_C": (1008, 1008),  # 24 latent columns of 42 pixels
    "QwenImage": (1328, 1328),
    "Lens": (1440, 1440),
    **dict.fromkeys(("HunyuanImage21", "HunyuanImage21Refiner", "HiDreamO1"), (2048, 2048)),
    # video: one frame
    "SVD_img2vid": (1024, 576),
    **dict.fromkeys(("GenmoMochi", "HunyuanVideo", "HunyuanVideoI2V", "HunyuanVideoSkyreelsI2V"), (848, 480)),
    "CosmosI2VPredict2": (848, 480),
    "HunyuanVideo15": (1280, 720),
    **dict.fromkeys(("CosmosT2V", "CosmosI2V", "WAN22_T2V"), (1280, 704)),
    **dict.fromkeys(("LTXV", "Kandinsky5"), (768, 512)),
    **dict.fromkeys(("CogVideoX_T2V", "CogVideoX_I2V"), (720, 480)),
    "CogVideoX_Inpaint": (672, 384),
    **dict.fromkeys(("WAN21_T2V", "WAN21_CausalAR_T2V", "WAN21_I2V", "WAN21_FunControl2V", "WAN21_Vace"), (832, 480)),
    **dict.fromkeys(("WAN21_Camera", "WAN22_Camera", "WAN22_S2V", "WAN21_HuMo", "WAN22_Animate"), (832, 480)),
    "WAN21_FlowRVS": (832, 480),
    **dict.fromkeys(("WAN21_SCAIL", "WAN21_SCAIL2"), (512, 896)),
    "WAN22_WanDancer": (480, 832),
    # sound
    "StableAudio": 47.554,
    "StableAudio3": 380.0,
    "ACEStep": 240.0,
    "ACEStep15": 120.0,
    # no canvas
    **dict.fromkeys(("LTXAV", "MiniMaxH3"), PACKED),
    **dict.fromkeys(("Hunyuan3Dv2", "Hunyuan3Dv2mini", "Hunyuan3Dv2_1", "TripoSplat"), SHAPES),
    **dict.fromkeys(("RT_DETR_v4", "SAM3", "SAM31", "DepthAnything3"), SHAPES),
    **dict.fromkeys(("SD_X4Upscaler", "SeedVR2", "HunyuanVideo15_SR_Distilled"), UPSCALER),
    **dict.fromkeys(("SV3D_u", "SV3D_p", "Stable_Zero123"), TURNS),
    "LotusD": "depth",
}
FAMILIES = {family.__name__: family for family in comfy.supported_models.models}
RATES = {"StableAudio": 44100 / 2048, "StableAudio3": 44100 / 4096, "ACEStep": 44100 / 4096, "ACEStep15": 25.0}


def configured(name, **sizes):
    """The host's configuration of a family, as its detection makes it but for the network's sizes."""
    family = FAMILIES[name]
    return family({"hidden_size": 2604, **family.unet_config, **sizes})


def read(name, **sizes):
    config = configured(name, **sizes)
    return facts_of(config, config.latent_format)


def test_every_model_of_the_host_is_judged():
    assert set(JUDGED) == set(FAMILIES)


@pytest.mark.parametrize("name", JUDGED)
def test_a_first_run_with_nothing_typed_has_the_model_s_own_size(name):
    judged = JUDGED[name]
    if isinstance(judged, str):
        with pytest.raises(ValueError, match=f"^{name} .*{judged}.*; .*\\.$"):
            read(name)
        return
    facts, latent_format = read(name), FAMILIES[name].latent_format()
    assert (facts.name, facts.channels) == (name, latent_format.latent_channels)
    assert facts.dimensions == latent_format.latent_dimensions
    if isinstance(judged, float):
        assert (
            facts.audio
            and facts.scale == pytest.approx(1 / RATES[name])
            and facts.rows == (16 if name == "ACEStep" else 1)
        )
        assert facts.view * facts.scale == pytest.approx(judged, abs=facts.scale)
    else:
        assert facts.unit == "pixels" and (facts.view * facts.scale, facts.rows * facts.scale) == judged


@pytest.mark.parametrize(
    ("embed_dim", "seconds"), [(1024, 120), (1536, 380), (2048, 380)], ids=["small", "medium", "large"]
)
def test_stable_audio_3_small_and_medium_are_told_apart_by_their_weights(embed_dim, seconds):
    facts = read("StableAudio3", embed_dim=embed_dim)
    assert facts.view * facts.scale == pytest.approx(seconds, abs=0.1)


def test_stable_diffusion_2_for_768_pixels_is_told_by_what_it_predicts():
    config = configured("SD20")
    assert facts_of(config, config.latent_format, "V_PREDICTION").view == 96
    assert facts_of(config, config.latent_format, "EPS").view == 64
    zero_terminal = configured("SD15")
    assert facts_of(zero_terminal, zero_terminal.latent_format, "V_PREDICTION").view == 64


@pytest.mark.parametrize(
    ("name", "sizes", "patch"),
    [
        ("ChromaRadiance", {"patch_size": 16}, 16),
        ("ZImagePixelSpace", {"patch_size": 32}, 32),
        ("PixelDiTT2I", {}, 16),
        ("HiDreamO1", {}, 32),
        ("SD3", {"patch_size": 2}, 1),
        ("WAN21_T2V", {"patch_size": (1, 2, 2)}, 1),
    ],
)
def test_only_models_in_pixels_swap_whole_patches(name, sizes, patch):
    facts = read(name, **sizes)
    assert facts.patch == patch and facts.view % patch == 0


# ---- What the host may add tomorrow ----


def unknown(**described):
    latent_format = type("Unheard", (comfy.latent_formats.LatentFormat,), described)()
    config = type("UnheardOf", (comfy.supported_models.SD3,), {})({"image_model": "unheard_of"})
    return facts_of(config, latent_format)


@pytest.mark.parametrize(
    ("ratio", "rate"), [(512, 44100 / 512), (1920, 25.0), (1764, 25.0), (4096, 44100 / 4096), (640, 75.0)]
)
def test_an_unknown_model_with_one_dimension_in_time_makes_sound(ratio, rate):
    facts = unknown(latent_channels=128, latent_dimensions=1, temporal_downscale_ratio=ratio)
    assert facts.audio and facts.channels == 128 and facts.scale == pytest.approx(1 / rate)
    assert facts.view * facts.scale == pytest.approx(120, abs=facts.scale)


def test_an_unknown_model_of_shapes_is_refused():
    with pytest.raises(ValueError, match="UnheardOf makes neither pictures nor sound; use a model that does"):
        unknown(latent_dimensions=1)


def test_an_unknown_model_of_pictures_makes_them_at_1024_pixels():
    facts = unknown(latent_channels=32, spacial_downscale_ratio=16)
    assert (facts.unit, facts.view, facts.rows, facts.patch) == ("pixels", 64, 64, 1)


def test_a_loaded_model_says_the_same_as_its_configuration():
    with torch.no_grad():
        model = tiny_models.sd3()
    config = model.model.model_config
    assert model_facts(model) == facts_of(config, config.latent_format, "FLOW")
