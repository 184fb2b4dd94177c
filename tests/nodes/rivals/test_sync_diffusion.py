"""SyncDiffusion against its own algorithm written out, in the paper's variance-preserving words."""

import sys
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
import torchvision

import comfy.model_management
import comfy.model_sampling
import comfy.sample
import comfy.sd

from safa_pack.nodes.rivals import distance as sync_distance
from safa_pack.nodes.rivals.distance import VAE_FEATURES, backbones
from safa_pack.nodes.rivals.sync_diffusion import SaFaSyncGradient, sigma_down
from safa_pack.safa_core import AverageJoin
from safa_pack.safa_core.methods.sync_diffusion import carried_shift
from safa_pack.tests import tiny_models
from safa_pack.tests.nodes import harness
from safa_pack.tests.nodes.decode.test_loop_decode import autoencoder_kl, seeded

pytestmark = pytest.mark.host

CFG, STEPS, SYNCED, DECAY = 4.0, 3, 2, 0.9


@pytest.fixture(scope="module")
def vae():
    return comfy.sd.VAE(sd=seeded(autoencoder_kl(4), 1.0))


def canvas(loop=False, views=3):
    return harness.canvas_of(length=4 * views if loop else 4 * views + 4, view=8, overlap=0.5, loop=loop, rows=4)


def synced(model, vae, canvas, weight=20.0, steps=SYNCED, backbone=VAE_FEATURES):
    harness.ALIVE.append(model)
    return SaFaSyncGradient.execute(model, canvas, vae, weight, DECAY, steps, backbone).result[0]


def averaged(model, canvas):
    return harness.patched(model, canvas, AverageJoin())


def sampled(model, canvas, kind="toy", **options):
    return harness.ksampler(model, harness.empty(canvas), steps=STEPS, cfg=CFG, **options, **harness.prompts(kind))


def decoder_features(vae, latent):
    """What the last module of each of the decoder's levels gives: its upsampling, or its last block."""
    found, handles = [], []
    for level, up in enumerate(vae.first_stage_model.decoder.up):
        last = up.upsample if level else up.block[-1]
        handles.append(last.register_forward_hook(lambda _, given, out: found.append(out)))
    vae.first_stage_model.decode(latent)
    for handle in handles:
        handle.remove()
    return found


def gram_loss(ours, theirs):
    """Mean over levels of the squared difference of Gram matrices, relative to the anchor's."""
    total = 0
    for a, b in zip(ours, theirs, strict=True):
        a, b = (f[0].reshape(f.shape[1], -1) for f in (a, b))
        a, b = a @ a.T / a.shape[1], b @ b.T / b.shape[1]
        total = total + ((a - b) ** 2).sum() / (b**2).sum()
    return total / len(ours)


def literal_syncdiffusion(model, vae, canvas, kind, weight, scheduler="simple"):
    """Per step and view: the gradient step, CFG again, the ordinary DDIM (or flow) step, then the mean.

    x is the paper's, sqrt(a) x0 + sqrt(1 - a) noise, not the host's; for flow models it is the model's own.
    """
    plan, sampling = canvas.plan, model.model.model_sampling
    flow = isinstance(sampling, comfy.model_sampling.CONST)
    sigmas = harness.schedule(model, scheduler, STEPS)
    noise = comfy.sample.prepare_noise(torch.zeros(1, *canvas.shape), harness.SEED)
    x = harness.start_of(model, sigmas, noise).clone()
    x = x if flow else x / (1 + sigmas[0] ** 2) ** 0.5
    words = [harness.prompts(kind)[name][0][0] for name in ("positive", "negative")]
    scale = model.model.latent_format.scale_factor
    a = [1 / (1 + s**2) for s in sigmas]

    def output(x, k):
        t = sampling.timestep(sigmas[k].reshape(1)).float()
        with_words, without = (model.model.diffusion_model(x, t, context=w) for w in words)
        return without + CFG * (with_words - without)

    def clean(x, k):
        out = output(x, k)
        return x - sigmas[k] * out if flow else (x - (1 - a[k]) ** 0.5 * out) / a[k] ** 0.5

    def step(x, k):
        with torch.no_grad():
            x0, out = clean(x, k), output(x, k)
            if flow:
                return x + (sigmas[k + 1] - sigmas[k]) * out
            return a[k + 1] ** 0.5 * x0 + (1 - a[k + 1]) ** 0.5 * out

    for k in range(STEPS):
        total, count = torch.zeros_like(x), torch.zeros_like(x)
        middle = len(plan) // 2
        with torch.no_grad():
            anchor = decoder_features(vae, clean(x[..., plan.indices(middle)], k) / scale)
        for i in range(len(plan)):
            view = x[..., plan.indices(i)].clone()
            if k < SYNCED and i != middle:
                view.requires_grad_()
                loss = gram_loss(decoder_features(vae, clean(view, k) / scale), anchor)
                (gradient,) = torch.autograd.grad(loss, view)
                view = view.detach() - weight * DECAY**k * gradient
            total[..., plan.indices(i)] += step(view, k)
            count[..., plan.indices(i)] += 1
        x = total / count
    return model.model.process_latent_out(x)


