"""Loop VAE Decode with the host's own VAEs: seeded random weights through the host's detection, decoders slim."""

from types import SimpleNamespace

import pytest
import torch

import comfy.ldm.hunyuan3d.vae
import comfy.ldm.minimax.audio_vae
import comfy.ldm.models.autoencoder
import comfy.ldm.wan.vae
import comfy.model_management
import comfy.nested_tensor
import comfy.sd
import comfy.taesd.taesd

from safa_pack.nodes.audio.parts import Mel
from safa_pack.nodes.audio.vae import AudioVAE
from safa_pack.nodes.canvas import Canvas
from safa_pack.nodes.decode.loop_decode import PADDING, TEST_LONG, SaFaLoopDecode
from safa_pack.safa_core import plan_views
from safa_pack.safa_core.sound.circular import crop_ring, pad_ring
from safa_pack.tests import tiny_audio

pytestmark = pytest.mark.host


@pytest.fixture(autouse=True)
def inference():
    """As the host runs its nodes."""
    with torch.inference_mode():
        yield


def seeded(state_dict, gain):
    """Random weights that keep activations O(1), so that pictures are neither flat nor clipped."""
    generator = torch.Generator().manual_seed(1)
    weights = {}
    for key, value in state_dict.items():
        fan_in = value[0].numel() if value.ndim else 1
        if fan_in > 1:
            weights[key] = torch.randn(value.shape, generator=generator) * gain / fan_in**0.5
        elif value.ndim and key.endswith("bias"):
            weights[key] = torch.randn(value.shape, generator=generator) * 0.05
        else:
            weights[key] = torch.zeros(()) if key == "vae_shift" else torch.ones(value.shape)
    return weights


def autoencoder_kl(channels):
    """Stable Diffusion's VAE, decoder a quarter as wide; 4 latent channels, or 16 as SD3 and Flux."""
    config = {
        "double_z": True,
        "z_channels": channels,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 2, 4, 4],
        "num_res_blocks": 2,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    model = comfy.ldm.models.autoencoder.AutoencoderKL(ddconfig=config, embed_dim=channels)
    return {k: v for k, v in model.state_dict().items() if not k.startswith(("encoder.", "quant_conv."))}


def wan():
    options = {"dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_scales": []}
    model = comfy.ldm.wan.vae.WanVAE(dim=4, z_dim=16, temperal_downsample=[False, True, True], **options)
    return model.state_dict()


STATE_DICTS = {
    "kl4": lambda: seeded(autoencoder_kl(4), 0.9),
    "kl16": lambda: seeded(autoencoder_kl(16), 0.9),
    "taesd": lambda: seeded(comfy.taesd.taesd.TAESD(latent_channels=4).state_dict(), 0.8),
    "wan": lambda: seeded(wan(), 1.2),
}


