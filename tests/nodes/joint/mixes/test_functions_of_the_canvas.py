"""Functions of other nodes that hold something of the canvas, or expect one picture: served, or refused in a sentence.

And a picture of a batch made again alone, which has to be the same picture.
"""

import functools
import logging

import pytest
import torch

import comfy.sample
import comfy.samplers

import nodes as host_nodes
from safa_pack.nodes.canvas import Guide
from safa_pack.nodes.joint.patch import JointPatch
from safa_pack.nodes.joint.sampler import SaFaModelPatch, SaFaSampler
from safa_pack.safa_core import SwapJoin
from safa_pack.tests import tiny_families, tiny_models
from safa_pack.tests.nodes.host_calls import SEED, canvas_of, crop, difference, joint, predict, separate

pytestmark = pytest.mark.host

GUIDE = Guide(0.5, 1, "rows")


@pytest.fixture(autouse=True, scope="module")
def no_grad():
    with torch.no_grad():
        yield


@pytest.fixture
def canvas():
    return canvas_of((1, 4, 8, 28), 12)


@pytest.fixture
def target():
    """A latent of the canvas."""
    return torch.randn(1, 4, 8, 28, generator=torch.Generator().manual_seed(9))


def prompts(**values):
    return tuple(tiny_families.prompt(seed, **values) for seed in (1, 99))


def views_with(canvas, latent):
    """Conds of each view that carry its piece of a latent; the reference's carry none."""
    pieces = [{"piece": crop(latent, canvas, i, 3)} for i in range(len(canvas.plan))]
    return lambda i: prompts(**pieces[i]) if i < len(pieces) else prompts()


# ---- Guidance with a latent of the canvas ----


class Towards:
    """A post-CFG function that pulls the prediction to a latent; of each cond's own `piece` where it has none."""

    def __init__(self, latent=None):
        self.latent = latent

    def __call__(self, args):
        latent = args["cond"][0].get("piece") if self.latent is None else self.latent
        return args["denoised"] if latent is None else args["denoised"] * 0.9 + latent * 0.1


def towards(latent=None):
    model = tiny_families.sd15()
    model.set_model_sampler_post_cfg_function(Towards(latent))
    return model


def test_a_latent_of_the_canvas_guides_it(canvas, target):
    together = joint(towards(target), canvas, *prompts())
    assert difference(together, separate(towards(), canvas, views_with(canvas, target))) <= 1e-5
    assert difference(together, joint(tiny_families.sd15(), canvas, *prompts())) > 1e-3


def test_a_latent_of_the_canvas_guides_it_beside_a_reference_without(canvas, target, caplog):
    with caplog.at_level(logging.WARNING):
        together = joint(towards(target), canvas, *prompts(), guide=GUIDE)
    wanted = separate(towards(), canvas, views_with(canvas, target), guide=GUIDE)
    assert difference(together, wanted) <= 1e-5
    (record,) = (r for r in caplog.records if r.message.startswith("SaFa Sampler"))  # once, not at every step
    assert f"{Towards.__module__}.{Towards.__qualname__} cannot guide the reference" in record.message


# ---- Functions inside the network ----


def sentence(function):
    """What the error has to say: our node, their function, what to do."""
    name = f"{function.__module__}.{function.__qualname__}".replace(".", r"\.").replace("<", r"\<")
    return rf"(?s)^SaFa (Sampler|Model Patch): [^\n]*{name}[^\n]*(without SaFa|leave)[^\n]*\.$"


class AddFeature:
    """An input block patch that adds a feature [1, channels, rows, columns] of its own."""

    def __init__(self, feature):
        self.feature = feature

    def __call__(self, h, options):
        return h + self.feature if options["block"][1] == 0 else h

    def add(self, h, options):
        """The same as a method."""
        return self(h, options)


class Settings:
    """What holds another object."""

    def __init__(self, feature):
        self.settings = {"layers": [AddFeature(feature)]}

    def __call__(self, h, options):
        return self.settings["layers"][0](h, options)


def add_feature(h, options, feature=None):
    return AddFeature(feature)(h, options)


def in_a_closure(feature):
    tensors = torch  # a module in a closure is not searched
    return lambda h, options: add_feature(h, options, tensors.clone(feature))


class Callback:
    """What holds a function."""

    def __init__(self, feature):
        self.function = in_a_closure(feature)

    def __call__(self, h, options):
        return self.function(h, options)


def in_a_default(feature):
    half = feature / 2

    def add(h, options, feature=half, *, again=half):
        return add_feature(h, options, feature + again)

    return add


HOLDERS = {
    "an attribute": AddFeature,
    "an object of an object": Settings,
    "a method's object": lambda feature: AddFeature(feature).add,
    "a closure": in_a_closure,
    "a function of an object": Callback,
    "a default": in_a_default,
    "a partial function": lambda feature: functools.partial(add_feature, feature=feature),
}