@pytest.mark.parametrize(
    ("kind", "model", "weight", "loop"),
    [
        ("sd15", tiny_models.sd15, 2.0, False),
        ("toy", tiny_models.toy, 400.0, True),
        ("toy", lambda: tiny_models.toy(flow=True), 400.0, False),
    ],
    ids=["sd15", "toy-loop", "toy-flow"],
)
def test_it_is_the_papers_algorithm(vae, kind, model, weight, loop):
    model, plan = model(), canvas(loop)
    plain = sampled(averaged(model, plan), plan, kind)
    out = sampled(synced(model, vae, plan, weight), plan, kind)
    wanted = literal_syncdiffusion(model, vae, plan, kind, weight)
    size = wanted.std()
    assert (wanted - plain).abs().max() > 0.02 * size
    assert (out - wanted).abs().max() < 1e-5 * size + 1e-3 * (wanted - plain).abs().max()


@pytest.mark.parametrize("off", [{"weight": 0.0}, {"steps": 0}])
def test_without_weight_or_steps_it_is_multidiffusion_to_the_bit(vae, off):
    model, plan = tiny_models.toy(), canvas()
    assert torch.equal(sampled(synced(model, vae, plan, **off), plan), sampled(averaged(model, plan), plan))


def test_weights_loaded_under_inference_mode_give_the_same_and_stay_as_they_were(vae):
    plan = canvas(views=2)
    wanted = sampled(synced(tiny_models.toy(), vae, plan, 400.0), plan)
    with torch.inference_mode():
        loaded = comfy.sd.VAE(sd=seeded(autoencoder_kl(4), 1.0))
        assert next(loaded.first_stage_model.parameters()).is_inference()
        out = sampled(synced(tiny_models.toy(), loaded, plan, 400.0), plan)
    torch.testing.assert_close(out, wanted, rtol=1e-5, atol=1e-4)
    for module in loaded.first_stage_model.modules():
        assert "forward" not in vars(module) and not getattr(module, "weight_function", [])
        assert not module._forward_hooks
        assert all(parameter.is_inference() for parameter in module._parameters.values() if parameter is not None)
    assert comfy.model_management.in_training is False