@pytest.fixture(scope="module")
def vaes():
    """name -> VAE as the host's loader makes it; each built once."""
    made = {}

    def vae(name):
        if name not in made:
            made[name] = comfy.sd.VAE(sd=STATE_DICTS[name]())
        return made[name]

    return vae


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def canvas(latent, axis, loop=True):
    length = latent.shape[axis]
    return Canvas(plan_views(length, length // 2, 0.2, loop=loop), tuple(latent.shape[1:]), axis)


def decode(vae, latent, axis, loop=True):
    output = SaFaLoopDecode.execute(vae=vae, latent={"samples": latent}, plan=canvas(latent, axis, loop))
    return output.args[0], output.ui["text"][0]


def untouched(vae):
    return not any({"_conv_forward", "forward", "decode"} & set(vars(m)) for m in vae.first_stage_model.modules())


# name, latent shape, long axis of the latent, long axis of the picture [B, H, W, C]
LOOPS = [
    ("kl4", (1, 4, 6, 20), 3, 2),
    ("kl4", (2, 4, 18, 5), 2, 1),
    ("kl16", (1, 16, 6, 20), 3, 2),
    ("taesd", (2, 4, 8, 24), 3, 2),
    ("taesd", (1, 4, 24, 8), 2, 1),
    ("wan", (1, 16, 1, 6, 14), 4, 2),
    ("wan", (1, 16, 1, 14, 6), 3, 1),
    ("wan", (1, 16, 2, 4, 14), 4, 2),
]


@pytest.mark.parametrize("name, shape, axis, across", LOOPS)
def test_rolling_the_latent_rolls_the_picture(vaes, name, shape, axis, across):
    vae, latent = vaes(name), noise(*shape)
    before = vae.decode(latent)
    picture, text = decode(vae, latent, axis)
    assert text.startswith("circular: exact")
    assert picture.shape[1:] == (shape[-2] * 8, shape[-1] * 8, 3)
    assert 0.05 < picture.std() < 0.4
    rolled, _ = decode(vae, latent.roll(7, axis), axis)
    worst = (rolled - picture.roll(56, across)).abs().max().item()
    ordinary = vae.decode(latent.roll(7, axis)).reshape(picture.shape) - before.reshape(picture.shape).roll(56, across)
    print(f"{name} {shape}: rolled latent, rolled picture {worst:.1e}; by ordinary decode {ordinary.abs().max():.2f}")
    assert worst <= 1e-5
    assert ordinary.abs().max() > 0.1
    assert torch.equal(vae.decode(latent), before)
    assert untouched(vae)


def jumps(picture):
    """Mean step from each pixel column to the next around the ring: [W]; the last one is the wrap."""
    return (picture.roll(-1, 2) - picture).abs().mean(dim=(0, 1, 3))


@pytest.mark.parametrize("name", ["kl4", "taesd"])
def test_no_seam_at_the_wrap_of_a_smooth_latent(vaes, name):
    vae = vaes(name)
    angle = torch.arange(24) * (2 * torch.pi / 24)
    waves = torch.stack([angle.sin(), angle.cos(), (2 * angle).sin(), (2 * angle).cos()])
    latent = (waves[None, :, None] * torch.linspace(0.5, 1.5, 6)[:, None]).contiguous()
    ring, ordinary = jumps(decode(vae, latent, 3)[0]), jumps(vae.decode(latent))
    print(f"{name}: wrap {ring[-1]:.4f}, inside at most {ring[:-1].max():.4f}; ordinary {ordinary[-1]:.4f}")
    assert ring[-1] <= ring[:-1].max()
    assert ordinary[-1] > 1.5 * ring[-1]


def test_without_a_loop_it_is_the_hosts_decode(vaes):
    import nodes  # the host's

    for name, shape, axis in (("taesd", (2, 4, 8, 24), 3), ("wan", (1, 16, 2, 4, 14), 4)):
        latent = noise(*shape)
        (expected,) = nodes.VAEDecode().decode(vaes(name), {"samples": latent})
        picture, text = decode(vaes(name), latent, axis, loop=False)
        assert torch.equal(picture, expected)
        assert "no loop" in text


def test_a_picture_latent_with_a_time_dimension(vaes):
    latent = noise(1, 4, 1, 8, 24)
    picture, _ = decode(vaes("taesd"), latent, 4)
    torch.testing.assert_close(picture, decode(vaes("taesd"), latent[:, :, 0], 3)[0], rtol=0, atol=0)


def test_a_plan_made_before_the_latent_got_a_time_dimension(vaes):
    latent = noise(1, 16, 1, 6, 14)
    plan = canvas(latent[:, :, 0], 3)
    picture = SaFaLoopDecode.execute(vae=vaes("wan"), latent={"samples": latent}, plan=plan).args[0]
    assert torch.equal(picture, decode(vaes("wan"), latent, 4)[0])


def test_a_causal_axis_is_padded_and_cropped(vaes):
    """Wan's VAE looks back in time: 4 frames for every latent of a loop, and the difference is stated."""
    vae, latent = vaes("wan"), noise(1, 16, 12, 2, 2)
    picture, text = decode(vae, latent, 2)
    frames = vae.decode(pad_ring(latent, 2, PADDING))[0]
    assert frames.shape[0] == 4 * (12 + 2 * PADDING) - 3
    assert torch.equal(picture, frames[4 * PADDING - 3 :][: 4 * 12])
    assert text.startswith(f"padded by {PADDING} latents from the other side and cropped, because decoder.conv1")
    assert "CausalConv3d" in text and "of the value range" in text


def test_a_vae_that_tiles_itself_is_padded_and_cropped(vaes, monkeypatch):
    vae, latent = vaes("kl4"), noise(1, 4, 6, 20)
    ring, _ = decode(vae, latent, 3)
    monkeypatch.setattr(vae, "handles_tiling", True)
    picture, text = decode(vae, latent, 3)
    assert picture.shape == ring.shape
    assert "tiles itself" in text
    seam, plain = jumps(picture)[-1], jumps(vae.decode(latent))[-1]
    print(f"{text}; wrap {seam:.3f}, ordinary {plain:.3f}, circular {jumps(ring)[-1]:.3f}")
    stated = float(text.split("at most ")[1].split()[0])
    doubled = vae.decode(pad_ring(latent, 3, PADDING))[:, :, 8 * PADDING - 1 :][:, :, [0, 1, 160, 161]]
    assert stated == pytest.approx((doubled[:, :, :2] - doubled[:, :, 2:]).abs().max().item(), rel=0.06)


def test_a_position_that_no_layer_shows_is_found_by_the_test_latent(vaes):
    """A forward that adds a ramp along the width, without a parameter or layer that would give it away."""
    vae, latent = vaes("taesd"), noise(1, 4, 8, 24)
    ramp = vae.first_stage_model.taesd_decoder[0].register_forward_hook(
        lambda module, args, out: out + torch.linspace(-1, 1, out.shape[-1])
    )
    try:
        _, text = decode(vae, latent, 3)
    finally:
        ramp.remove()
    assert "rolled test latent gave a picture that differs by" in text


def raise_once_in(layer, error):
    """Raise where the canvas (wider than the test latent) reaches this layer, once."""
    pending = [error]

    def hook(module, args):
        if args[0].shape[-1] > TEST_LONG and pending:
            raise pending.pop()

    return layer.register_forward_pre_hook(hook)


def test_out_of_memory_decodes_the_padded_latent_in_ordinary_tiles(vaes):
    vae, latent = vaes("kl4"), noise(1, 4, 6, 20)
    before = vae.decode(latent)
    hook = raise_once_in(vae.first_stage_model.decoder.conv_in, comfy.model_management.OOM_EXCEPTION("full"))
    try:
        picture, text = decode(vae, latent, 3)
    finally:
        hook.remove()
    tiles = vae.decode_tiled_(pad_ring(latent, 3, PADDING)).movedim(1, -1)
    expected, difference = crop_ring(tiles, 2, 20, PADDING)
    assert torch.equal(picture, expected)
    assert "memory ran out and the host decoded in tiles" in text and f"{difference:.2g}" in text
    print(text)
    assert torch.equal(vae.decode(latent), before)
    assert untouched(vae) and "decode_tiled_" not in vars(vae)


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
def test_an_error_inside_leaves_the_vae_as_it_was(vaes, error):
    vae, latent = vaes("taesd"), noise(1, 4, 8, 24)
    before = vae.decode(latent)
    hook = raise_once_in(vae.first_stage_model.taesd_decoder[6], error)
    with pytest.raises(type(error)):
        decode(vae, latent, 3)
    hook.remove()
    assert untouched(vae)
    assert torch.equal(vae.decode(latent), before)


def test_interruption_leaves_the_vae_as_it_was(vaes):
    vae, latent = vaes("taesd"), noise(1, 4, 8, 24)
    comfy.model_management.interrupt_current_processing(True)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        decode(vae, latent, 3)
    assert untouched(vae)


def test_weights_that_the_host_casts_on_the_fly(vaes):
    """Half-precision weights, cast by the host's own operations in every call."""
    vae = comfy.sd.VAE(sd=STATE_DICTS["taesd"](), dtype=torch.bfloat16)
    for layer in vae.first_stage_model.modules():
        if hasattr(layer, "comfy_cast_weights"):
            layer.comfy_cast_weights = True
    vae.vae_dtype = torch.float32  # activations; the weights stay bfloat16
    latent = noise(1, 4, 8, 24)
    picture, text = decode(vae, latent, 3)
    rolled, _ = decode(vae, latent.roll(5, 3), 3)
    assert text.startswith("circular")
    assert (rolled - picture.roll(40, 2)).abs().max() <= 1e-5


def test_half_precision_is_exact_but_for_rounding(vaes):
    vae = comfy.sd.VAE(sd=STATE_DICTS["kl4"](), dtype=torch.bfloat16)
    _, text = decode(vae, noise(1, 4, 4, 12), 3)
    print(text)
    assert text.startswith("circular: exact but for rounding in bfloat16")


@pytest.mark.parametrize(
    "shape, axis, words",
    [
        ((1, 16, 8, 24), 3, "the latent has 16 channels, but this VAE decodes 4"),
        ((1, 4, 8, 20), 3, "the plan is for a canvas of 24 latent columns.* is 20 latent columns long"),
    ],
)
def test_a_latent_that_does_not_fit_is_refused(vaes, shape, axis, words):
    plan = canvas(torch.zeros(*shape[:-1], 24), axis)
    with pytest.raises(ValueError, match=f"Loop VAE Decode: .*{words}"):
        SaFaLoopDecode.execute(vae=vaes("taesd"), latent={"samples": torch.zeros(shape)}, plan=plan)


def test_nested_latents_are_refused(vaes):
    latent = torch.zeros(1, 4, 8, 24)
    pack = comfy.nested_tensor.NestedTensor((latent, latent))
    with pytest.raises(ValueError, match="Loop VAE Decode: .*one latent"):
        SaFaLoopDecode.execute(vae=vaes("taesd"), latent={"samples": pack}, plan=canvas(latent, 3))


def host_vae(cls, *keys, **options):
    """A VAE that the host recognises by the shapes of `keys`, its weights whatever the memory holds."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in cls(**options).state_dict().items()}
    return comfy.sd.VAE(sd={key: torch.zeros(shapes[key]) for key in keys})


def mel_vae():
    return AudioVAE(SimpleNamespace(name="tiny AudioLDM", vae=tiny_audio.vae(5), vocoder=None, mel=Mel()))


SOUND = "expected a VAE for pictures, got one for sound; decode sound with Mel Decode."
SHAPES = "expected a VAE for pictures, got one for 3-D shapes; decode 3-D shapes with the host's node for them."
EMPTY = "expected a VAE, got an empty one; the checkpoint holds none: load it with Load VAE."
OTHERS = {
    "Stable Audio 3": (
        lambda: comfy.sd.VAE(sd={"decoder.layers.3.transformers.0.pre_norm.alpha": torch.zeros(1)}),
        (1, 256, 24),
        SOUND,
    ),
    "MiniMax, whose latents have rows": (
        lambda: host_vae(comfy.ldm.minimax.audio_vae.MiniMaxH3AudioVAE, "pre_block.attn.zero_k_bias"),
        (1, 32, 2, 24),
        SOUND,
    ),
    "the audio loader's": (mel_vae, (1, 8, 24, 16), SOUND),
    "Hunyuan 3D": (
        lambda: host_vae(comfy.ldm.hunyuan3d.vae.ShapeVAE, "geo_decoder.cross_attn_decoder.ln_1.bias"),
        (1, 64, 24),
        SHAPES,
    ),
    "a checkpoint without one": (lambda: comfy.sd.VAE(sd={}), (1, 4, 8, 24), EMPTY),
    "another pack's nothing": (lambda: None, (1, 4, 8, 24), EMPTY),
    "Wan, for a picture's latent": (
        lambda: comfy.sd.VAE(sd=STATE_DICTS["wan"]()),
        (1, 16, 8, 24),
        "expected a latent [batch, 16, frames, height, width] for this VAE, got [1, 16, 8, 24]; connect the VAE of the "
        "model that made the latent.",
    ),
    "a picture's, for flat latents": (
        lambda: comfy.sd.VAE(sd=STATE_DICTS["taesd"]()),
        (1, 4, 24),
        "expected a latent [batch, 4, height, width] for this VAE, got [1, 4, 24]; connect the VAE of the model that "
        "made the latent.",
    ),
}


@pytest.mark.parametrize("loop", [True, False])
@pytest.mark.parametrize("name", OTHERS)
def test_a_vae_of_another_kind_is_refused_in_one_sentence(name, loop):
    make, shape, sentence = OTHERS[name]
    latent = torch.zeros(shape)
    axis = shape.index(24)
    with pytest.raises(ValueError) as refusal:
        SaFaLoopDecode.execute(vae=make(), latent={"samples": latent}, plan=canvas(latent, axis, loop))
    assert str(refusal.value) == f"Loop VAE Decode: {sentence}"


def test_schema():
    schema = SaFaLoopDecode.GET_SCHEMA()
    assert (schema.node_id, schema.display_name, schema.category) == ("SaFaLoopDecode", "Loop VAE Decode", "SaFa")
    assert [i.id for i in schema.inputs] == ["vae", "latent", "plan"]
    assert [o.io_type for o in schema.outputs] == ["IMAGE"]
    assert all(i.tooltip for i in schema.inputs)
