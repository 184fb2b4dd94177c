"""Merge-Attend-Diffuse against a literal reference: dictionaries of columns and attention written out."""

from types import SimpleNamespace

import pytest
import torch

from comfy.model_base import BaseModel
from comfy.model_patcher import ModelPatcher
from comfy_extras.nodes_hypertile import HyperTile
from comfy_extras.nodes_pag import PerturbedAttentionGuidance

from safa_pack.nodes.audio.loader import load_audio_model
from safa_pack.nodes.canvas import Canvas, Guide
from safa_pack.nodes.joint.prompt_timeline import SaFaPromptTimeline
from safa_pack.nodes.joint.sampler import SaFaModelPatch, SaFaSampler
from safa_pack.nodes.rivals.attention_swap import claim_self_attention
from safa_pack.nodes.rivals.merge_attend import SaFaMergeAttend
from safa_pack.safa_core import AverageJoin, plan_views
from safa_pack.tests import tiny_audio, tiny_models
from safa_pack.tests.nodes.harness import ALIVE, advanced, ksampler
from safa_pack.tests.nodes.host_calls import difference
from safa_pack.tests.nodes.rivals.merge_literal import Record, check, rms

pytestmark = pytest.mark.host

PICTURES = {"sd15": tiny_models.sd15, "sd20": tiny_models.sd20, "sdxl": tiny_models.sdxl, "sd3": tiny_models.sd3}
GUIDE = Guide(0.5, 1, "frames")


@pytest.fixture(autouse=True, scope="module")
def no_grad():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """family(name): model, prompts and a way to make canvases; each made once."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = picture(name) if name in PICTURES else sound(name, tmp_path_factory.mktemp(name) / name)
            ALIVE.append(made[name].model)
        return made[name]

    return get


def picture(name):
    model = PICTURES[name]()
    positive, negative = tiny_models.conditioning(name, 1, tokens=5), tiny_models.conditioning(name, 2, tokens=5)
    channels = 16 if name == "sd3" else 4
    return SimpleNamespace(name=name, model=model, positive=positive, negative=negative, shape=(channels, 4), axis=3)


def sound(name, folder):
    model, clip, _ = load_audio_model(tiny_audio.FAMILIES[name](folder))
    positive, negative = (prompt(clip, text) for text in ("rain on a tin roof", "noise of bad quality"))
    told = {"positive": positive, "negative": negative, "clip": clip}
    return SimpleNamespace(name=name, model=model, shape=(8, 16), axis=2, **told)


def prompt(clip, text):
    """A CONDITIONING of four tokens, so that no prompt is padded to another's length."""

    def four(value):
        return value[:, :4] if isinstance(value, torch.Tensor) and value.ndim == 3 else value

    entries = clip.encode_from_tokens_scheduled(clip.tokenize(text))
    return [[four(tokens), {key: four(value) for key, value in extra.items()}] for tokens, extra in entries]


def canvas_of(family, length=None, view=8, overlap=0.25, loop=False):
    length = length or (18 if loop else 20)
    if family.name == "sdxl":  # its attention is one level coarser
        length, view = 2 * length, 2 * view
    channels, rows = family.shape
    shape = (channels, rows, length) if family.axis == 3 else (channels, length, rows)
    unit = "pixels" if family.axis == 3 else "seconds"
    return Canvas(plan_views(length, view, overlap, loop), shape, family.axis, unit, 8 if family.axis == 3 else 0.04)


def merging(model, canvas, tau=0.5):
    ALIVE.append(model)
    return SaFaMergeAttend.execute(model, canvas, tau).result[0]


def joint(model, canvas, guide=None):
    ALIVE.append(model)
    return SaFaModelPatch.execute(model, canvas, AverageJoin(), guide).result[0]


def sample(family, model, canvas, batch=1, **options):
    latent = {"samples": torch.zeros(batch, *canvas.shape)}
    return ksampler(model, latent, **{"steps": 2, "positive": family.positive, "negative": family.negative} | options)


# ---- Attention layers, recorded while the host samples, against the method written out ----


def record(family, canvas, guide, outputs, inputs=None):
    """Two steps at tau 0.5, the first of which merges: the calls of the model."""
    with Record(family.model, outputs, inputs or {}) as seen:
        sample(family, joint(merging(seen.model, canvas), canvas, guide), canvas, batch=2)
    assert len(seen.calls) == 2
    return seen.calls


