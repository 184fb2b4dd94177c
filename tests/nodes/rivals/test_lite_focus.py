import math
from types import SimpleNamespace

import pytest
import torch
from diffusers.models.attention_processor import Attention

import comfy.model_management
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.patcher_extension import WrappersMP

import nodes as host_nodes
from safa_pack.nodes.audio.loader import load_audio_model
from safa_pack.nodes.audio.unet import AudioLDM2UNet
from safa_pack.nodes.errors import named
from safa_pack.nodes.joint.patch import JointPatch
from safa_pack.nodes.rivals.attention_swap import claim_self_attention
from safa_pack.nodes.rivals.lite_focus import SaFaLiteFocus, diffusers_levels, host_levels, patch_model
from safa_pack.safa_core import SwapJoin
from safa_pack.safa_core.methods.lite_focus import CrossFrequency
from safa_pack.tests import tiny_audio, tiny_models
from safa_pack.tests.nodes.harness import ksampler, patched
from safa_pack.tests.nodes.host_calls import canvas_of, difference, joint, separate

pytestmark = pytest.mark.host

RHO, FOCUS_SEED, STEPS = 0.1, 5, 2
SHAPE = (1, 8, 11, 16)  # AudioLDM's layout with an odd number of frames; at downsampling 2 it has 6 x 8 tokens


KEPT = []  # see ALIVE of the harness; emptied, or the interpreter's end complains