@pytest.mark.parametrize("flow", [False, True], ids=["eps", "flow"])
@pytest.mark.parametrize("name", ["euler", "euler_ancestral", "lcm"])
def test_samplers_that_carry_the_shift_exactly(name, flow):
    """The host's own sampler steps from x + s, and from x with the corrected prediction: the same place."""
    inner = tiny_models.toy(flow=flow)
    sampler = comfy.samplers.ksampler(name)
    sigmas = torch.tensor([0.9, 0.4, 0.0]) if flow else torch.tensor([5.0, 2.0, 0.0])
    x, s, denoised = (torch.randn(1, 4, 4, 8) for _ in range(3))

    class Fixed:
        inner_model = SimpleNamespace(inner_model=inner.model, model_patcher=inner)

        def __init__(self, denoised):
            self.denoised = denoised

        def __call__(self, x, sigma, **kwargs):
            return self.denoised

    def step(x, denoised):
        return sampler.sampler_function(Fixed(denoised), x, sigmas[:2], extra_args={"seed": 1}, disable=True)

    sigma, following = float(sigmas[0]), float(sigmas[1])
    share = carried_shift(sigma, sigma_down(sampler, inner.model.model_sampling, sigma, following))
    torch.testing.assert_close(step(x, denoised + share * s), step(x + s, denoised), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2m"])
def test_other_samplers_get_one_gradient_per_step(vae, monkeypatch, sampler):
    model, plan, steps = tiny_models.toy(), canvas(views=2), []
    patched = synced(model, vae, plan, 400.0, steps=100)
    patch = harness.patch_in(patched)
    moved = patch.shifts

    def counted(run, executor, x, timestep, *args):
        steps.append(float(timestep[0]))
        return moved(run, executor, x, timestep, *args)

    monkeypatch.setattr(patch, "shifts", counted)
    out = sampled(patched, plan, sampler=sampler)
    assert steps == harness.schedule(model, steps=STEPS)[:-1].tolist()
    assert torch.isfinite(out).all()
    assert not torch.equal(out, sampled(averaged(model, plan), plan, sampler=sampler))


def test_a_second_stage_goes_on_counting_steps(vae):
    model, plan = tiny_models.toy(), canvas(views=2)
    whole = harness.advanced(synced(model, vae, plan, 400.0, 3), harness.empty(plan), 0, 4, True, False, steps=4)
    patched = synced(model, vae, plan, 400.0, 3)
    first = harness.advanced(patched, harness.empty(plan), 0, 2, True, True, steps=4)
    second = harness.advanced(patched, first, 2, 4, False, False, steps=4)
    again = harness.advanced(synced(model, vae, plan, 400.0, 3), harness.empty(plan), 0, 4, True, False, steps=4)
    assert torch.equal(again["samples"], whole["samples"])
    size = whole["samples"].std()
    torch.testing.assert_close(second["samples"] / size, whole["samples"] / size, rtol=0, atol=1e-4)


def test_sound_is_compared_by_its_spectrogram(tmp_path):
    from safa_pack.nodes.audio.loader import load_audio_model
    from safa_pack.tests import tiny_audio

    with torch.inference_mode():
        model, clip, vae = load_audio_model(tiny_audio.audioldm(tmp_path / "tiny"))
        plan = harness.Canvas(harness.plan_views(32, 16, 0.5), (8, 32, tiny_audio.ROWS), 2, "seconds", 0.04)
        prompt = clip.encode_from_tokens_scheduled(clip.tokenize("rain"))
        conds = {"positive": prompt, "negative": prompt}
        out, plain = (
            harness.ksampler(m, harness.empty(plan), steps=2, **conds)
            for m in (synced(model, vae, plan, 5.0, 1), averaged(model, plan))
        )
    assert torch.isfinite(out).all() and not torch.equal(out, plain)


# ---- LPIPS ----


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """models/perceptual, on a machine without a network."""
    monkeypatch.setattr("socket.socket.connect", raising(AssertionError("nothing may be downloaded")))
    monkeypatch.setitem(sync_distance.folder_paths.folder_names_and_paths, "perceptual", ([str(tmp_path)], set()))
    monkeypatch.setattr(sync_distance.folder_paths, "filename_list_cache", {})
    return tmp_path


def alexnet_features():
    shapes = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}
    torch.manual_seed(5)
    weights = {f"features.{i}.weight": torch.randn(s) / s[1] ** 0.5 / s[2] for i, s in shapes.items()}
    return weights | {f"features.{i}.bias": 0.1 * torch.randn(s[0]) for i, s in shapes.items()}


