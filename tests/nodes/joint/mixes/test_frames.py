"""A pack for which the pictures of a batch are the frames of a film, as AnimateDiff-Evolved's: views run one by one."""

import pytest
import torch

from comfy.patcher_extension import WrappersMP

from safa_pack.nodes.canvas import Guide
from safa_pack.nodes.joint.patch import JointPatch
from safa_pack.safa_core import SwapJoin
from safa_pack.tests import tiny_models
from safa_pack.tests.nodes.host_calls import canvas_of, difference, joint, separate

pytestmark = pytest.mark.host

FRAMES, CONTEXT = 4, 3
WIDE = (FRAMES, 4, 6, 28)


@pytest.fixture(autouse=True, scope="module")
def no_grad():
    with torch.no_grad():
        yield


def contexts(executor, model, conds, x, timestep, model_options):
    """The pack's own batch of conds: overlapping runs of frames, whose predictions are averaged."""
    outs = [torch.zeros_like(x) for _ in conds]
    counts = torch.zeros(len(x), *[1] * (x.ndim - 1))
    for first in range(0, len(x) - CONTEXT + 1):
        frames = slice(first, first + CONTEXT)
        part = executor(model, conds, x[frames], timestep[frames], model_options)
        for out, predicted in zip(outs, part, strict=True):
            out[frames] += predicted
        counts[frames] += 1
    return [out / counts for out in outs]


def mix_frames(apply_model, args):
    """A motion module: each frame takes from the mean of the frames of its prompt."""
    out = apply_model(args["input"], args["timestep"], **args["c"])
    films = out.unflatten(0, (len(args["cond_or_uncond"]), -1))
    return (0.7 * films + 0.3 * films.mean(1, keepdim=True)).flatten(0, 1)


def animated(model, sliding):
    """A MODEL with the pack on it."""
    model = model.clone()
    model.set_model_unet_function_wrapper(mix_frames)
    model.model_options["transformer_options"]["ad_params"] = {"full_length": FRAMES, "sub_idxs": None}
    if sliding:
        model.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "animated", contexts)
    return model


class Both(JointPatch):
    """SaFa first, then the pack on the patched model."""

    def __init__(self, sliding, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.sliding = sliding

    def install(self, model):
        return animated(super().install(model), self.sliding)


@pytest.mark.parametrize("guide", [None, Guide(0.5, 1, "rows")])
@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("sliding", [False, True])
def test_the_frames_of_a_film_are_mixed_within_a_view_only(sliding, behind, guide):
    canvas = canvas_of(WIDE, 12)
    conds = tiny_models.conditioning("toy", 1), tiny_models.conditioning("toy", 2)
    plain = tiny_models.toy()
    model = plain if behind else animated(plain, sliding)
    patch = Both(sliding, canvas, SwapJoin(), guide, "SaFa Sampler", finish_reference=True) if behind else None
    together = joint(model, canvas, *conds, guide=guide, batch=FRAMES, patch=patch)
    apart = separate(animated(plain, sliding), canvas, lambda i: conds, guide=guide, batch=FRAMES)
    assert difference(together, apart) <= 1e-5
    assert difference(together, joint(plain, canvas, *conds, guide=guide, batch=FRAMES)) > 0.01