LOOPS = pytest.mark.parametrize("loop", [False, True])


@LOOPS
@pytest.mark.parametrize("name", ["sd15", "audioldm", "audioldm2", "tango"])
def test_the_views_of_a_unet_attend_to_the_whole_canvas(family, name, loop):
    """Queries of cross-attention merge in the second step too. On the ring with a reference, which nobody meets."""
    one = family(name)
    canvas, host = canvas_of(one, overlap=0.25 if loop else 0.5, loop=loop), name in PICTURES
    modules = one.model.model.diffusion_model.modules()
    blocks = [m for m in modules if type(m).__name__ == "BasicTransformerBlock"][:3]  # AudioLDM2's three kinds
    outputs = {}
    for i, block in enumerate(blocks):
        outputs |= {(i, 1): block.norm1, (i, 2): block.norm2, (i, "k"): block.attn2.to_k, (i, "v"): block.attn2.to_v}
        outputs |= {(i, "out", n): a.to_out if host else a for n, a in ((1, block.attn1), (2, block.attn2))}
    for step, call in enumerate(record(one, canvas, GUIDE if loop else None, outputs)):
        for i, block in enumerate(blocks):
            for n, layer in ((1, block.attn1), (2, block.attn2)):
                normed, after = call.seen[i, n], layer.to_out if host else layer.to_out[0]
                crosses = layer.to_k.in_features != normed.shape[2]
                keys = (call.seen[i, "k"], call.seen[i, "v"]) if crosses else (layer.to_k(normed), layer.to_v(normed))
                method = "cross_attention" if crosses else "self_attention"
                qkv, out = (layer.to_q(normed), *keys), call.seen[i, "out", n]
                others = check(call, canvas, crosses or step == 0, out, after, qkv, layer.heads, method)
                assert len(others) == (4 if loop and step == 0 else 0)


@LOOPS
def test_the_views_of_an_mmdit_attend_to_the_whole_canvas_and_to_their_own_text(family, loop):
    one = family("sd3")
    canvas = canvas_of(one, overlap=0.25 if loop else 0.5, loop=loop)
    block = one.model.model.diffusion_model.joint_blocks[0]
    text, image, alone = block.context_block.attn, block.x_block.attn, block.x_block.attn2
    calls = record(
        one,
        canvas,
        GUIDE if loop else None,
        {"text": text.qkv, "image": image.qkv, "alone": alone.qkv},
        {"text out": text.proj, "image out": image.proj, "alone out": alone.proj},
    )

    def qkv(layer, projected):
        q, k, v = projected.chunk(3, dim=2)
        return rms(q, layer.ln_q.weight), rms(k, layer.ln_k.weight), v

    for step, call in enumerate(calls):
        seen, merges, heads = call.seen, step == 0, image.num_heads
        both = [torch.cat(t, 1) for t in zip(qkv(text, seen["text"]), qkv(image, seen["image"]), strict=True)]
        out, tokens = torch.cat([seen["text out"], seen["image out"]], 1), seen["text"].shape[1]
        check(call, canvas, merges, out, torch.nn.Identity(), both, heads, "joint_attention", text=tokens)
        own = qkv(alone, seen["alone"])
        check(call, canvas, merges, seen["alone out"], torch.nn.Identity(), own, heads, "self_attention")


# ---- Whole samplings ----


@pytest.mark.parametrize(
    ("name", "cfg"),
    [(name, cfg) for name in ("sd15", "sd3", "audioldm2") for cfg in (1.0, 4.0)]
    + [("sd20", 4.0), ("sdxl", 1.0), ("audioldm", 1.0), ("t5_audio", 4.0), ("tango", 1.0)],
)
def test_every_family_samples_and_keeps_its_own_attention(family, name, cfg):
    one = family(name)
    canvas = canvas_of(one, loop=cfg == 1.0)
    average = joint(one.model, canvas)
    before = sample(one, average, canvas, cfg=cfg)
    merged = sample(one, merging(average, canvas), canvas, cfg=cfg)
    assert torch.isfinite(merged).all() and difference(merged, before) > 1e-4
    assert torch.equal(sample(one, average, canvas, cfg=cfg), before)


@pytest.mark.parametrize("name", ["sd15", "sd3", "audioldm"])
def test_one_view_is_the_plain_model(family, name):
    one = family(name)
    canvas = canvas_of(one, length=8)
    assert torch.equal(sample(one, joint(merging(one.model, canvas), canvas), canvas), sample(one, one.model, canvas))


