from functools import lru_cache

import pytest
import torch

import comfy.sample
import comfy.samplers
import comfy.sd
import node_helpers
from comfy_extras.nodes_attention_multiply import UNetSelfAttentionMultiply
from comfy_extras.nodes_cfg import CFGZeroStar
from comfy_extras.nodes_differential_diffusion import DifferentialDiffusion
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from comfy_extras.nodes_freelunch import FreeU_V2
from comfy_extras.nodes_fresca import FreSca
from comfy_extras.nodes_hypertile import HyperTile
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete, RescaleCFG
from comfy_extras.nodes_model_downscale import PatchModelAddDownscale
from comfy_extras.nodes_pag import PerturbedAttentionGuidance
from comfy_extras.nodes_sag import SelfAttentionGuidance
from comfy_extras.nodes_slg import SkipLayerGuidanceDiT
from comfy_extras.nodes_tcfg import TCFG
from comfy_extras.nodes_tomesd import TomePatchModel

import nodes as host_nodes
from safa_pack.nodes.canvas import Guide
from safa_pack.nodes.joint.patch import JointPatch
from safa_pack.safa_core import SwapJoin
from safa_pack.tests import tiny_models
from safa_pack.tests.nodes.host_calls import SEED, Forwards, canvas_of, crop, difference, joint, separate

pytestmark = pytest.mark.host

PICTURE = (1, 4, 8, 28)
SLIM = (1, 4, 4, 28)
FAMILIES = {  # model, kind of conditioning, canvas, view, long axis, unit
    "sd15": (tiny_models.sd15, "sd15", SLIM, 12, 3, "pixels"),
    "sd15 upright": (tiny_models.sd15, "sd15", (1, 4, 28, 4), 12, 2, "pixels"),
    "sd15 v": (lambda: tiny_models.sd15("v"), "sd15", SLIM, 12, 3, "pixels"),
    "sd20 v": (tiny_models.sd20, "sd20", SLIM, 12, 3, "pixels"),
    "sd20 v, zero snr": (
        lambda: ModelSamplingDiscrete().patch(tiny_models.sd20(), "v_prediction", True)[0],
        "sd20",
        SLIM,
        12,
        3,
        "pixels",
    ),
    "sdxl": (tiny_models.sdxl, "sdxl", SLIM, 12, 3, "pixels"),
    "sd3": (tiny_models.sd3, "sd3", (1, 16, 4, 28), 12, 3, "pixels"),
    "flux": (tiny_models.flux_like, "flux_like", (1, 16, 4, 28), 12, 3, "pixels"),
    "flux upright": (tiny_models.flux_like, "flux_like", (1, 16, 28, 4), 12, 2, "pixels"),
    "wan picture": (tiny_models.wan21, "wan21", (1, 16, 1, 4, 28), 12, 4, "pixels"),
    "wan video": (tiny_models.wan21, "wan21", (1, 16, 2, 4, 28), 12, 4, "pixels"),
    "wan upright": (tiny_models.wan21, "wan21", (1, 16, 2, 28, 4), 12, 3, "pixels"),
    "stable audio": (tiny_models.stable_audio, "stable_audio", (1, 64, 60), 24, 2, "seconds"),
    "ace step": (tiny_models.ace_step, "ace_step", (1, 8, 16, 60), 24, 3, "seconds"),
}


@pytest.fixture(autouse=True, scope="module")
def no_grad():
    with torch.no_grad():
        yield


def prompt(seed, kind="sd15", **values):
    return tiny_models.conditioning(kind, seed, **values)


@pytest.mark.parametrize("family", FAMILIES)
def test_views_of_every_family_are_what_the_host_makes_of_them_alone(family, record_property):
    make, kind, shape, view, axis, unit = FAMILIES[family]
    canvas = canvas_of(shape, view, loop=True, axis=axis, unit=unit)
    guide = Guide(0.5, 1, "frames" if unit == "seconds" else "rows") if axis == len(shape) - 1 else None
    if len(shape) == 5 or kind == "flux_like":
        guide = None  # the literal algorithm's rows are the fourth dimension
    model, positive, negative = make(), prompt(1, kind), prompt(2, kind)
    options = dict(guide=guide, batch=1 if family.startswith("sdxl") else 2)
    together = joint(model, canvas, positive, negative, **options)
    apart = separate(model, canvas, lambda i: (positive, negative), **options)
    record_property("relative difference", difference(together, apart))
    # zero SNR starts at sigma 4518, so x - denoised loses three digits more
    assert difference(together, apart) <= (1e-4 if "zero snr" in family else 1e-5)


