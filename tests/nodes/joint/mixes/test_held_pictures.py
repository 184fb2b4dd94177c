"""Pictures, masks and hints of the canvas that patches on a MODEL hold: each view gets its piece of them too."""

import logging

import pytest
import torch
from torch.nn.functional import interpolate

import comfy.ldm.anima.lllite
import comfy.ldm.lumina.controlnet
import comfy.ldm.supir.supir_modules
import comfy.ldm.wan.uni3c
import comfy.model_management
import comfy.utils
from comfy.ldm.modules.attention import optimized_attention
from comfy.ldm.supir.supir_patch import SUPIRPatch
from comfy_extras import nodes_model_patch

from safa_pack.nodes.canvas import Guide
from safa_pack.tests import tiny_controls, tiny_families
from safa_pack.tests.nodes.host_calls import canvas_of, crop, difference, joint, predict, separate

pytestmark = pytest.mark.host

PICTURE, PIXELS = (1, 16, 8, 28), (1, 64, 224, 3)
VIDEO = (1, 16, 1, 8, 28)


@pytest.fixture(autouse=True)
def fresh():
    """No gradients; and no models of other tests, which the host would load again after it has encoded a picture."""
    comfy.model_management.current_loaded_models.clear()
    with torch.no_grad():
        yield


def noise(shape, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def pixels(image, canvas, i, axis=2):
    """View i of an IMAGE or MASK of the canvas in pixels."""
    length, first = canvas.plan.length * 8, canvas.plan.starts[i] * 8
    return image.index_select(axis, torch.tensor([(first + p) % length for p in range(canvas.plan.view * 8)]))


def separately(model, canvas, patched, batch=1):
    """`separate` where every view has a model of its own, `patched(model, i)`; CONDITIONINGs carry their number."""
    models = [patched(model, i) for i in range(len(canvas.plan))]

    def conds(i):
        return tuple(tiny_families.prompt(seed, window=i) for seed in (1, 99))

    def guided(model, x, sigma, sigmas, positive, negative, cfg):
        return predict(models[positive[0][1]["window"]], x, sigma, sigmas, positive, negative, cfg)

    return separate(model, canvas, conds, steps=1, batch=batch, predict=guided)


def check(model, canvas, whole, patched, batch=1, limit=1e-5):
    """Joint sampling of `whole`, a patched model, is the host's own of `patched(model, i)`, each view's."""
    prompts = tiny_families.prompt(1), tiny_families.prompt(99)
    together = joint(whole, canvas, *prompts, steps=1, batch=batch)
    assert difference(together, separately(model, canvas, patched, batch)) <= limit
    assert difference(together, joint(model, canvas, *prompts, steps=1, batch=batch)) > 1e-3


# ---- The host's model patches ----

NODES = {  # the host's nodes that apply a model patch, and the tests of them
    "ModelPatchLoader": None,
    "QwenImageDiffsynthControlnet": "test_the_hint_of_a_qwen_image_patch",
    "ZImageFunControlnet": "test_the_hint_of_a_z_image_patch",
    "WanUni3CControlnetApply": "test_the_camera_video_of_uni3c",
    "USOStyleReference": "test_the_style_of_uso_is_whole_for_every_view",
    "SUPIRApply": "test_the_picture_that_supir_restores",
    "AnimaLLLiteApply": "test_the_hint_of_lllite",
}


def test_every_node_that_applies_a_model_patch_is_in_the_table():
    names = set(nodes_model_patch.NODE_CLASS_MAPPINGS)
    assert names == NODES.keys(), (
        f"comfy_extras/nodes_model_patch.py has the nodes {sorted(names)}, and this test knows {sorted(NODES)}: write "
        "a test of each new one, with a picture of the canvas, and put it into NODES."
    )
    assert all(test is None or test in globals() for test in NODES.values())


@tiny_families.built_once
def diffsynth_network(mask_channels):
    network = nodes_model_patch.QwenImageBlockWiseControlNet(
        num_layers=2, additional_in_dim=mask_channels, dim=32, operations=tiny_controls.OPERATIONS
    )
    return tiny_families.patcher(tiny_families.randomise(network, 7))


@pytest.mark.parametrize(("masked", "loop", "batch"), [(False, True, 1), (True, False, 2)])
def test_the_hint_of_a_qwen_image_patch(masked, loop, batch):
    canvas, model = canvas_of(VIDEO, 12, loop=loop, axis=4), tiny_families.qwen_image()
    image, mask = noise(PIXELS), noise(PIXELS[:3], 2).gt(0.5).float() if masked else None
    network, vae = diffsynth_network(4 if masked else 0), tiny_controls.video_autoencoder()

    def apply(model, *pictures):
        node = nodes_model_patch.QwenImageDiffsynthControlnet().diffsynth_controlnet
        return node(model, network, vae, image=pictures[0], mask=pictures[1])[0]

    def patched(model, i):
        return apply(model, *(None if p is None else pixels(p, canvas, i) for p in (image, mask)))

    check(model, canvas, apply(model, image, mask), patched, batch)


def test_a_hint_of_another_shape_is_fitted_to_the_canvas_as_the_host_fits_it_to_its_picture():
    """Scaled and centre-cropped to the canvas, once; then cut."""
    canvas, model = canvas_of(VIDEO, 12, axis=4), tiny_families.qwen_image()
    image = noise((1, 100, 300, 3))
    fitted = comfy.utils.common_upscale(image.movedim(-1, 1), PIXELS[2], PIXELS[1], "area", "center").movedim(1, -1)
    network, vae = diffsynth_network(0), tiny_controls.video_autoencoder()

    def apply(model, image):
        return nodes_model_patch.QwenImageDiffsynthControlnet().diffsynth_controlnet(model, network, vae, image=image)[
            0
        ]

    check(model, canvas, apply(model, image), lambda model, i: apply(model, pixels(fitted, canvas, i)), 1)


@tiny_families.built_once
def z_image_network():
    sizes = {"dim": 256, "n_heads": 8, "n_kv_heads": 8, "multiple_of": 32, "n_control_layers": 1}
    network = comfy.ldm.lumina.controlnet.ZImage_Control(
        **sizes, additional_in_dim=17, refiner_control=True, operations=tiny_controls.OPERATIONS
    )
    return tiny_families.patcher(tiny_families.randomise(network, 7))


def test_the_hint_of_a_z_image_patch():
    canvas, model = canvas_of(PICTURE, 12, loop=True), tiny_families.z_image()
    pictures = noise(PIXELS), noise(PIXELS, 2), noise(PIXELS[:3], 3).gt(0.5).float()
    vae = tiny_controls.autoencoder(16)

    def apply(model, image, inpainted, mask):
        node = nodes_model_patch.ZImageFunControlnet().diffsynth_controlnet
        return node(model, z_image_network(), vae, image, 1.0, inpainted, mask)[0]

    check(
        model,
        canvas,
        apply(model, *pictures),
        lambda model, i: apply(model, *(pixels(picture, canvas, i) for picture in pictures)),
    )


@tiny_families.built_once
def lllite_network():
    """For `tiny_families.cosmos`, whose blocks are Anima's; the class reads its sizes from weights."""
    kinds = {"self_attn_q_proj": 64, "cross_attn_q_proj": 64, "mlp_layer1": 64}
    part = comfy.ldm.anima.lllite.AnimaLLLiteConditioning(3, 32, 16, 1, (), operations=tiny_controls.OPERATIONS)
    weights = {f"lllite_conditioning1.{name}": value for name, value in part.state_dict().items()}
    for kind, width in kinds.items():
        weights[f"lllite_dit_blocks_0_{kind}.down.weight"] = torch.empty(16, width)
        weights[f"lllite_dit_blocks_0_{kind}.cond_to_film.weight"] = torch.empty(32, 16)
    network = comfy.ldm.anima.lllite.AnimaLLLite(weights, {}, operations=tiny_controls.OPERATIONS)
    return tiny_families.patcher(tiny_families.randomise(network, 7))


def test_the_hint_of_lllite():
    canvas, model = canvas_of(VIDEO, 12, axis=4), tiny_families.cosmos()
    image = noise(PIXELS)

    def apply(model, image):
        return nodes_model_patch.AnimaLLLiteApply().apply_patch(model, lllite_network(), image, 1.0, 0.0, 1.0)[0]

    check(model, canvas, apply(model, image), lambda model, i: apply(model, pixels(image, canvas, i)))


@tiny_families.built_once
def uni3c_network():
    sizes = {"conv_out_dim": 32, "dim": 32, "ffn_dim": 32, "num_heads": 1, "num_layers": 1}
    network = comfy.ldm.wan.uni3c.WanUni3CControlnet(
        **sizes, time_embed_dim=128, out_proj_dim=128, mid_channels=8, operations=tiny_controls.OPERATIONS
    )
    return tiny_families.patcher(tiny_families.randomise(network, 7))


def test_the_camera_video_of_uni3c():
    canvas, model = canvas_of((1, 16, 2, 8, 28), 12, loop=True, axis=4), tiny_families.wan()
    video, vae = noise((5, *PIXELS[1:])), tiny_controls.video_autoencoder()

    def apply(model, video):
        node = nodes_model_patch.WanUni3CControlnetApply().apply_patch
        return node(model, uni3c_network(), vae, video, 1.0, 0.0, 1.0)[0]

    check(model, canvas, apply(model, video), lambda model, i: apply(model, pixels(video, canvas, i)))


def test_the_style_of_uso_is_whole_for_every_view(caplog):
    canvas, model = canvas_of(PICTURE, 12), tiny_families.flux()
    sizes = {"siglip_token_nums": 20, "style_token_nums": 4, "siglip_token_dims": 32, "hidden_size": 128}
    network = nodes_model_patch.SigLIPMultiFeatProjModel(**sizes, operations=tiny_controls.OPERATIONS)
    network = tiny_families.patcher(tiny_families.randomise(network, 7))

    class Vision:
        all_hidden_states = torch.randn(1, 24, 20, 32, generator=torch.Generator().manual_seed(9))
        penultimate_hidden_states = all_hidden_states[:, -2]

    (styled,) = nodes_model_patch.USOStyleReference().apply_patch(model, network, Vision())
    prompts = tiny_families.prompt(1), tiny_families.prompt(99)
    options = dict(steps=2, cfg=1.0)  # as Flux runs: the node knows one picture and no negative prompt
    with caplog.at_level(logging.WARNING):
        together = joint(styled, canvas, *prompts, **options)
    (record,) = (r for r in caplog.records if r.message.startswith("SaFa Sampler"))
    assert "nodes_model_patch.UsoStyleProjectorPatch takes no batch of views" in record.message
    assert difference(together, separate(styled, canvas, lambda i: prompts, **options)) <= 1e-5
    assert difference(together, joint(model, canvas, *prompts, **options)) > 1e-3


@tiny_families.built_once
def supir_network():
    """Control and adapters for `tiny_families.sdxl(64)`, in the order in which the host's patch goes through them."""
    sizes = {"num_res_blocks": 1, "attention_resolutions": (2,), "channel_mult": (1, 1), "transformer_depth": (1, 1)}
    texts = {"context_dim": tiny_families.WIDTH, "adm_in_channels": tiny_families.SDXL["adm_in_channels"]}
    modules = comfy.ldm.supir.supir_modules
    network = torch.nn.Module()
    network.control_model = modules.GLVControl(model_channels=64, **sizes, **texts, operations=tiny_controls.OPERATIONS)
    before = [modules.ZeroSFT(64, 64, 64, operations=tiny_controls.OPERATIONS) for _ in range(4)]
    across = modules.ZeroCrossAttn(64, 64, operations=tiny_controls.OPERATIONS)
    middle = modules.ZeroSFT(64, 64, operations=tiny_controls.OPERATIONS)
    network.project_modules = torch.nn.ModuleList([*before[:2], across, *before[2:], middle])
    return tiny_families.patcher(tiny_families.randomise(network, 7, scale=0.5))


def test_the_picture_that_supir_restores():
    canvas, model = canvas_of((1, 4, 8, 28), 12, loop=True), tiny_families.sdxl(64)
    hint = torch.randn(1, *canvas.shape, generator=torch.Generator().manual_seed(9))

    def apply(model, hint):
        made = model.clone()
        SUPIRPatch(supir_network(), supir_network().model.project_modules, hint, 1.0, 0.5).register(made)
        return made

    check(model, canvas, apply(model, hint), lambda model, i: apply(model, crop(hint, canvas, i, 3)))


# ---- Image adapters ----


class Adapter:
    """Replaces cross attention by itself and that to a picture's tokens, weighed by a mask.

    As the best known pack of IP-Adapters: keyword arguments are kept in a list; tokens and mask are repeated for the
    prompts of a call (`cond_or_uncond`), the mask brought to the query's grid and its last one repeated for the batch.
    """

    def __init__(self, callback, **options):
        self.callback, self.options = [callback], [options]

    def __call__(self, q, k, v, extra_options):
        out = optimized_attention(q, k, v, extra_options["n_heads"])
        for callback, options in zip(self.callback, self.options, strict=True):
            out = out + callback(q, extra_options, **options)
        return out


def attend_to_picture(q, extra_options, tokens=None, weight=1.0, mask=None):
    """Attention [B, tokens of the query, width] to a picture's tokens [1, N, width]."""
    chunks = len(extra_options["cond_or_uncond"])
    batch, (rows, columns) = len(q) // chunks, extra_options["original_shape"][-2:]
    keys = tokens.repeat(batch * chunks, 1, 1)
    out = optimized_attention(q, keys, keys, extra_options["n_heads"])
    if mask is not None:
        shrink = (rows * columns / q.shape[1]) ** 0.5
        grid = int(rows / shrink), int(columns / shrink)
        mask = interpolate(mask.unsqueeze(1), grid, mode="bilinear").squeeze(1)
        if len(mask) < batch:
            mask = torch.cat([mask, mask[-1:].repeat(batch - len(mask), 1, 1)])
        out = out * mask[:batch].repeat(chunks, 1, 1).flatten(1).unsqueeze(-1)
    return out * weight


def adapted(model, mask, picture_seed=5):
    """A model with an image adapter on every cross attention."""
    made = model.clone()
    tokens = 2 * torch.randn(1, 4, 64, generator=torch.Generator().manual_seed(picture_seed))
    options = made.model_options["transformer_options"].setdefault("patches_replace", {}).setdefault("attn2", {})
    for block in (("input", 3), ("output", 0), ("output", 1)):
        options[block] = Adapter(attend_to_picture, tokens=tokens, mask=mask)
    return made


@pytest.mark.parametrize(("batch", "scale"), [(1, 8), (2, 8), (1, 1)])
def test_the_attention_mask_of_an_image_adapter(batch, scale):
    canvas, model = canvas_of((1, 4, 8, 28), 12, loop=True), tiny_families.sd15()
    mask = noise((batch, 8 * scale, 28 * scale)).gt(0.5).float()

    def patched(model, i):
        return adapted(model, pixels(mask, canvas, i) if scale == 8 else crop(mask, canvas, i, 2))

    check(model, canvas, adapted(model, mask), patched, batch)


def test_the_attention_mask_of_another_size_is_stretched_over_the_canvas():
    canvas, model = canvas_of((1, 4, 8, 28), 12), tiny_families.sd15()
    mask = noise((1, 24, 50)).gt(0.5).float()
    stretched = interpolate(mask.unsqueeze(1), (64, 224), mode="bilinear").squeeze(1)
    check(model, canvas, adapted(model, mask), lambda model, i: adapted(model, pixels(stretched, canvas, i)))


def test_two_image_adapters_for_two_halves_of_a_panorama():
    canvas, model = canvas_of((1, 4, 8, 28), 12), tiny_families.sd15()
    left = torch.zeros(1, 64, 224)
    left[..., :112] = 1

    def both(model, mask):
        made = adapted(model, mask)
        for block, adapter in made.model_options["transformer_options"]["patches_replace"]["attn2"].items():
            second = adapted(model, 1 - mask, 6).model_options["transformer_options"]["patches_replace"]["attn2"][block]
            adapter.callback += second.callback
            adapter.options += second.options
        return made

    check(model, canvas, both(model, left), lambda model, i: both(model, pixels(left, canvas, i)))


def test_an_image_adapter_without_a_mask_is_whole_for_every_view_in_one_call():
    canvas, model = canvas_of((1, 4, 8, 28), 12), tiny_families.sd15()
    check(model, canvas, adapted(model, None), lambda model, i: adapted(model, None))


# ---- Devices ----


class EncodesWhileItRuns:
    """A patch that encodes its picture at the first call, and has the host load what that has pushed out.

    The host then moves the patches of the models to where these run.
    """

    def __init__(self, picture):
        self.picture, self.encoded, self.moved = picture, None, False

    def __call__(self, h, options):
        if options["block"][1] != 0:
            return h
        if self.encoded is None:
            self.encoded = self.picture.mean() * torch.ones(())
            used = comfy.model_management.loaded_models(only_currently_used=True)
            comfy.model_management.load_models_gpu(used)
        if not self.moved:
            raise RuntimeError("expected all tensors on one device")
        return h + self.encoded

    def to(self, target):
        """Called by the host."""
        self.moved = self.encoded is not None or self.moved
        return self


def test_what_a_patch_encodes_while_it_runs_is_moved_to_the_models_device():
    canvas, model = canvas_of((1, 4, 8, 28), 12), tiny_families.sd15()
    picture = noise(PIXELS)

    def apply(model, picture):
        made = model.clone()
        made.set_model_input_block_patch(EncodesWhileItRuns(picture))
        return made

    check(model, canvas, apply(model, picture), lambda model, i: apply(model, pixels(picture, canvas, i)))


# ---- Beside a reference ----


def test_the_reference_has_the_first_views_piece(caplog):
    """As of every picture that lies on the canvas."""
    canvas, model = canvas_of((1, 4, 8, 28), 12), tiny_families.sd15()
    mask = noise((1, 64, 224)).gt(0.5).float()
    prompts = tiny_families.prompt(1), tiny_families.prompt(99)
    guide = Guide(0.5, 1, "rows")
    models = [adapted(model, pixels(mask, canvas, i)) for i in range(len(canvas.plan))]
    models.append(models[0])

    def guided(model, x, sigma, sigmas, positive, negative, cfg):
        return predict(models[positive[0][1]["window"]], x, sigma, sigmas, positive, negative, cfg)

    def conds(i):
        return tuple(tiny_families.prompt(seed, window=i) for seed in (1, 99))

    with caplog.at_level(logging.WARNING):
        together = joint(adapted(model, mask), canvas, *prompts, guide=guide)
    assert difference(together, separate(model, canvas, conds, guide=guide, predict=guided)) <= 1e-5
    assert "SaFa" not in caplog.text
