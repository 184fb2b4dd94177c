"""Guiders, CFG variants, post-CFG functions and caches of the host, in front of and behind the patch."""

import pytest
import torch

from comfy_extras import (
    nodes_apg,
    nodes_cfg,
    nodes_custom_sampler,
    nodes_easycache,
    nodes_eps,
    nodes_fresca,
    nodes_mahiro,
    nodes_model_advanced,
    nodes_perpneg,
    nodes_tcfg,
)

from safa_pack.tests.nodes.harness import (
    Recorder,
    apart,
    canvas_of,
    cfg_guider,
    custom,
    empty,
    guide_of,
    ksampler,
    patched,
    prompts,
    schedule,
)
from safa_pack.tests.pairs import pairwise
from safa_pack.tests.tiny_models import conditioning, toy

pytestmark = pytest.mark.host

CANVAS, GUIDE, STEPS, K = canvas_of(28, 12, rows=4), guide_of(0.4), 5, 2


def tied_steps(recorder, canvas=CANVAS, guide=GUIDE):
    """For every step: whether prediction and x of its first call are tied."""
    calls = [recorder.calls[i] for i in recorder.first_calls()]
    return [(apart(x, canvas, guide) == 0, apart(out, canvas, guide) == 0) for _, x, out in calls]


EXPECTED = [(True, True), (True, True), (True, False), (False, False), (False, False)]


def test_custom_advanced_and_ksampler_agree():
    model = patched(toy(), CANVAS, guide=GUIDE)
    out, _ = custom(cfg_guider(model), empty(CANVAS), steps=STEPS)
    assert torch.equal(out, ksampler(model, empty(CANVAS), steps=STEPS))


def test_basic_guider_is_cfg_1():
    model = patched(toy(), CANVAS, guide=GUIDE)
    (guider,) = nodes_custom_sampler.BasicGuider.execute(model, prompts()["positive"]).result
    out, _ = custom(guider, empty(CANVAS), steps=STEPS)
    assert torch.equal(out, ksampler(model, empty(CANVAS), steps=STEPS, cfg=1.0))


def third():
    return conditioning("toy", 7)


def guiders(model):
    p, nodes = prompts(), nodes_custom_sampler
    yield "basic", nodes.BasicGuider.execute(model, p["positive"])
    yield "cfg 1", nodes.CFGGuider.execute(model, cfg=1.0, **p)
    for style in ("regular", "nested"):
        yield style, nodes.DualCFGGuider.execute(model, p["positive"], third(), p["negative"], 3.0, 2.0, style)
    yield "dual cfg 1", nodes.DualCFGGuider.execute(model, p["positive"], third(), p["negative"], 1.0, 1.0, "regular")
    yield "perpneg", nodes_perpneg.PerpNegGuider.execute(model, p["positive"], p["negative"], third(), 4.0, 1.0)
    yield "perpneg 0", nodes_perpneg.PerpNegGuider.execute(model, p["positive"], p["negative"], third(), 1.0, 0.0)
    yield "dual model", nodes.DualModelGuider.execute(model, p["positive"], 4.0, toy(), p["negative"])


@pytest.mark.parametrize("number", range(8))
@torch.inference_mode()
def test_guiders(number):
    """Tied while guided; without a guide and on one view, the host's own result bit for bit."""
    recorder = Recorder(toy())
    name, node = list(guiders(patched(recorder.model, CANVAS, guide=GUIDE)))[number]
    custom(node.result[0], empty(CANVAS), steps=STEPS)
    assert tied_steps(recorder) == EXPECTED, name
    one = canvas_of(12, 12, rows=4)
    outs = [custom(list(guiders(m))[number][1].result[0], empty(one))[0] for m in (patched(toy(), one), toy())]
    assert torch.equal(*outs), name


@torch.inference_mode()
def test_dual_model_guider_runs_both_models_in_views():
    """Both models the same: ordinary CFG."""
    model, p = patched(toy(), CANVAS, guide=GUIDE), prompts()
    (guider,) = nodes_custom_sampler.DualModelGuider.execute(model, p["positive"], 4.0, toy(), p["negative"]).result
    out, _ = custom(guider, empty(CANVAS), steps=STEPS)
    assert torch.allclose(out, ksampler(model, empty(CANVAS), steps=STEPS), atol=1e-5)