@pytest.mark.parametrize(("shape", "dims"), [((2, 4, 7, 44), 2), ((2, 4, 3, 7, 44), 3)])
@pytest.mark.parametrize("loop", [False, True])
def test_an_upright_canvas_is_a_wide_one_on_its_side(shape, dims, loop):
    model = tiny_models.toy(dims=dims)
    wide = canvas_of(shape, 16, loop=loop)
    tall = canvas_of((*shape[:-2], shape[-1], shape[-2]), 16, loop=loop, axis=-2)
    noise = comfy.sample.prepare_noise(torch.zeros(shape), SEED)

    def sample(canvas, noise):
        patched = JointPatch(canvas, SwapJoin(), None, "SaFa Sampler").install(model)
        start = torch.zeros_like(noise)
        toy = prompt(1, "toy"), prompt(2, "toy")
        return comfy.sample.sample(patched, noise, 4, 4.0, "euler", "simple", *toy, start, seed=SEED)

    assert difference(sample(tall, noise.mT.contiguous()).mT, sample(wide, noise)) <= 1e-5


def sizes_seen(model, canvas, positive, negative):
    with Forwards(model.model.diffusion_model) as calls:
        joint(model, canvas, positive, negative, steps=1)
    return torch.cat([kwargs["y"] for _, kwargs in calls])


def test_sdxl_is_told_the_size_of_each_window():
    canvas = canvas_of(PICTURE, 12)
    model, seen = tiny_models.sdxl(), None
    seen = sizes_seen(model, canvas, prompt(1, "sdxl"), prompt(2, "sdxl"))
    for seed in (1, 2):
        given = prompt(seed, "sdxl")[0][1]["pooled_output"]
        one = model.model.encode_adm(pooled_output=given, width=96, height=64, device="cpu")
        assert sum(torch.equal(y, one[0]) for y in seen) == 3
        canvas_sized = model.model.encode_adm(pooled_output=given, width=224, height=64, device="cpu")
        assert not torch.equal(one, canvas_sized)


def test_sdxl_is_told_the_users_size_where_there_is_one():
    canvas = canvas_of(PICTURE, 12)
    model = tiny_models.sdxl()
    size = dict(width=1024, height=768, crop_w=3, crop_h=5, target_width=900, target_height=800)
    seen = sizes_seen(model, canvas, prompt(1, "sdxl", **size), prompt(2, "sdxl"))
    given = prompt(1, "sdxl")[0][1]["pooled_output"]
    one = model.model.encode_adm(pooled_output=given, device="cpu", **size)
    assert sum(torch.equal(y, one[0]) for y in seen) == 3


@pytest.mark.parametrize("concat", [False, True])
def test_an_inpainting_model_reads_each_views_own_piece(concat):
    canvas = canvas_of(PICTURE, 12, loop=True)
    generator = torch.Generator().manual_seed(5)
    whole = {
        "concat_latent_image": torch.randn(1, 4, 8, 28, generator=generator),
        "concat_mask": (torch.rand(1, 1, 8, 28, generator=generator) > 0.5).float(),
    }

    def conds(i=None):
        values = {k: v if i is None else crop(v, canvas, i, 3) for k, v in whole.items()} if concat else {}
        return [node_helpers.conditioning_set_values(prompt(seed), values) for seed in (1, 2)]

    model = tiny_models.sd15_inpaint()
    together = joint(model, canvas, *conds())
    assert difference(together, separate(model, canvas, conds)) <= 1e-5