@pytest.fixture(autouse=True, scope="module")
def no_grad():
    with torch.no_grad():
        yield
    KEPT.clear()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Kind -> MODEL and the two prompts of its own CLIP."""
    root, made = tmp_path_factory.mktemp("audio_models"), {}
    for kind, write in tiny_audio.FAMILIES.items():
        model, clip, _ = load_audio_model(write(root / kind))
        positive, negative = (host_nodes.CLIPTextEncode().encode(clip, text)[0] for text in ("rain", "low quality"))
        made[kind] = SimpleNamespace(kind=kind, model=model, conds={"positive": positive, "negative": negative})
    return made


@pytest.fixture(params=tiny_audio.FAMILIES)
def loaded(request, models):
    return models[request.param]


def focus(model, rho=RHO, levels="2", seed=FOCUS_SEED):
    KEPT.append(model)
    return SaFaLiteFocus.execute(model, rho, levels, seed).result[0]


def sampled(model, loaded, shape=SHAPE, steps=STEPS, **options):
    latent = {"samples": torch.zeros(shape)}
    return ksampler(model, latent, steps=steps, scheduler="ddim_uniform", **loaded.conds, **options)


# ---- Against attention written out ----


def weights_of(frames, bins, picked, frequency_first=False):
    """log of how often query n sees token m, [N, N], -inf for never."""
    seen = torch.zeros(frames * bins, frames * bins)
    for t in range(frames):
        for f in range(bins):
            for other in range(frames):
                if frequency_first:
                    seen[f * frames + t, f * frames + other] += 1
                else:
                    seen[t * bins + f, other * bins + f] += 1
    for token in picked:
        seen[:, token] += 1
    return seen.log()


def slow_attention(q, k, v, heads, weights):
    q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]) + weights
    return (torch.softmax(scores, -1) @ v).transpose(1, 2).flatten(2)


class Literal:
    """One layer's processor with all tokens and a mask; its calls are the model's, all conds in one batch."""

    def __init__(self, own, place, grid, rho):
        self.own, self.place, self.grid, self.rho, self.calls = own, place, grid, rho, 0

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        if encoder_hidden_states is not None:
            return self.own(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        frames, bins = self.grid
        picked = CrossFrequency(self.rho, FOCUS_SEED).picked(frames * bins, self.calls, self.place)
        self.calls += 1
        q, k, v = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        out = slow_attention(q, k, v, attn.heads, weights_of(frames, bins, picked.tolist()))
        return attn.to_out[0](out)


LOWER = [  # where the tiny UNets have attention: all at downsampling 2
    f"{block}.attentions.{i}.transformer_blocks.0"
    for block, count in (("down_blocks.1", 1), ("up_blocks.0", 2), ("mid_block", 1))
    for i in range(count)
]


@pytest.mark.parametrize("rho", [RHO, 1.0])
def test_audio_models_hear_what_the_paper_says(loaded, rho, monkeypatch):
    unet = loaded.model.model.diffusion_model
    if loaded.kind == "audioldm2":  # two kinds of prompt and none, one transformer each
        names = [name.removesuffix(".attn1") for name, _ in unet.named_modules() if name.endswith(".attn1")]
    else:
        names = LOWER
    layers = [unet.get_submodule(f"{name}.{attn}") for name in names for attn in ("attn1", "attn2")]
    together = sampled(focus(loaded.model, rho), loaded)
    plain = sampled(loaded.model, loaded)
    for place, layer in enumerate(layers):
        monkeypatch.setattr(layer, "processor", Literal(layer.processor, place, (6, 8), rho))
    expected = sampled(loaded.model, loaded)
    assert layers[0].processor.calls == STEPS
    assert difference(together, expected) <= 1e-5
    assert difference(plain, expected) > 1e-4, "the test can tell"


def test_a_picture_of_a_spectrogram_has_frequencies_in_rows():
    """Riffusion: SD1.5 whose rows are frequencies; by replacing attn1 with the slow form."""
    model, conds = tiny_models.sd15(), tiny_models.conditioning("sd15", 1)
    blocks = list(host_levels(model.model.diffusion_model))
    slow, calls = model.clone(), {}

    def replaced(place):
        def attention(q, k, v, options):
            calls[place] = calls.get(place, -1) + 1
            picked = CrossFrequency(RHO, FOCUS_SEED).picked(24, calls[place], place).tolist()
            return slow_attention(q, k, v, options["n_heads"], weights_of(6, 4, picked, frequency_first=True))

        return attention

    for place, block in enumerate(blocks):
        slow.set_model_attn1_replace(replaced(place), *block)
    latent = {"samples": torch.zeros(1, 4, 8, 12)}
    options = {"steps": STEPS, "positive": conds, "negative": tiny_models.conditioning("sd15", 2)}
    together, expected = ksampler(focus(model), latent, **options), ksampler(slow, latent, **options)
    assert calls[0] == STEPS - 1
    assert difference(together, expected) <= 1e-5
    assert difference(ksampler(model, latent, **options), expected) > 1e-4


# ---- Levels ----


def four_levels():
    """AudioLDM2's UNet as published, with few channels."""
    return AudioLDM2UNet(
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=2,
        norm_num_groups=4,
        in_channels=8,
        out_channels=8,
        down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * 3),
        up_block_types=(*["CrossAttnUpBlock2D"] * 3, "UpBlock2D"),
        cross_attention_dim=((None, 24, 16),) * 4,
        attention_head_dim=2,
    ).eval()


def test_the_papers_layers_of_audioldm2():
    levels = diffusers_levels(four_levels())
    first = [name for name, factor in levels.items() if factor == 2 and name.endswith("attn1")]
    assert [sum(name.startswith(block) for name in first) for block in ("down_blocks.1.", "up_blocks.2.")] == [6, 9]
    assert len(first) == 15
    assert {name.split(".attentions")[0]: factor for name, factor in levels.items()} == {
        "down_blocks.1": 2,
        "down_blocks.2": 4,
        "down_blocks.3": 8,
        "mid_block": 8,
        "up_blocks.0": 8,
        "up_blocks.1": 4,
        "up_blocks.2": 2,
    }


def deep_model(models):
    """Tango's kind with attention at downsampling 1, 2 and 4, as the host's MODEL."""
    loaded = models["t5_audio"]
    own = loaded.model.model.diffusion_model
    changes = {
        "down_block_types": ["CrossAttnDownBlock2D"] * 3,
        "up_block_types": ["CrossAttnUpBlock2D"] * 3,
        "block_out_channels": (16, 16, 32),
    }
    model = loaded.model.clone()
    unet = tiny_audio.randomised(type(own).from_config({**own.config, **changes}), 7)
    model.add_object_patch("diffusion_model", unet)
    return SimpleNamespace(model=model, unet=unet, conds=loaded.conds)


