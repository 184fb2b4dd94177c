"""Picture models against the libraries' own pipelines, and the methods on them against literal loops."""

import pytest
import torch
from diffusers import StableDiffusion3Pipeline, StableDiffusionPipeline
from torchmetrics.functional.image.lpips import _LPIPS

from safa_pack.evaluation import windows
from safa_pack.evaluation.command import with_available_distance
from safa_pack.evaluation.making import merge_attend, sync_diffusion
from safa_pack.evaluation.making.folder import fingerprint
from safa_pack.evaluation.making.methods import method
from safa_pack.evaluation.making.open import open_model
from safa_pack.evaluation.making.sampling import Sampling, Task, ddim_step
from safa_pack.evaluation.protocol import Row, load
from safa_pack.safa_core import ReferenceGuide, SwapJoin, ViewPlan, joint_denoise, plan_views
from safa_pack.safa_core.methods.perceptual import gram_distance, gram_matrix
from safa_pack.tests.evaluation import tiny_pictures

pytestmark = pytest.mark.tools

CPU = torch.device("cpu")
FAMILIES = {"sd": tiny_pictures.write_sd, "sd3": tiny_pictures.write_sd3}
PIPELINES = {"sd": StableDiffusionPipeline, "sd3": StableDiffusion3Pipeline}
PROMPTS = ["a photo of a forest", "a cat"]
ALONE = ViewPlan((0,), 8, 8)
WIDE = plan_views(20, 8, 0.25)  # three views, 6 columns apart


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    return FAMILIES[family](tmp_path_factory.mktemp(family))


@pytest.fixture(scope="module")
def model(folder):
    return open_model("image", folder, 64, CPU, 5)


def task(plan, **changes):
    return Task(Sampling(**{"steps": 4, "guidance": 2.5} | changes), plan, PROMPTS, [(0, 0, 1), (1, 0, 1)])