def test_the_references_own_masked_picture_has_the_size_of_a_view():
    canvas = canvas_of(PICTURE, 12)
    generator = torch.Generator().manual_seed(5)

    def conds(seed, width):
        values = {
            "concat_latent_image": torch.randn(1, 4, 8, width, generator=generator),
            "concat_mask": (torch.rand(1, 1, 8, width, generator=generator) > 0.5).float(),
        }
        return node_helpers.conditioning_set_values(prompt(seed), values)

    wide, small = conds(1, 28), conds(7, 12)

    def view(i):
        if i == len(canvas.plan):
            return small, prompt(2)
        values = {k: crop(wide[0][1][k], canvas, i, 3) for k in ("concat_latent_image", "concat_mask")}
        return node_helpers.conditioning_set_values(wide, values), prompt(2)

    model, guide = tiny_models.sd15_inpaint(), Guide(0.5, 1, "rows", conditioning=small)
    together = joint(model, canvas, wide, prompt(2), guide=guide)
    assert difference(together, separate(model, canvas, view, guide=guide)) <= 1e-5


def test_a_lora_stays_on_the_model():
    canvas = canvas_of(PICTURE, 12)
    conds = prompt(1), prompt(2)
    plain = tiny_models.sd15()
    lora, _ = comfy.sd.load_lora_for_models(plain, None, tiny_models.lora_sd15(), 1.0, 0.0)
    together = joint(lora, canvas, *conds)
    assert difference(together, separate(lora, canvas, lambda i: conds)) <= 1e-5
    assert difference(together, joint(plain, canvas, *conds)) > 0.01


# ---- Other nodes on the same model ----


@lru_cache
def _with_middle_attention():
    slim = tiny_models.SD15_UNET | {"transformer_depth_middle": 1}
    weights = tiny_models.unet_state_dict(slim, seed=15)
    return comfy.sd.load_diffusion_model_state_dict(weights, {"dtype": torch.float32})


def sd15_middle():
    """SD1.5 with the attention in its middle that some nodes hook into; FreeU sees the widths of a real one."""
    model = _with_middle_attention().clone()
    model.model.model_config.unet_config["model_channels"] = 80  # FreeU acts on blocks 2 and 4 times as wide
    return model


PER_VIEW = {  # what acts inside the network, on each view by itself
    "FreeU": lambda m: FreeU_V2.execute(m, 1.3, 1.4, 0.9, 0.2),
    "Perturbed-Attention Guidance": lambda m: PerturbedAttentionGuidance.execute(m, 3.0),
    "Self-Attention Multiply": lambda m: UNetSelfAttentionMultiply.execute(m, 1.1, 0.9, 1.2, 1.0),
    "Deep Shrink": lambda m: PatchModelAddDownscale.execute(m, 3, 2.0, 0.0, 1.0, True, "bicubic", "bicubic"),
}
ON_THE_WHOLE = {  # what looks at the whole prediction, or draws random numbers
    "HyperTile": lambda m: HyperTile.execute(m, 32, 2, 0, False),
    "ToMe": lambda m: TomePatchModel.execute(m, 0.3),
    "Rescale CFG": lambda m: RescaleCFG().patch(m, 0.7),
    "CFG Zero Star": lambda m: CFGZeroStar.execute(m),
    "Tangential Damping CFG": lambda m: TCFG.execute(m),
    "FreSca": lambda m: FreSca.execute(m, 1.0, 1.25, 3),
    "Self-Attention Guidance": lambda m: SelfAttentionGuidance.execute(m, 0.5, 2.0),
}


def first_output(out):
    return out[0] if isinstance(out, tuple) else out.result[0]


@pytest.mark.parametrize("node", PER_VIEW)
def test_nodes_inside_the_network_act_on_each_view(node):
    canvas = canvas_of(PICTURE, 12)
    model = first_output(PER_VIEW[node](sd15_middle()))
    conds = prompt(1), prompt(2)
    together = joint(model, canvas, *conds)
    assert difference(together, separate(model, canvas, lambda i: conds)) <= 1e-5
    assert difference(together, joint(sd15_middle(), canvas, *conds)) > 1e-4


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("node", ON_THE_WHOLE)
def test_other_nodes_run_before_and_behind_the_patch(node, behind):
    canvas = canvas_of(PICTURE, 12)
    patch = JointPatch(canvas, SwapJoin(), Guide(0.5, 1, "rows"), "SaFa Model Patch")
    model = sd15_middle()
    if behind:
        patched = first_output(ON_THE_WHOLE[node](patch.install(model)))
    else:
        patched = patch.install(first_output(ON_THE_WHOLE[node](model)))
    out = run(patched, canvas, steps=2)
    assert out.shape == (1, *canvas.shape) and torch.isfinite(out).all()


