"""Two methods on one model, in every order: they run together, or one sentence on a node says which two do not."""

import itertools

import pytest
import torch

import comfy.sd
from comfy_extras.nodes_context_windows import ContextWindowsManualNode

from safa_pack.nodes.joint.sampler import SaFaSampler
from safa_pack.nodes.rivals.distance import VAE_FEATURES
from safa_pack.nodes.rivals.lite_focus import SaFaLiteFocus
from safa_pack.nodes.rivals.merge_attend import SaFaMergeAttend
from safa_pack.nodes.rivals.sync_diffusion import SaFaSyncGradient
from safa_pack.safa_core import AverageJoin
from safa_pack.tests import tiny_models
from safa_pack.tests.nodes import harness
from safa_pack.tests.nodes.decode.test_loop_decode import autoencoder_kl, seeded

pytestmark = pytest.mark.host

CANVAS = harness.canvas_of(length=12, view=8, overlap=0.5, rows=4)
PATCH, MERGE, SYNC, FOCUS = "SaFa Model Patch", "Merge-Attend-Diffuse", "SyncDiffusion", "LiteFocus"
CONTEXT, SAMPLER = "Context Windows", "SaFa Sampler"
# Which pairs are refused, whatever their order, and what both sentences say; all others run.
REFUSED = {
    (PATCH, PATCH): "already has a SaFa patch, SaFa Model Patch's; connect the model from before SaFa Model Patch",
    (PATCH, SYNC): "already has a SaFa patch, (SaFa Model Patch|SyncDiffusion)'s; connect the model from before",
    (PATCH, CONTEXT): "SaFa Model Patch: Context Windows and SaFa both cut the canvas; remove one",
    (PATCH, SAMPLER): "SaFa Sampler: .* already has a SaFa patch, SaFa Model Patch's; .* sample with KSampler",
    (MERGE, MERGE): "already has Merge-Attend-Diffuse, and both replace its self-attention",
    (MERGE, SYNC): "SyncDiffusion: the model also has Merge-Attend-Diffuse, and one excludes the other; remove one",
    (MERGE, FOCUS): "already has (LiteFocus|Merge-Attend-Diffuse), and both replace its self-attention",
    (MERGE, CONTEXT): "Merge-Attend-Diffuse: nothing cuts the canvas into views; add SaFa Model Patch",
    (SYNC, SYNC): "already has a SaFa patch, SyncDiffusion's; connect the model from before SyncDiffusion",
    (SYNC, FOCUS): "SyncDiffusion: the model also has LiteFocus, and one excludes the other; remove one",
    (SYNC, CONTEXT): "SyncDiffusion: Context Windows and SaFa both cut the canvas; remove one",
    (SYNC, SAMPLER): "SaFa Sampler: .* already has a SaFa patch, SyncDiffusion's; .* sample with KSampler",
    (FOCUS, FOCUS): "already has LiteFocus, and both replace its self-attention",
    (CONTEXT, SAMPLER): "SaFa Sampler: Context Windows and SaFa both cut the canvas; remove one",
}


@pytest.fixture(scope="module")
def nodes():
    """Name -> function that puts a node behind a MODEL."""
    vae = comfy.sd.VAE(sd=seeded(autoencoder_kl(4), 1.0))

    def context(model):
        return ContextWindowsManualNode.execute(model, 8, 4, "standard_static", 1, False, "pyramid", 3, False).args[0]

    return {
        PATCH: lambda model: harness.patched(model, CANVAS, AverageJoin()),
        MERGE: lambda model: SaFaMergeAttend.execute(model, CANVAS, 0.5).result[0],
        SYNC: lambda model: SaFaSyncGradient.execute(model, CANVAS, vae, 2.0, 0.9, 1, VAE_FEATURES).result[0],
        FOCUS: lambda model: SaFaLiteFocus.execute(model, 0.5, "all", 0).result[0],
        CONTEXT: context,
    }


@pytest.fixture(scope="module")
def model():
    return tiny_models.sd15()


def sampled(model, by_safa):
    prompts, latent = harness.prompts("sd15"), harness.empty(CANVAS)
    if not by_safa:
        return harness.ksampler(model, latent, steps=1, **prompts)
    out = SaFaSampler.execute(model, CANVAS, latent=latent, **prompts, join=AverageJoin(), **KSAMPLER)
    return out.result[0]["samples"]


KSAMPLER = {"seed": 3, "steps": 1, "cfg": 4.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
METHODS = (PATCH, MERGE, SYNC, FOCUS, CONTEXT)
PAIRS = [pair for pair in itertools.product(METHODS, [*METHODS, SAMPLER]) if pair != (CONTEXT, CONTEXT)]


def sentence(first, second):
    return REFUSED.get((first, second)) or REFUSED.get((second, first))


def run(model, nodes, pair):
    for name in pair:
        harness.ALIVE.append(model)
        model = nodes[name](model) if name != SAMPLER else model
    return sampled(model, by_safa=SAMPLER in pair)


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if sentence(*pair)], ids=", ".join)
def test_two_methods_that_exclude_each_other_are_one_sentence_on_a_node(nodes, model, pair):
    with pytest.raises(ValueError, match=sentence(*pair)) as refusal:
        run(model, nodes, pair)
    said = str(refusal.value)
    assert said.split(":")[0] in pair and said.endswith(".") and "\n" not in said and ". " not in said


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if not sentence(*pair)], ids=", ".join)
def test_two_methods_that_go_together_are_more_than_the_sampler_alone(nodes, model, pair):
    out = run(model, nodes, pair)
    assert torch.isfinite(out).all()
    without = [name for name in pair if name not in (MERGE, FOCUS)]
    assert not torch.equal(out, run(model, nodes, without))