def test_lpips_is_its_formula_on_the_users_backbone(folder, vae):
    """Zhang et al. (2018), Eq. 1, with the heads that come with torchmetrics."""
    pytest.importorskip("torchmetrics")
    weights = alexnet_features()
    torch.save(weights, folder / "alexnet.pth")
    assert backbones() == [VAE_FEATURES, "alexnet.pth"]
    with torch.inference_mode():
        distance = sync_distance.perceptual_distance("alexnet.pth", vae)
    one, two = torch.rand(2, 1, 3, 64, 96)
    pictures = SimpleNamespace(scaled_to=lambda anchor: (two, lambda latent: one))
    got = distance.distance_to(pictures, None)(None)

    def layers(picture):
        shift, scale = torch.tensor([[-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]])[..., None, None]
        x, found = (2 * picture - 1 - shift) / scale, []
        for i, (stride, padding) in {0: (4, 2), 3: (1, 2), 6: (1, 1), 8: (1, 1), 10: (1, 1)}.items():
            if i in (3, 6):
                x = torch.nn.functional.max_pool2d(x, 3, 2)
            x = torch.nn.functional.conv2d(
                x, weights[f"features.{i}.weight"], weights[f"features.{i}.bias"], stride, padding
            ).relu()
            found.append(x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt())
        return found

    wanted = 0
    for a, b, head in zip(layers(one), layers(two), distance.net.lins, strict=True):
        wanted = wanted + (((a - b) ** 2) * head.model[-1].weight).sum(1).mean((1, 2))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("name", "slices"), [("vgg16", 5), ("alexnet", 5), ("squeezenet1_1", 7)])
def test_torchvisions_backbones_are_known_by_their_weights(folder, vae, name, slices):
    """As saved by torchvision, the classifier left out, under a name that says nothing."""
    pytest.importorskip("torchmetrics")
    torch.manual_seed(6)
    with torch.device("meta"):
        shapes = getattr(torchvision.models, name)(weights=None).features.state_dict()
    weights = {f"features.{key}": 0.05 * torch.randn(value.shape) for key, value in shapes.items()}
    safetensors.torch.save_file(weights, folder / "mine.safetensors")
    net = sync_distance.perceptual_distance("mine.safetensors", vae).net
    held = list(net.net.state_dict().values())
    assert len(net.lins) == slices and len(held) == len(weights)
    assert all(torch.equal(a, b) for a, b in zip(held, weights.values(), strict=True))


def test_lpips_moves_views_in_the_hosts_own_mode(folder, vae):
    pytest.importorskip("torchmetrics")
    torch.save(alexnet_features(), folder / "alexnet.pth")
    plan = canvas(views=2)
    with torch.inference_mode():
        model = synced(tiny_models.toy(), vae, plan, 400.0, 1, "alexnet.pth")
        out = sampled(model, plan)
    plain = sampled(averaged(tiny_models.toy(), plan), plan)
    assert torch.isfinite(out).all() and not torch.equal(out, plain)


def test_lpips_without_its_package_is_one_sentence(folder, vae, monkeypatch):
    torch.save(alexnet_features(), folder / "alexnet.pth")
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image.lpips", None)
    with pytest.raises(ValueError, match="needs the package torchmetrics"):
        synced(tiny_models.toy(), vae, canvas(), backbone="alexnet.pth")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("vgg16.pth", None, "there is no backbone 'vgg16.pth' in models/perceptual"),
        ("../secret.pth", None, "there is no backbone"),
        ("cut.safetensors", b"\x10", "cut off or no file of weights"),
        ("cut.pth", b"PK\x03\x04", "cut off or no file of weights"),
        ("empty.pth", b"", "cut off or no file of weights"),
        ("other.pth", {"some.weight": torch.zeros(2)}, "holds none of torchvision's vgg16"),
    ],
)
def test_a_backbone_that_is_missing_or_none_is_one_sentence(folder, vae, name, content, said):
    if isinstance(content, bytes):
        (folder / name).write_bytes(content)
    elif content is not None:
        torch.save(content, folder / name)
    with pytest.raises(ValueError, match=said):
        synced(tiny_models.toy(), vae, canvas(), backbone=name)


# ---- What is refused ----


def test_a_plan_of_one_view_has_nothing_to_follow(vae):
    with pytest.raises(ValueError, match="SyncDiffusion: Expected a plan of at least 2 views, got 1"):
        synced(tiny_models.toy(), vae, harness.canvas_of(length=8, view=8, rows=4))