class Outputs:
    """What each attention layer of a UNet got and gave."""

    def __init__(self, unet):
        self.seen = {}
        self.handles = [
            layer.register_forward_hook(self._keep(name), with_kwargs=True)
            for name, layer in unet.named_modules()
            if isinstance(layer, Attention)
        ]

    def _keep(self, name):
        def hook(layer, args, kwargs, out):
            self.seen[name] = layer, args, kwargs, out

        return hook

    def close(self):
        for handle in self.handles:
            handle.remove()


@pytest.mark.parametrize(("levels", "factors"), [("2", {2}), ("4, 1", {1, 4}), ("all", {1, 2, 4})])
def test_levels_that_were_not_chosen_keep_every_bit(models, levels, factors):
    deep = deep_model(models)
    unet = deep.unet
    outputs = Outputs(unet)
    sampled(focus(deep.model, levels=levels), deep, shape=(1, 8, 9, 16), steps=1)
    outputs.close()
    factor_of = diffusers_levels(unet)
    assert set(factor_of.values()) == {1, 2, 4} and outputs.seen.keys() == factor_of.keys()
    for name, (layer, args, kwargs, out) in outputs.seen.items():
        changed = name.endswith("attn1") and factor_of[name] in factors
        assert torch.equal(layer(*args, **kwargs), out) != changed, name


def test_levels_of_the_hosts_unet():
    """Three levels with attention, which a run tells by the sizes that it sees."""
    config = tiny_models.SD15_UNET | {
        "model_channels": 32,
        "context_dim": 8,
        "num_heads": 2,
        "num_res_blocks": [1, 1, 1],
        "channel_mult": [1, 1, 1],
        "transformer_depth": [1, 1, 1],
        "transformer_depth_middle": 1,
        "transformer_depth_output": [1] * 6,
    }
    unet, seen = tiny_models.build(UNetModel, config, seed=3), {}
    levels = host_levels(unet)

    def replace(block):
        def attention(q, k, v, options):
            seen[block] = options["original_shape"][2] // options["activations_shape"][2]
            return q

        return attention

    options = {"patches_replace": {"attn1": {block: replace(block) for block in levels}}}
    unet(torch.randn(1, 4, 8, 12), torch.ones(1), torch.randn(1, 3, 8), transformer_options=options)
    assert seen == levels and sorted(levels.values()) == [1] * 3 + [2] * 3 + [4] * 4


# ---- Long sound, and SaFa ----


def test_one_window_as_long_as_the_sound(loaded):
    shape = (1, 8, 4 * tiny_audio.COLUMNS, 16)
    out = sampled(focus(loaded.model), loaded, shape=shape)
    assert out.shape == shape and torch.isfinite(out).all()


@pytest.mark.parametrize("loop", [False, True])
def test_views_of_safa_are_windows_with_the_same_random_places(models, loop):
    """In one step every view is what the host makes of it alone."""
    loaded = models["audioldm2"]
    canvas = canvas_of((1, 8, 44, 16), 16, loop=loop, axis=2, unit="seconds")
    conds = loaded.conds["positive"], loaded.conds["negative"]
    model = focus(loaded.model)
    together = joint(model, canvas, *conds, steps=1)
    assert difference(together, separate(model, canvas, lambda i: conds, steps=1)) <= 1e-5
    assert difference(together, separate(loaded.model, canvas, lambda i: conds, steps=1)) > 1e-4


def test_safa_model_patch_may_come_before_or_behind(models):
    loaded = models["audioldm"]
    canvas = canvas_of((1, 8, 44, 16), 16, axis=2, unit="seconds")
    options = {"loaded": loaded, "shape": (1, 8, 44, 16)}
    behind = sampled(patched(focus(loaded.model), canvas), **options)
    before = sampled(focus(patched(loaded.model, canvas)), **options)
    assert torch.equal(behind, before)
    assert not torch.equal(behind, sampled(patched(loaded.model, canvas), **options))