def run(patched, canvas, kind="sd15", steps=2, **options):
    latent = torch.zeros(1, *canvas.shape)
    noise = comfy.sample.prepare_noise(latent, SEED)
    conds = prompt(1, kind), prompt(2, kind)
    return comfy.sample.sample(
        patched, noise, steps, 4.0, "euler", "simple", *conds, latent, seed=SEED, disable_pbar=True, **options
    )


def test_skip_layer_guidance_on_sd3():
    canvas = canvas_of((1, 16, 8, 28), 12)
    model = first_output(SkipLayerGuidanceDiT.execute(tiny_models.sd3(), 3.0, 0.0, 1.0, "0", "0"))
    conds = prompt(1, "sd3"), prompt(2, "sd3")
    together = joint(model, canvas, *conds)
    assert difference(together, separate(model, canvas, lambda i: conds)) <= 1e-5


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("cache", [EasyCacheNode, LazyCacheNode])
def test_caches_of_predictions(cache, behind):
    canvas = canvas_of(SLIM, 12)
    model = tiny_models.sd15()

    def cached(threshold):
        patch = JointPatch(canvas, SwapJoin(), Guide(0.3, 1, "rows"), "SaFa Model Patch")
        if behind:
            patched = cache.execute(patch.install(model), threshold, 0.0, 1.0, False).result[0]
        else:
            patched = patch.install(cache.execute(model, threshold, 0.0, 1.0, False).result[0])
        with Forwards(model.model.diffusion_model.time_embed) as calls:
            return run(patched, canvas, steps=8), len(calls)

    plain = joint(model, canvas, prompt(1), prompt(2), guide=Guide(0.3, 1, "rows"), steps=8)
    exact, all_calls = cached(0.0)
    assert difference(exact, plain) <= 1e-5
    rough, fewer = cached(3.0)  # also after the reference has stopped guiding
    assert torch.isfinite(rough).all() and 2 <= fewer <= 4 < all_calls == 8


def test_a_wrapper_around_the_model_sees_windows():
    canvas = canvas_of(PICTURE, 12)
    model, shapes = tiny_models.sd15(), []

    def wrapper(apply, args):
        shapes.append(tuple(args["input"].shape[1:]))
        return apply(args["input"], args["timestep"], **args["c"])

    model.set_model_unet_function_wrapper(wrapper)
    conds = prompt(1), prompt(2)
    together = joint(model, canvas, *conds)
    assert set(shapes) == {(4, 8, 12)}
    assert difference(together, joint(tiny_models.sd15(), canvas, *conds)) == 0


def test_differential_diffusion():
    """A mask of grey values is each step's own threshold; kept places are the latent's, changed ones are not."""
    canvas = canvas_of(PICTURE, 12)
    model = first_output(DifferentialDiffusion.execute(tiny_models.sd15()))
    latent = torch.randn(1, 4, 8, 28, generator=torch.Generator().manual_seed(4))
    mask = torch.linspace(0, 1, 28).expand(1, 1, 8, 28).contiguous()
    patched = JointPatch(canvas, SwapJoin(), Guide(0.5, 1, "rows"), "SaFa Model Patch").install(model)
    (out,) = host_nodes.KSampler().sample(
        patched, SEED, 4, 4.0, "euler", "simple", prompt(1), prompt(2), {"samples": latent, "noise_mask": mask}
    )
    assert torch.allclose(out["samples"][..., 0], latent[..., 0], atol=1e-5)
    assert (out["samples"][..., -1] - latent[..., -1]).abs().mean() > 0.1
