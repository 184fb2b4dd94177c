import pytest
import torch

import comfy.sample
import comfy.samplers
import comfy.sd
import node_helpers
from comfy_extras.nodes_differential_diffusion import DifferentialDiffusion
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

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


# ---- Other nodes on the same model; those that patch it one by one are in mixes ----


def run(patched, canvas, kind="sd15", steps=2, **options):
    latent = torch.zeros(1, *canvas.shape)
    noise = comfy.sample.prepare_noise(latent, SEED)
    conds = prompt(1, kind), prompt(2, kind)
    return comfy.sample.sample(
        patched, noise, steps, 4.0, "euler", "simple", *conds, latent, seed=SEED, disable_pbar=True, **options
    )


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
    model = DifferentialDiffusion.execute(tiny_models.sd15()).result[0]
    latent = torch.randn(1, 4, 8, 28, generator=torch.Generator().manual_seed(4))
    mask = torch.linspace(0, 1, 28).expand(1, 1, 8, 28).contiguous()
    patched = JointPatch(canvas, SwapJoin(), Guide(0.5, 1, "rows"), "SaFa Model Patch").install(model)
    (out,) = host_nodes.KSampler().sample(
        patched, SEED, 4, 4.0, "euler", "simple", prompt(1), prompt(2), {"samples": latent, "noise_mask": mask}
    )
    assert torch.allclose(out["samples"][..., 0], latent[..., 0], atol=1e-5)
    assert (out["samples"][..., -1] - latent[..., -1]).abs().mean() > 0.1