def test_views_of_a_picture_of_a_spectrogram():
    canvas = canvas_of((1, 4, 8, 40), 16, 0.25)
    conds = tiny_models.conditioning("sd15", 1), tiny_models.conditioning("sd15", 2)
    model = focus(tiny_models.sd15())
    together = joint(model, canvas, *conds, steps=1)
    assert difference(together, separate(model, canvas, lambda i: conds, steps=1)) <= 1e-5


# ---- The same again ----


def test_the_same_seed_is_the_same_sound_and_another_is_another(models):
    loaded = models["tango"]
    model = focus(loaded.model)
    first = sampled(model, loaded)
    assert torch.equal(first, sampled(model, loaded))
    assert torch.equal(first, sampled(focus(loaded.model), loaded))
    assert not torch.equal(first, sampled(focus(loaded.model, seed=6), loaded))


def test_little_memory_changes_no_random_place(models, monkeypatch):
    """The host then runs prompts one after the other: two calls of the network for one of the model."""
    loaded = models["audioldm"]
    together = sampled(focus(loaded.model), loaded)
    rows = []
    handle = loaded.model.model.diffusion_model.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda *args, **kwargs: 0)
    apart = sampled(focus(loaded.model), loaded)
    handle.remove()
    assert rows == [1] * 2 * STEPS
    assert difference(together, apart) <= 1e-5


def test_each_step_has_random_places_of_its_own(models):
    drawn = []

    class Seen(CrossFrequency):
        def picked(self, tokens, call=0, place=0):
            out = super().picked(tokens, call, place)
            drawn.append((call, place, tuple(out.tolist())))
            return out

    loaded = models["t5_audio"]
    sampled(patch_model(loaded.model, Seen(0.5, 1), "2"), loaded, steps=3)
    assert len(drawn) == 3 * len(LOWER) == len({places for *_, places in drawn})
    assert sorted({call for call, *_ in drawn}) == [0, 1, 2]


# ---- Nothing stays behind ----


class Stop(Exception):
    pass


@pytest.mark.parametrize("ending", ["finished", "error", "interrupted"])
def test_the_model_without_the_node_is_as_before(models, ending):
    loaded = models["audioldm"]
    unet = loaded.model.model.diffusion_model
    own = {name: layer.processor for name, layer in unet.named_modules() if isinstance(layer, Attention)}
    before = sampled(loaded.model, loaded)
    model, sibling = focus(loaded.model), loaded.model.clone()
    error = {"error": Stop, "interrupted": comfy.model_management.InterruptProcessingException}.get(ending)

    def fail(*args):
        raise error

    handle = unet.up_blocks[0].register_forward_pre_hook(fail) if error else None
    try:
        sampled(model, loaded)
    except (Stop, comfy.model_management.InterruptProcessingException) as raised:
        assert isinstance(raised, error)
    else:
        assert error is None
    finally:
        if handle:
            handle.remove()
    for name, layer in unet.named_modules():
        assert name not in own or layer.processor is own[name]
    assert torch.equal(sampled(loaded.model, loaded), before)
    assert torch.equal(sampled(sibling, loaded), before)
    assert not torch.equal(sampled(model, loaded), before)


def test_the_hosts_own_model_keeps_no_patch():
    model = tiny_models.sd15()
    options = str(model.model_options)
    focus(model)
    assert str(model.model_options) == options and not model.get_wrappers(WrappersMP.PREDICT_NOISE, "safa_lite_focus")


# ---- Refusals ----


def plain_conds(kind):
    return {"positive": tiny_models.conditioning(kind, 1), "negative": tiny_models.conditioning(kind, 2)}