def hold(holder, feature):
    """A model with a patch that holds a feature of the canvas."""
    model = tiny_families.sd15()
    model.set_model_input_block_patch(HOLDERS[holder](feature))
    return model


def wrap(latent):
    """A model with a wrapper around its network that holds a latent of the canvas."""
    model = tiny_families.sd15()
    model.set_model_unet_function_wrapper(
        lambda apply, args: apply(args["input"] + latent, args["timestep"], **args["c"])
    )
    return model


def check_cut(canvas, make, tensor):
    """`make(tensor)`, sampled jointly, is each view with `make` of its piece."""
    together = joint(make(tensor), canvas, *prompts(), steps=1)
    models = [make(crop(tensor, canvas, i, 3)) for i in range(len(canvas.plan))]

    def guided(model, x, sigma, sigmas, positive, negative, cfg):
        return predict(models[positive[0][1]["window"]], x, sigma, sigmas, positive, negative, cfg)

    model = tiny_families.sd15()
    wanted = separate(model, canvas, lambda i: prompts(window=i), steps=1, predict=guided)
    assert difference(together, wanted) <= 1e-5
    assert difference(together, joint(model, canvas, *prompts(), steps=1)) > 1e-3


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_feature_of_the_canvas_in_a_patch_is_cut_where_it_is_in(holder, canvas):
    feature = torch.randn(1, 64, 8, 28, generator=torch.Generator().manual_seed(9))
    check_cut(canvas, lambda tensor: hold(holder, tensor), feature)


def test_a_latent_of_the_canvas_in_a_wrapper_of_the_network_is_cut(canvas, target):
    check_cut(canvas, wrap, target)


FEATURES = {8 * 28: torch.zeros(1, 64, 8 * 28)}  # of a size that is no picture's, and out of sight


def add_tokens(h, options):
    """An input block patch for one picture of 8 x 28 latents."""
    return h + FEATURES[8 * 28].unflatten(2, (8, 28)) if options["block"][1] == 0 else h


def attend_to_tokens(q, k, v, options):
    """A replacement of self attention for one picture of 4 x 14 tokens."""
    return v + torch.zeros(1, 4 * 14, v.shape[-1])


class Hint:
    """A hint in an attribute that is no tensor of the canvas's size."""

    def __init__(self):
        self.rows = [[0.0] * 28] * 8

    def add(self, h, options):
        return h + torch.tensor(self.rows)


HINT = Hint()
FOR_ONE_PICTURE = {
    add_tokens: lambda model: model.set_model_input_block_patch(add_tokens),
    Hint.add: lambda model: model.set_model_input_block_patch(HINT.add),
    attend_to_tokens: lambda model: model.set_model_attn1_replace(attend_to_tokens, "input", 3),
}


@pytest.mark.parametrize("guide", [None, GUIDE])
@pytest.mark.parametrize(("function", "put"), FOR_ONE_PICTURE.items())
def test_a_patch_for_the_whole_canvas_is_refused_in_a_sentence(canvas, guide, function, put):
    model = tiny_families.sd15()
    put(model)
    with pytest.raises(ValueError, match=sentence(function)):
        joint(model, canvas, *prompts(), guide=guide)


# ---- Functions that predict something else ----


def predict_a_crop(args):
    """A post-CFG function that asks for a prediction of half the canvas."""
    half = args["input"][..., :14]
    comfy.samplers.calc_cond_batch(args["model"], [args["cond"]], half, args["sigma"], args["model_options"])
    return args["denoised"]


@pytest.mark.parametrize("guide", [None, GUIDE])
def test_a_function_that_predicts_a_crop_is_refused_in_a_sentence(canvas, guide):
    model = tiny_families.sd15()
    model.set_model_sampler_post_cfg_function(predict_a_crop)
    with pytest.raises(ValueError, match=sentence(predict_a_crop)):
        joint(model, canvas, *prompts(), guide=guide)


def test_a_function_that_predicts_the_canvas_again_is_served(canvas):
    """Perturbed-attention guidance and the like."""

    def again(args):
        options = args["model_options"]
        (other,) = comfy.samplers.calc_cond_batch(args["model"], [args["cond"]], args["input"], args["sigma"], options)
        return args["denoised"] + 0.5 * (args["denoised"] - other)

    model = tiny_families.sd15()
    model.set_model_sampler_post_cfg_function(again)
    together = joint(model, canvas, *prompts(), guide=GUIDE)
    assert difference(together, separate(model, canvas, lambda i: prompts(), guide=GUIDE)) <= 1e-5


def fail_always(args):
    """A function with a fault of its own."""
    raise KeyError("a fault of its own")