def test_the_nodes_may_stand_in_any_order(family):
    one = family("sd15")
    canvas = canvas_of(one)
    first = sample(one, joint(merging(one.model, canvas), canvas, GUIDE), canvas)
    assert torch.equal(sample(one, merging(joint(one.model, canvas, GUIDE), canvas), canvas), first)
    ours = {"seed": 3, "steps": 2, "cfg": 4.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    latent = {"samples": torch.zeros(1, *canvas.shape)}
    prompts = {"positive": one.positive, "negative": one.negative, "join": AverageJoin(), "guide": GUIDE}
    out = SaFaSampler.execute(merging(one.model, canvas), canvas, latent=latent, **prompts, **ours).result[0]
    assert difference(out["samples"], first) <= 1e-6


def test_two_stages_merge_the_same_steps_as_one(family):
    one = family("sd15")
    canvas = canvas_of(one)
    model, told = joint(merging(one.model, canvas, 0.75), canvas), {"positive": one.positive, "negative": one.negative}
    latent = {"samples": torch.zeros(1, *canvas.shape)}
    whole = advanced(model, latent, 0, 4, True, False, steps=4, **told)["samples"]
    half = advanced(model, latent, 0, 2, True, True, steps=4, **told)
    assert difference(advanced(model, half, 2, 4, False, False, steps=4, **told)["samples"], whole) <= 1e-5


def test_tau_zero_merges_queries_only_and_heun_counts_steps_not_calls(family):
    one = family("t5_audio")  # AudioLDM has no cross-attention
    canvas = canvas_of(one)
    average = joint(one.model, canvas)
    outs = [sample(one, merging(average, canvas, tau), canvas, sampler="heun", steps=3) for tau in (0, 0.3, 0.4, 1)]
    plain = sample(one, average, canvas, sampler="heun", steps=3)
    assert torch.equal(outs[1], outs[2])
    for a, b in ((plain, outs[0]), (outs[0], outs[1]), (outs[2], outs[3])):
        assert difference(a, b) > 1e-4


def test_a_timeline_of_one_prompt_merges_as_the_prompt(family):
    """Its spans share the views out between them."""
    one = family("sd15")
    canvas = canvas_of(one)
    model = joint(merging(one.model, canvas), canvas)
    spans = [[t, {**extra, "safa_span": span}] for t, extra in one.positive for span in ((0, 9), (9, 20))]
    assert difference(sample(one, model, canvas, positive=spans), sample(one, model, canvas)) <= 1e-5


def test_perturbed_attention_guidance_keeps_running(family):
    one = family("sd15")
    canvas = canvas_of(one)
    (guided,) = PerturbedAttentionGuidance.execute(merging(one.model, canvas), 2.0).result
    out = sample(one, joint(guided, canvas), canvas)
    assert torch.isfinite(out).all()


# ---- The host's batches ----


def only(monkeypatch, rows):
    """Memory for so many rows at once."""
    monkeypatch.setattr(BaseModel, "memory_required", lambda self, shape, **_: shape[0])
    monkeypatch.setattr(ModelPatcher, "get_free_memory", lambda self, device: 1.5 * rows + 0.1)


@pytest.mark.parametrize("name", ["sd15", "audioldm2"])
def test_prompts_that_do_not_fit_together_run_one_by_one(family, name, monkeypatch):
    one = family(name)
    canvas = canvas_of(one)
    model = joint(merging(one.model, canvas), canvas, GUIDE)
    together = sample(one, model, canvas)
    only(monkeypatch, len(canvas.plan) + 1)
    assert difference(sample(one, model, canvas), together) <= 1e-5


@pytest.mark.parametrize("name", ["sd15", "audioldm2", "sd3"])
def test_views_that_do_not_fit_together_are_refused(family, name, monkeypatch):
    one = family(name)
    canvas = canvas_of(one)
    model = joint(merging(one.model, canvas), canvas)
    only(monkeypatch, len(canvas.plan) - 1)
    with pytest.raises(ValueError, match="Merge-Attend-Diffuse: .* needs all 3 views in it; free memory"):
        sample(one, model, canvas)


def test_a_prompt_for_a_part_of_the_canvas_is_refused(family):
    one = family("sd15")
    canvas = canvas_of(one)
    mask = torch.zeros(1, 4, 20)
    mask[..., :4] = 1
    part = [[t, {**extra, "mask": mask, "set_area_to_bounds": False}] for t, extra in one.positive]
    with pytest.raises(ValueError, match="prompts for parts of the canvas .*without masks and areas"):
        sample(one, joint(merging(one.model, canvas), canvas), canvas, positive=one.positive + part)


def test_a_timeline_by_columns_is_refused_with_the_option_that_runs(family):
    one = family("audioldm2")
    canvas = canvas_of(one)
    model = joint(merging(one.model, canvas), canvas)

    def timeline(blend):
        return SaFaPromptTimeline.execute(one.clip, "0-0.4: rain\n0.4-: wind", canvas, 0.1, blend).result[0]

    with pytest.raises(ValueError, match="set `blend` of Prompt Timeline to views"):
        sample(one, model, canvas, positive=timeline("columns"))
    assert torch.isfinite(sample(one, model, canvas, positive=timeline("views"))).all()


# ---- What cannot be merged ----


def stable_audio_plan():
    return Canvas(plan_views(48, 24, 0.5), (64, 48), 2, "seconds", 0.05)


@pytest.mark.parametrize("kind", ["stable_audio", "flux_like", "wan21", "toy"])
def test_a_model_without_attention_that_can_be_merged_is_refused(kind):
    with pytest.raises(ValueError, match="^Merge-Attend-Diffuse: .* has no two-dimensional attention that can be"):
        merging(tiny_models.MODELS[kind](), stable_audio_plan())


@pytest.mark.parametrize("tau", [-0.1, 1.01, float("nan")])
def test_a_share_of_steps_outside_0_to_1_is_refused(family, tau):
    one = family("sd15")
    with pytest.raises(ValueError, match="Merge-Attend-Diffuse: expected `tau` from 0 to 1"):
        merging(one.model, canvas_of(one), tau)


def test_views_that_begin_inside_a_token_are_refused_with_a_plan_that_fits(family):
    one = family("sd15")
    with pytest.raises(
        ValueError, match=r"begin at 0, 5, 10 and .* multiples of 2; plan with overlap 0\.63\."
    ) as error:
        merging(one.model, canvas_of(one, length=18, overlap=0.3))
    assert "Merge-Attend-Diffuse: " in str(error.value)
    merging(one.model, canvas_of(one, length=18, overlap=0.63))
    with pytest.raises(ValueError, match=r"overlap 0\.37 and a length of 20 latent columns \(160 pixels\)"):
        merging(one.model, canvas_of(one, length=21))


def test_a_plan_of_another_kind_of_model_is_refused(family):
    with pytest.raises(ValueError, match=r"the plan is for a latent of \[64, 48\]"):
        merging(family("sd15").model, stable_audio_plan())


def test_a_model_that_nothing_cuts_into_views_is_refused(family):
    one = family("sd15")
    canvas = canvas_of(one)
    with pytest.raises(ValueError, match="Merge-Attend-Diffuse: nothing cuts the canvas into views; add SaFa Model"):
        sample(one, merging(one.model, canvas), canvas)


def test_another_plan_than_the_samplers_is_refused(family):
    one = family("sd15")
    canvas = canvas_of(one)
    with pytest.raises(ValueError, match="its plan is not that of SaFa Model Patch"):
        sample(one, joint(merging(one.model, canvas_of(one, loop=True)), canvas), canvas)


def test_a_second_method_for_self_attention_is_refused(family):
    one = family("sd15")
    canvas = canvas_of(one)
    with pytest.raises(ValueError, match="already has Merge-Attend-Diffuse"):
        merging(merging(one.model, canvas), canvas)
    with pytest.raises(ValueError, match="^the model already has Merge-Attend-Diffuse"):
        claim_self_attention(merging(one.model, canvas), "LiteFocus")
    other = one.model.clone()
    claim_self_attention(other, "LiteFocus")
    with pytest.raises(ValueError, match="Merge-Attend-Diffuse: the model already has LiteFocus"):
        merging(other, canvas)


def test_another_nodes_patch_on_self_attention_is_refused(family):
    one = family("sd15")
    canvas = canvas_of(one)
    (tiled,) = HyperTile.execute(joint(merging(one.model, canvas), canvas), 256, 2, 0, False)
    with pytest.raises(ValueError, match="another node on this model changes its self-attention"):
        sample(one, tiled, canvas)
