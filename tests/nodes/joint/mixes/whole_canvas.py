"""What a guidance function of another node gives on a canvas: literal Algorithm 1, but guided on the whole canvas."""

import torch

import comfy.sample
import comfy.samplers
from comfy.patcher_extension import WrappersMP

from safa_pack.nodes.joint.reference import REFERENCE_SEED
from safa_pack.tests.nodes.harness import guided_places
from safa_pack.tests.nodes.host_calls import SCHEDULER, SEED, crop, predict_by
from safa_pack.tests.nodes.literal import literal_algorithm_1


def joining(canvas):
    """A patch for a MODEL: the host predicts each view by itself, and the predictions are joined column by column."""
    plan = canvas.plan

    def of_views(executor, model, conds, x, timestep, options):
        outs = [executor(model, conds, crop(x, canvas, i, canvas.axis), timestep, options) for i in range(len(plan))]
        whole = []
        for n in range(len(conds)):
            out, _ = literal_algorithm_1(
                lambda window, k, i, n=n: outs[i][n], x, None, plan.starts, plan.view, 1, plan.loop, 1
            )
            whole.append(out)
        return whole

    def install(model):
        patched = model.clone()
        patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "literal", of_views)
        return patched

    return install


def guided_whole(of_canvas, of_reference, canvas, steps=2, guide=None, batch=1):
    """Euler steps of a canvas under one guider, and of the reference under another; the long axis is the last.

    of_canvas: a guider whose model has the patch of `joining`. of_reference: a guider of a plain model.
    """
    model = of_canvas.model_patcher
    sampling, plan = model.get_model_object("model_sampling"), canvas.plan
    sigmas = comfy.samplers.calculate_sigmas(sampling, SCHEDULER, steps)
    most = float(sigmas[0]) >= float(sampling.sigma_max) * (1 - 1e-5)
    noise = comfy.sample.prepare_noise(torch.zeros(batch, *canvas.shape), SEED)
    own = torch.randn(noise[..., : plan.view].shape, generator=torch.Generator().manual_seed(SEED + REFERENCE_SEED))
    x, reference = (sampling.noise_scaling(sigmas[0], each, torch.zeros_like(each), most) for each in (noise, own))

    def step(guider, x, k):
        d = (x - predict_by(guider, x, sigmas[k], sigmas)) / sigmas[k]
        return x + d * (sigmas[k + 1] - sigmas[k])

    guided = 0 if guide is None else int(guide.rate * steps + 0.5)
    for k in range(steps):
        x = step(of_canvas, x, k)
        if guide is not None:
            reference = step(of_reference, reference, k)
        if k < guided:
            places, column = guided_places(canvas, guide)
            x = torch.where(places, reference[..., column], x)
    return model.model.process_latent_out(x)