@pytest.mark.parametrize("wrong", [{"weight": -1.0}, {"steps": -1}])
def test_numbers_without_meaning(vae, wrong):
    with pytest.raises(ValueError, match="SyncDiffusion: Expected `(weight|steps)` to be 0 or more"):
        synced(tiny_models.toy(), vae, canvas(), **wrong)


def test_the_vae_of_another_model():
    wide = comfy.sd.VAE(sd=seeded(autoencoder_kl(16), 1.0))
    with pytest.raises(ValueError, match="latents of 16 channels, but the model's have 4"):
        synced(tiny_models.toy(), wide, canvas())


def test_latents_that_are_no_picture(vae):
    model = tiny_models.toy(channels=4, dims=1)
    flat = harness.Canvas(harness.plan_views(16, 8, 0.5), (4, 16), 2, "seconds", 0.04)
    with pytest.raises(ValueError, match="expected picture latents"):
        synced(model, vae, flat)


def test_quantised_weights_are_refused_before_sampling(vae):
    weights = tiny_models.unet_state_dict(tiny_models.SD15_UNET, seed=15)
    model = comfy.sd.load_diffusion_model_state_dict(weights, {"dtype": torch.float8_e4m3fn})
    with pytest.raises(ValueError, match=r"the model has quantised weights \(float8_e4m3fn\)"):
        synced(model, vae, canvas())


class Broken(torch.autograd.Function):
    """Fails on the way back, where a block has to run again."""

    @staticmethod
    def forward(ctx, x, fail):
        ctx.fail = fail
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        ctx.fail()


def failing(model, fail, going_back=False):
    """`model` that fails where a gradient is wanted: in the model's forward, or in its backward."""

    def run(apply_model, args):
        out = apply_model(args["input"], args["timestep"], **args["c"])
        if not torch.is_grad_enabled():
            return out
        return Broken.apply(out, fail) if going_back else fail()

    model.set_model_unet_function_wrapper(run)
    return model


def raising(error):
    def fail(*args, **kwargs):
        raise error

    return fail


MEMORY = "SyncDiffusion: not enough memory for the gradient .* plan smaller views, or use Overlap Average"


@pytest.mark.parametrize("going_back", [False, True])
@pytest.mark.parametrize(
    ("fail", "said"),
    [
        (lambda: torch.empty(2**60), MEMORY),  # the CPU's own words
        (raising(torch.OutOfMemoryError("CUDA out of memory.")), MEMORY),
        (raising(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)")), MEMORY),
        (raising(RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.")), MEMORY),
        (raising(NotImplementedError("no derivative of this")), "gives no gradient"),
    ],
    ids=["cpu", "cuda", "mps", "windows", "no-derivative"],
)
def test_what_goes_wrong_in_the_gradient_is_one_sentence(vae, fail, said, going_back):
    plan = canvas()
    with pytest.raises(ValueError, match=said) as refusal:
        sampled(failing(synced(tiny_models.toy(), vae, plan), fail, going_back), plan)
    assert "\n" not in str(refusal.value)


def test_too_little_memory_in_the_decoder_is_one_sentence_and_leaves_model_and_vae_as_they_were(vae, monkeypatch):
    model, plan = tiny_models.toy(), canvas(views=2)
    patched = synced(model, vae, plan, 400.0, 1)
    wanted, decode = sampled(patched, plan), vae.first_stage_model.decode

    def full(latent):
        return torch.empty(2**60) if torch.is_grad_enabled() else decode(latent)

    with monkeypatch.context() as patch, pytest.raises(ValueError, match=MEMORY):
        patch.setattr(vae.first_stage_model, "decode", full)
        sampled(patched, plan)
    assert comfy.model_management.in_training is False
    for module in (*vae.first_stage_model.modules(), *model.model.diffusion_model.modules()):
        assert "forward" not in vars(module) and not module._forward_hooks
    assert torch.equal(sampled(patched, plan), wanted)


def test_an_error_of_another_nodes_function_is_told_with_its_name_and_its_own_words(vae):
    plan = canvas()
    with pytest.raises(ValueError, match=r"SyncDiffusion: .*\.failing.*RuntimeError: of another kind"):
        sampled(failing(synced(tiny_models.toy(), vae, plan), raising(RuntimeError("of another kind"))), plan)