def test_a_fault_of_another_node_names_that_node(canvas):
    model = tiny_families.sd15()
    model.set_model_sampler_post_cfg_function(fail_always)
    with pytest.raises(ValueError, match=sentence(fail_always)):
        joint(model, canvas, *prompts())


def test_the_node_that_samples_is_the_one_that_is_named(canvas):
    model = tiny_families.sd15()
    model.set_model_sampler_post_cfg_function(fail_always)
    latent = {"samples": torch.zeros(1, *canvas.shape)}
    with pytest.raises(ValueError, match=r"^SaFa Sampler: "):
        SaFaSampler.execute(model, canvas, *prompts(), latent, SEED, 1, 4.0, "euler", "simple", 1.0)
    patched = SaFaModelPatch.execute(model, canvas).result[0]
    with pytest.raises(ValueError, match=r"^SaFa Model Patch: "):
        host_nodes.KSampler().sample(patched, SEED, 1, 4.0, "euler", "simple", *prompts(), latent)


def test_a_fault_inside_the_host_stays_as_it_is(canvas):
    """A prompt for another model: no other node has a function here."""
    wrong = [tiny_families.prompt(seed, width=32) for seed in (1, 99)]
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        joint(tiny_families.sd15(), canvas, *wrong)


# ---- A picture of a batch, made again ----


def sampled(canvas, latent, noise=None, guide=GUIDE, seed=SEED):
    """The host's KSampler behind the patch, or its sampling with a given noise."""
    model = tiny_models.toy()
    patched = JointPatch(canvas, SwapJoin(), guide, "SaFa Model Patch").install(model)
    texts = tiny_models.conditioning("toy", 1), tiny_models.conditioning("toy", 2)
    if noise is None:
        return host_nodes.KSampler().sample(patched, SEED, 3, 4.0, "euler", "simple", *texts, latent)[0]["samples"]
    return comfy.sample.sample(patched, noise, 3, 4.0, "euler", "simple", *texts, latent["samples"], seed=seed)


def test_a_picture_taken_out_of_a_batch_is_the_same_picture(canvas):
    batch = {"samples": torch.zeros(3, *canvas.shape)}
    together = sampled(canvas, batch)
    for i in range(3):
        (alone,) = host_nodes.LatentFromBatch().frombatch(batch, i, 1)
        assert difference(sampled(canvas, alone), together[i : i + 1]) <= 1e-6
    (last,) = host_nodes.LatentFromBatch().frombatch(batch, 1, 2)
    assert difference(sampled(canvas, last), together[1:]) <= 1e-6
    plain = sampled(canvas, batch, guide=None)
    assert difference(together, plain) > 1e-3


def test_pictures_with_seeds_of_their_own_are_the_same_alone(canvas):
    """As nodes do that give picture b of a batch the seed + b."""
    seeds = [torch.Generator().manual_seed(SEED + b) for b in range(3)]
    noise = torch.cat([torch.randn(1, *canvas.shape, generator=generator) for generator in seeds])
    together = sampled(canvas, {"samples": torch.zeros(3, *canvas.shape)}, noise)
    for b in range(3):
        alone = sampled(canvas, {"samples": torch.zeros(1, *canvas.shape)}, noise[b : b + 1], seed=SEED + b)
        assert difference(alone, together[b : b + 1]) <= 1e-6


def test_pictures_with_the_same_noise_are_the_same_picture(canvas):
    """As nodes do that repeat one noise for a batch."""
    noise = comfy.sample.prepare_noise(torch.zeros(1, *canvas.shape), SEED).repeat(2, 1, 1, 1)
    first, second = sampled(canvas, {"samples": torch.zeros(2, *canvas.shape)}, noise)
    assert torch.equal(first, second)


# ---- What a function keeps of the rows of a batch ----


class Keeper:
    """Adds to every prediction what it kept of that row in the first call, as Flux KV Cache keeps keys and values."""

    def __init__(self):
        self.kept = None

    def __call__(self, apply, args):
        out = apply(args["input"], args["timestep"], **args["c"])
        if self.kept is None:
            self.kept = args["c"]["c_crossattn"].mean((1, 2))
        return out + self.kept[: len(out)].reshape(-1, 1, 1, 1)

    def cleanup(self):
        """Called by the host after a sampling."""
        self.kept = None


def test_what_a_patch_keeps_of_one_batch_is_not_mixed_up_when_the_reference_leaves_it(canvas):
    conds = tuple(tiny_models.conditioning("toy", seed) for seed in (1, 2))
    model = tiny_models.toy()
    model.set_model_unet_function_wrapper(Keeper())
    patch = JointPatch(canvas, SwapJoin(), GUIDE, "SaFa Sampler")
    together = joint(model, canvas, *conds, guide=GUIDE, patch=patch)
    assert difference(together, separate(model, canvas, lambda i: conds, guide=GUIDE)) <= 1e-5
