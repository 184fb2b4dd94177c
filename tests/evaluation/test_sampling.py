"""The joint DDIM step against the libraries' own loop, prompt by prompt, and against the published formula."""

import pytest
import torch

from safa_pack.evaluation.making.methods import METHODS, method
from safa_pack.evaluation.making.pocket import PocketModel
from safa_pack.evaluation.making.sampling import Sampling, Task, _step_noise, ddim_step, generator
from safa_pack.safa_core import ViewPlan, plan_views
from safa_pack.tests.evaluation import pocket

pytestmark = pytest.mark.tools

ALONE = ViewPlan((0,), pocket.VIEW, pocket.VIEW)
PROMPTS = ["rain", "a rain a rain a"]  # of different lengths, so that padding must not matter


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return PocketModel(pocket.write(tmp_path_factory.mktemp("pocket")), torch.device("cpu"), batch=3)


def asked(plan=ALONE, **changes):
    return Task(Sampling(**{"steps": 5, "guidance": 2.5} | changes), plan, PROMPTS, [(0, 0, 1), (1, 0, 1)])


def guided(model, x, t, prompt):
    """Classifier-free guidance of one window [1, C, T, F], the prompts encoded one at a time."""
    outputs = []
    for text in (prompt, ""):
        ids = model.tokenizer(text, return_tensors="pt").input_ids
        outputs.append(model.network(x, t, encoder_hidden_states=model.text(ids).last_hidden_state).sample)
    return outputs[1] + 2.5 * (outputs[0] - outputs[1])


@torch.inference_mode()
def test_single_windows_are_what_the_libraries_own_loop_makes(model):
    task = asked()
    noise = task.noise("canvas", model.latent_shape(pocket.VIEW))
    scheduler = pocket.scheduler()
    scheduler.set_timesteps(5)
    for x, prompt, found in zip(noise, PROMPTS, method("single")(model, task), strict=True):
        x = x[None].transpose(-1, -2)
        for t in scheduler.timesteps:
            x = scheduler.step(guided(model, x, t, prompt), t, x).prev_sample
        assert torch.allclose(found, x[0].transpose(-1, -2), atol=2e-5)


@torch.inference_mode()
def test_noisy_steps_are_ddpm_steps_with_each_views_own_noise(model):
    """Eqs. 12 and 16 of Song et al. (2020) with eta = 1, on v-predictions."""
    task = asked(eta=1.0)
    views = task.noise("canvas", model.latent_shape(pocket.VIEW))[None]
    step = ddim_step(model, task)
    found = step(views, 0)[0]
    t, before = 801, 601  # 5 of 1000 steps, one on
    alphas = pocket.scheduler().alphas_cumprod
    now, then = alphas[t], alphas[before]
    sigma = ((1 - then) / (1 - now) * (1 - now / then)).sqrt()
    for i, prompt in enumerate(PROMPTS):
        x = views[0, i : i + 1].transpose(-1, -2)
        v = guided(model, x, t, prompt)
        clean, noise = now.sqrt() * x - (1 - now).sqrt() * v, now.sqrt() * v + (1 - now).sqrt() * x
        fresh = torch.randn(1, *views.shape[2:], generator=generator("steps", i, 0, 1))[0]
        expected = then.sqrt() * clean + (1 - then - sigma**2).sqrt() * noise + sigma * fresh.transpose(-1, -2)
        assert torch.allclose(found[i], expected[0].transpose(-1, -2), atol=2e-5)


def test_step_noise_agrees_on_overlaps_only_where_it_is_asked_to():
    plan = plan_views(24, 16, 0.2, loop=True)
    shape = (len(plan) + 1, 2, 3, 4, 16)  # the reference comes last

    def drawn(kind):
        return _step_noise([generator("steps", 0, 0, b) for b in (0, 1)], shape, plan, kind)

    own, shared = drawn("view"), drawn("canvas")
    assert own.shape == shared.shape == shape
    first, second = plan.indices(0).tolist(), plan.indices(1).tolist()
    common = [(first.index(column), second.index(column)) for column in set(first) & set(second)]
    a, b = (list(part) for part in zip(*common, strict=True))
    assert torch.equal(shared[0][..., a], shared[1][..., b])
    assert not (own[0][..., a] == own[1][..., b]).any()
    for drawn_noise in (own, shared):
        assert not torch.equal(drawn_noise[:, 0], drawn_noise[:, 1])  # every canvas has its own
        assert not torch.equal(drawn_noise[-1], drawn_noise[0])


@pytest.mark.parametrize(
    "name", [name for name in METHODS if name != "single" and not name.startswith("sync_diffusion")]
)
@torch.inference_mode()
def test_canvases_are_the_same_in_any_company(model, name):
    """Batches may be cut differently after an interruption."""
    plan = plan_views(40, pocket.VIEW, 0.2, loop=True)  # no view begins inside a token of two columns
    together = method(name)(model, asked(plan, eta=1.0, steps=2))
    alone = asked(plan, eta=1.0, steps=2)
    alone.prompts, alone.numbers = alone.prompts[1:], alone.numbers[1:]
    assert torch.allclose(method(name)(model, alone), together[1:], atol=2e-5)


@torch.inference_mode()
def test_recorded_canvases_start_from_the_noise_and_are_whole(model):
    plan = plan_views(39, pocket.VIEW, 0.2, loop=True)
    task = asked(plan, record=2, steps=4)
    method("safa")(model, task)
    assert sorted(task.recorded) == [0, 2]
    assert torch.equal(task.recorded[0], task.noise("canvas", model.latent_shape(39)))


def test_evaluations_count_every_window_with_and_without_guidance(model):
    plan = plan_views(39, pocket.VIEW, 0.2, loop=True)
    before = model.evaluations
    method("safa")(model, asked(plan, steps=2))
    assert model.evaluations - before == 2 * 2 * 2 * (len(plan) + 1)  # guidance, canvases, steps, views and reference


def test_an_unknown_method_and_a_missing_folder_are_refused(tmp_path):
    with pytest.raises(ValueError, match="Expected a method of single, safa.* got 'magic'"):
        method("magic")
    with pytest.raises(ValueError, match="without unet"):
        PocketModel(tmp_path, torch.device("cpu"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"steps": 0}, "`steps` of at least 1"),
        ({"interval": 0}, "`interval` of at least 1"),
        ({"eta": 2.0}, "`eta` in"),
        ({"noise": "pink"}, "`noise` to be one of"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        asked(**changes)