@pytest.mark.parametrize("kind", ["stable_audio", "ace_step", "sd3", "flux_like", "toy"])
def test_models_without_frequencies_are_refused(kind):
    with pytest.raises(ValueError, match="LiteFocus: expected a UNet over time and frequency .*got ") as refusal:
        focus(tiny_models.MODELS[kind]())
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"rho": 1.1}, r"LiteFocus: Expected `rho` in \[0, 1\], got 1.1"),
        ({"rho": -0.1}, "LiteFocus: .*-0.1"),
        ({"rho": float("nan")}, "LiteFocus: .*nan"),
        ({"levels": "two"}, "LiteFocus: expected `levels` to be downsampling factors .*'two'"),
        ({"levels": ""}, "LiteFocus: expected `levels` to be downsampling factors .*''"),
        ({"levels": "2, all"}, "LiteFocus: expected `levels` to be downsampling factors"),
        ({"levels": "8"}, "LiteFocus: .*with self-attention, got '8'; this model has it at downsampling 2"),
        ({"levels": "1, 2"}, "LiteFocus: .*with self-attention, got '1, 2'; this model has it at downsampling 2"),
    ],
)
def test_bad_values_are_refused(models, values, words):
    for model in (models["audioldm"].model, tiny_models.sd15()):
        with pytest.raises(ValueError, match=words) as refusal:
            focus(model, **values)
        assert "\n" not in str(refusal.value)


def test_a_unet_without_self_attention_is_refused(models):
    loaded = models["t5_audio"]
    unet = loaded.model.model.diffusion_model
    kinds = {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2, "mid_block_type": None}
    model = loaded.model.clone()
    model.add_object_patch("diffusion_model", type(unet).from_config({**unet.config, **kinds}))
    for levels in ("2", "all"):
        with pytest.raises(ValueError, match="LiteFocus: .*this model has it nowhere"):
            focus(model, levels=levels)


def test_two_methods_on_one_model_are_refused(models):
    for model in (models["audioldm"].model, tiny_models.sd15()):
        with pytest.raises(ValueError, match="LiteFocus: the model already has LiteFocus"):
            focus(focus(model))
        other = model.clone()
        claim_self_attention(other, "Merge-Attend-Diffuse")
        with pytest.raises(ValueError, match="LiteFocus: the model already has Merge-Attend-Diffuse"):
            focus(other)
        with pytest.raises(ValueError, match="Merge-Attend-Diffuse: the model already has LiteFocus"):
            with named("Merge-Attend-Diffuse"):
                claim_self_attention(focus(model), "Merge-Attend-Diffuse")


@pytest.mark.parametrize("by_transformer", [False, True])
def test_a_block_that_another_node_replaces_is_refused(by_transformer):
    model = tiny_models.sd15()
    block = next(iter(host_levels(model.model.diffusion_model)))
    model.set_model_attn1_replace(lambda q, k, v, options: q, *block, *([0] * by_transformer))
    with pytest.raises(ValueError, match="LiteFocus: another node on this model already replaces the self-attention"):
        focus(model)


def test_tokens_that_another_node_merged_are_refused():
    model = tiny_models.sd15()
    model.set_model_attn1_patch(lambda q, k, v, options: (q, k[:, ::2], v[:, ::2]))
    with pytest.raises(ValueError, match="LiteFocus: expected the 24 tokens of 4 x 6 places, got 24 queries and 12"):
        ksampler(focus(model), {"samples": torch.zeros(1, 4, 8, 12)}, steps=1, **plain_conds("sd15"))


def test_a_refused_canvas_leaves_the_model_usable(models):
    loaded = models["audioldm"]
    canvas = canvas_of((1, 8, 44, 16), 16, axis=2, unit="seconds")
    model = JointPatch(canvas, SwapJoin(), None, "SaFa Sampler").install(focus(loaded.model))
    with pytest.raises(ValueError, match="a canvas of 352 s"):
        sampled(model, loaded, shape=(1, 8, 40, 16))
    out = sampled(model, loaded, shape=(1, 8, 44, 16))
    assert torch.isfinite(out).all()