PATCHES = {
    "RescaleCFG": lambda m: nodes_model_advanced.RescaleCFG().patch(m, 0.7)[0],
    "APG": lambda m: nodes_apg.APG.execute(m, 0.5, 5.0, 0.3).result[0],
    "CFGZeroStar": lambda m: nodes_cfg.CFGZeroStar.execute(m).result[0],
    "CFGNorm": lambda m: nodes_cfg.CFGNorm.execute(m, 0.8).result[0],
    "CFGNorm before": lambda m: nodes_cfg.CFGNorm.execute(m, 0.8, True).result[0],
    "TCFG": lambda m: nodes_tcfg.TCFG.execute(m).result[0],
    "FreSca": lambda m: nodes_fresca.FreSca.execute(m, 1.0, 1.25, 3).result[0],
    "Mahiro": lambda m: nodes_mahiro.Mahiro.execute(m).result[0],
    "Epsilon Scaling": lambda m: nodes_eps.EpsilonScaling.execute(m, 1.01).result[0],
    "TSR": lambda m: nodes_eps.TemporalScoreRescaling.execute(m, 0.9, 1.0).result[0],
    "PerpNeg": lambda m: nodes_perpneg.PerpNeg.execute(m, third(), 1.0).result[0],
    "CFGOverride": lambda m: nodes_custom_sampler.CFGOverride.execute(m, 1.0, 0.0, 0.5).result[0],
    "LazyCache": lambda m: nodes_easycache.LazyCacheNode.execute(m, 1.0, 0.1, 0.95, False).result[0],
}


@pytest.mark.parametrize("name, behind, sampler", pairwise(PATCHES, [False, True], ["euler", "euler_ancestral_cfg_pp"]))
@torch.inference_mode()
def test_cfg_variants_keep_guided_places_tied(name, behind, sampler):
    """The variant before or behind SaFa Model Patch: it acts, and guided places stay the reference's."""
    recorder = Recorder(toy())
    variant = PATCHES[name]
    if behind:
        model = variant(patched(recorder.model, CANVAS, guide=GUIDE))
    else:
        model = patched(variant(recorder.model), CANVAS, guide=GUIDE)
    out = ksampler(model, empty(CANVAS), sampler, steps=STEPS)
    assert tied_steps(recorder) == EXPECTED
    plain = ksampler(patched(toy(), CANVAS, guide=GUIDE), empty(CANVAS), sampler, steps=STEPS)
    assert torch.isfinite(out).all()
    assert (out - plain).abs().max() > 1e-4


@pytest.mark.parametrize("behind", [False, True])
@torch.inference_mode()
def test_lazy_cache_really_skips(behind):
    calls = []
    base = toy()
    base.set_model_unet_function_wrapper(lambda f, a: calls.append(1) or f(a["input"], a["timestep"], **a["c"]))
    lazy = PATCHES["LazyCache"]
    model = lazy(patched(base, CANVAS, guide=GUIDE)) if behind else patched(lazy(base), CANVAS, guide=GUIDE)
    ksampler(model, empty(CANVAS), steps=10)
    assert 2 <= len(calls) < 10


def test_cfg_1_runs_no_negative_prompt():
    sizes, model = [], toy()
    model.set_model_unet_function_wrapper(
        lambda f, a: sizes.append(len(a["input"])) or f(a["input"], a["timestep"], **a["c"])
    )
    ksampler(patched(model, CANVAS, guide=GUIDE), empty(CANVAS), steps=STEPS, cfg=1.0)
    views = len(CANVAS.plan)
    assert sizes == [views + 1] * K + [views] * (STEPS - K)


@torch.inference_mode()
def test_an_own_prompt_in_every_guider():
    """The reference's own prompt: heard, and by nothing but the reference."""
    own = guide_of(0.4, conditioning=conditioning("toy", 40))
    for number in range(8):
        states = []
        for guide in (own, GUIDE):
            recorder = Recorder(toy())
            name, node = list(guiders(patched(recorder.model, CANVAS, guide=guide)))[number]
            custom(node.result[0], empty(CANVAS), steps=1, sigmas=schedule(toy(), steps=STEPS)[:2])
            states.append(recorder.calls[0][2])
        length = CANVAS.plan.length
        assert (states[0] - states[1])[..., length:].abs().max() > 1e-3, name
        rows = (states[0] - states[1])[..., :length].abs().amax((0, 1, 3))
        if "perpneg" not in name:  # its projection is a sum over everything there is
            assert rows[0] == rows[2] == 0, name  # even rows are not guided
        assert rows[1] > 0, name