def test_single_windows_are_what_the_librarys_pipeline_makes(model, family, folder):
    asked = task(ALONE)
    noise = asked.noise("canvas", model.latent_shape(8))
    found = method("single")(model, asked)
    pipe = PIPELINES[family].from_pretrained(
        folder, **({"safety_checker": None} if family == "sd" else {"text_encoder_3": None, "tokenizer_3": None}),
        **({"image_encoder": None, "feature_extractor": None} if family == "sd3" else {}),
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    for i, prompt in enumerate(PROMPTS):
        given = {
            "num_inference_steps": 4,
            "guidance_scale": 2.5,
            "latents": noise[i : i + 1],
            "height": 64,
            "width": 64,
        }
        latents = pipe(prompt, output_type="latent", **given).images
        assert torch.allclose(found[i : i + 1], latents, atol=2e-5)
    picture = pipe(prompt, output_type="pt", **given).images
    assert torch.allclose(model.decode(found[1:], False), picture, atol=1e-4)


def test_the_reference_swaps_rows_on_pictures(model):
    """Fig. 4: whole row segments, not columns."""
    asked = task(WIDE, rate=0.5)
    found = method("safa")(model, asked)
    again = task(WIDE, rate=0.5)
    canvas, reference = (again.noise(name, model.latent_shape(n)) for name, n in (("canvas", 20), ("reference", 8)))
    with torch.inference_mode():
        rows, columns = (
            joint_denoise(
                ddim_step(model, again), canvas, WIDE, 4, SwapJoin(), ReferenceGuide(0.5, 1, axis), reference
            )[0]
            for axis in ("rows", "frames")
        )
    assert torch.allclose(found, rows, atol=1e-6)
    assert not torch.allclose(found, columns, atol=1e-3)


def test_syncdiffusion_moves_every_view_but_the_anchor_down_the_gradient(model, monkeypatch):
    """Algorithm 1 of Lee et al. (2023), one view after the other, with autograd over the whole chain at once."""
    monkeypatch.setattr(sync_diffusion, "WEIGHT", 3.0)
    asked = task(WIDE, steps=2, rate=0.5)  # one step with a gradient, one without
    found = method("sync_diffusion_gram")(model, asked)
    canvas = asked.noise("canvas", model.latent_shape(20))
    text, unguided = model.encode(PROMPTS), model.encode([""])

    def denoised(x, t):
        positive, negative = (
            model.forward(x, t, *(part.expand(2, *part.shape[1:]) for part in p)) for p in (text, unguided)
        )
        return model.scheduler.step(negative + 2.5 * (positive - negative), t, x)

    def features(latents):
        config = model.vae.config
        plain = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
        x, kept = (
            model.vae.decoder.conv_in(model.vae.post_quant_conv(plain) if config.use_post_quant_conv else plain),
            [],
        )
        x = model.vae.decoder.mid_block(x)
        for level in model.vae.decoder.up_blocks:
            x = level(x)
            kept.append(x)
        return kept

    model.scheduler.set_timesteps(2)
    for k, t in enumerate(model.scheduler.timesteps):
        views = [canvas[..., WIDE.indices(i)] for i in range(3)]
        if k == 0:
            with torch.no_grad():
                grams = [gram_matrix(level) for level in features(denoised(views[1], t).pred_original_sample)]
            for i in (0, 2):
                x = views[i].clone().requires_grad_()
                loss = gram_distance(features(denoised(x, t).pred_original_sample), grams).sum()
                views[i] = x.detach() - 3.0 * torch.autograd.grad(loss, x)[0]
        with torch.no_grad():
            views = [denoised(view, t).prev_sample for view in views]
        total, count = torch.zeros_like(canvas), torch.zeros(20)
        for i, view in enumerate(views):
            total[..., WIDE.indices(i)] += view
            count[WIDE.indices(i)] += 1
        canvas = total / count
    assert torch.allclose(found, canvas, atol=1e-4)
    plain = method("average")(model, task(WIDE, steps=2))
    assert not torch.allclose(found, plain, atol=1e-3)


def test_syncdiffusion_takes_lpips_where_its_backbone_is_there(tmp_path):
    """One step, one view: the authors' distance between the picture and the anchor's, both clamped, in -1 ... 1."""
    row = load("table3").part("image").rows[2]
    other = with_available_distance(row, tmp_path)
    assert other.method == "sync_diffusion_gram" and "VAE features" in other.title
    (tmp_path / "perceptual").mkdir()
    network = _LPIPS(net="vgg", pnet_rand=True)
    names = {key: "features." + key.split(".", 1)[1] for key in network.net.state_dict()}
    torch.save(
        {names[key]: value for key, value in network.net.state_dict().items()}, tmp_path / "perceptual/vgg16.pth"
    )
    assert with_available_distance(row, tmp_path) == row
    model = open_model("image", FAMILIES["sd"](tmp_path / "sd"), 64, CPU, 5)
    asked = task(WIDE, steps=1, rate=1.0)
    asked.weights = tmp_path
    found = method("sync_diffusion")(model, asked)
    asked = task(WIDE, steps=1)
    canvas, text, unguided = asked.noise("canvas", (4, 8, 20)), model.encode(PROMPTS), model.encode([""])
    t = model.scheduler.timesteps[0]

    def denoised(x):
        return model.scheduler.step(model.guided(x, t, text, unguided, 2.5), t, x)

    views = [canvas[..., WIDE.indices(i)].clone().requires_grad_() for i in range(3)]
    anchor = model.pictures(denoised(views[1]).pred_original_sample).clamp(0, 1).detach()
    for i in (0, 2):
        picture = model.pictures(denoised(views[i]).pred_original_sample).clamp(0, 1)
        loss = network.eval()(2 * picture - 1, 2 * anchor - 1).sum()
        views[i] = views[i].detach() - 20 * torch.autograd.grad(loss, views[i])[0]
    with torch.no_grad():
        views = [denoised(view).prev_sample for view in views]
    assert torch.allclose(found[..., :6], views[0][..., :6], atol=1e-4)  # columns of one view alone
    assert torch.allclose(found[..., 8:12], views[1][..., 2:6], atol=1e-4)
    assert torch.allclose(found[..., 14:], views[2][..., 2:], atol=1e-4)


@torch.inference_mode()
def test_merge_attend_diffuse_merges_along_the_width(model):
    """It changes what averaging alone gives, and one view, which has nobody to merge with, is a single window."""
    both = method("merge_attend")(model, task(WIDE, rate=0.5))
    assert both.shape == (2, 4, 8, 20)
    assert not torch.allclose(both, method("average")(model, task(WIDE)), atol=1e-4)
    none = method("merge_attend")(model, task(ViewPlan((0,), 8, 8), rate=1.0))
    assert torch.allclose(none, method("single")(model, task(ALONE)), atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("pictures_alone", [False, True])
def test_the_transformers_pictures_attend_as_one_canvas_and_each_view_hears_its_own_text(tmp_path, pictures_alone):
    model = open_model("image", tiny_pictures.write_sd3(tmp_path / "sd3"), 64, CPU, 5)
    block = model.network.transformer_blocks[0]
    layer = block.attn2 if pictures_alone else block.attn
    plan, grid = plan_views(20, 8, 0.25), (4, 4)  # in tokens: 10 columns, views of 4, 3 apart
    states = torch.randn(2, 3, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    text = None if pictures_alone else torch.randn(2, 3, 1, 5, 16, generator=torch.Generator().manual_seed(2))
    with merge_attend.merged(model, plan, 1):
        given = {} if pictures_alone else {"encoder_hidden_states": text.flatten(0, 2)}
        found = layer(states.flatten(0, 2), **given)
    found = found if isinstance(found, tuple) else (found, None)
    pictures = found[0].unflatten(0, (2, 3, 1))
    names = [(layer.to_q, layer.norm_q), (layer.to_k, layer.norm_k), (layer.to_v, None)]
    for g in range(2):
        merged = []
        for to, norm in names:
            total, count = torch.zeros(grid[0], 10, 16), torch.zeros(10)
            for v in range(3):
                part = to(states[g, v, 0]).unflatten(1, (2, 8))
                part = (norm(part) if norm else part).flatten(1).unflatten(0, grid)
                total[:, 3 * v : 3 * v + 4] += part
                count[3 * v : 3 * v + 4] += 1
            merged.append(total / count[:, None])
        for v in range(3):
            q, k, v_ = merged[0][:, 3 * v : 3 * v + 4].flatten(0, 1), merged[1].flatten(0, 1), merged[2].flatten(0, 1)
            if not pictures_alone:
                own = text[g, v, 0]
                q = torch.cat([q, layer.norm_added_q(layer.add_q_proj(own).unflatten(1, (2, 8))).flatten(1)])
                k = torch.cat([k, layer.norm_added_k(layer.add_k_proj(own).unflatten(1, (2, 8))).flatten(1)])
                v_ = torch.cat([v_, layer.add_v_proj(own)])
            heads = [(q[:, h] @ k[:, h].T / 8**0.5).softmax(1) @ v_[:, h] for h in (slice(0, 8), slice(8, 16))]
            out = torch.cat(heads, 1)
            assert torch.allclose(pictures[g, v, 0], layer.to_out[0](out[:16]), atol=1e-5)
            if not pictures_alone:
                words = found[1].unflatten(0, (2, 3, 1))[g, v, 0]
                assert torch.allclose(words, layer.to_add_out(out[16:]), atol=1e-5)


def test_windows_are_cut_where_the_protocol_says(model):
    part = load("table3").part("image").shrunk(8)
    row = part.rows[1]
    canvas = torch.arange(400.0).expand(3, 64, 400)
    slid = windows.slid(model, part, row, canvas)
    assert slid[:, 0, 0, 0].tolist() == [0, 64, 128, 192, 256, 320] and slid.shape == (6, 3, 64, 64)
    starts = [windows.regions(part, row, canvas, 0, seed)[:, 0, 0, 0] for seed in range(200)]
    for i in range(5):
        first = torch.stack([own[i] for own in starts])
        assert first.min() == 80 * i and first.max() == 80 * i + 16  # every place of the region, none across its end
    assert torch.equal(starts[3], windows.regions(part, row, canvas, 0, 3)[:, 0, 0, 0])
    assert not torch.equal(starts[3], windows.regions(part, row, canvas, 1, 3)[:, 0, 0, 0])
    narrow = Row("SaFa (1600)", "safa", 200)
    assert len(windows.regions(part, narrow, canvas[..., :200], 0, 0)) == 3


def test_sizes_that_no_latent_has_and_half_a_folder_are_refused(folder, model, family, tmp_path):
    with pytest.raises(ValueError, match="multiples of 8 pixels, got 100"):
        model.columns(100, 640)
    (tmp_path / "model_index.json").write_text((folder / "model_index.json").read_text())
    with pytest.raises(ValueError, match="without unet|without transformer"):
        open_model("image", tmp_path, 64, CPU, 2)
    for part in ("unet", "transformer", "vae", "text_encoder", "tokenizer"):
        (tmp_path / part).mkdir()
    with pytest.raises(ValueError, match="does not load"):
        open_model("image", tmp_path, 64, CPU, 2)
    if family == "sd3":
        with pytest.raises(ValueError, match="Expected eta 0 for a flow model"):
            method("single")(model, task(ALONE, eta=1.0))


def test_a_fingerprint_changes_with_the_weights(tmp_path):
    folder = FAMILIES["sd"](tmp_path / "sd")
    before = fingerprint(folder)
    path = next((folder / "unet").glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    assert fingerprint(folder) != before
