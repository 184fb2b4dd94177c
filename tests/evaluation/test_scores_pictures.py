"""Scores of pictures on tiny backbones (Inception and VGG16 in their real shapes) against computations by hand."""

import functools
import itertools
import shutil

import pytest
import torch
import torchvision
import transformers
from torch.nn import functional

from safa_pack.evaluation.scores import SCORES, Measures, Samples, averaged, metrics, pictures, sound
from safa_pack.safa_core.sound.mel import MelScale
from safa_pack.tests.evaluation import tiny_backbones as tiny

pytestmark = pytest.mark.tools
PROMPTS = ("far bells", "far bells", "rain on a roof", "rain on a roof")
VGG16 = {  # number of the convolution in torchvision's vgg16.features -> channels
    **{0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256)},
    **{17: (256, 512), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512)},
}


def coloured(count=4, side=48, seed=0):
    """Smooth coloured noise in 0 ... 1."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    return functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)


def samples(count=4, seed=0):
    return Samples(coloured(count, seed=seed), tuple(i // 2 for i in range(count)), (PROMPTS * count)[:count])


def written(folder, name, weights):
    path = folder / name
    path.mkdir(parents=True, exist_ok=True)
    torch.save(weights, path / f"{path.name.replace('perceptual', 'vgg16')}.pth")
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A models folder with Inception, CLIP and both VGGs, random."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    network = torchvision.models.inception_v3(weights=None, num_classes=1008, aux_logits=False, init_weights=False)
    calibrated(network.train(), coloured(4, 299, seed=9))
    written(folder, "evaluation/inception", network.state_dict())
    written(folder, "evaluation/vgg19", tiny.vgg({0: (3, 4), 2: (4, 5), 5: (5, 6), 7: (6, 6), 10: (6, 7)}))
    written(folder, "perceptual", tiny.vgg(VGG16))
    tiny.clip(folder)
    return folder


def calibrated(network, pictures):
    """Normalisations that fit some pictures, so that random weights tell them apart."""
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1
    network(2 * pictures - 1)


def literal_inception(picture, state):
    """FID's Inception of one picture [3, H, W] in 0 ... 1: Szegedy et al.'s layers with TensorFlow's poolings."""

    def conv(x, name, stride=1, padding=0):
        x = functional.conv2d(x, state[f"{name}.conv.weight"], stride=stride, padding=padding)
        norm = [state[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return functional.relu(functional.batch_norm(x, *norm, eps=0.001))

    def average(x):
        inside = functional.conv2d(torch.ones_like(x[:, :1]), torch.ones(1, 1, 3, 3), padding=1)
        return functional.avg_pool2d(x, 3, 1, 1, divisor_override=1) / inside

    def chain(x, block, *parts):
        for name, padding in parts:
            x = conv(x, f"Mixed_{block}.{name}", padding=padding)
        return x

    def fork(x, block, name):
        return [chain(x, block, (f"{name}a", (0, 1))), chain(x, block, (f"{name}b", (1, 0)))]

    def ends(x, block, pool, *middle):
        first, last = chain(x, block, ("branch1x1", 0)), chain(pool(x), block, ("branch_pool", 0))
        return torch.cat([first, *middle, last], 1)

    def a(x, block):
        five = chain(x, block, ("branch5x5_1", 0), ("branch5x5_2", 2))
        three = chain(x, block, ("branch3x3dbl_1", 0), ("branch3x3dbl_2", 1), ("branch3x3dbl_3", 1))
        return torch.cat(
            [chain(x, block, ("branch1x1", 0)), five, three, chain(average(x), block, ("branch_pool", 0))], 1
        )

    def c(x, block):
        wide, tall = (0, 3), (3, 0)
        seven = chain(x, block, ("branch7x7_1", 0), ("branch7x7_2", wide), ("branch7x7_3", tall))
        steps = zip(range(1, 6), (0, tall, wide, tall, wide), strict=True)
        twice = chain(x, block, *((f"branch7x7dbl_{i}", padding) for i, padding in steps))
        return torch.cat(
            [chain(x, block, ("branch1x1", 0)), seven, twice, chain(average(x), block, ("branch_pool", 0))], 1
        )

    def e(x, block, pool):
        three = fork(chain(x, block, ("branch3x3_1", 0)), block, "branch3x3_2")
        twice = fork(chain(x, block, ("branch3x3dbl_1", 0), ("branch3x3dbl_2", 1)), block, "branch3x3dbl_3")
        return torch.cat(
            [chain(x, block, ("branch1x1", 0)), *three, *twice, chain(pool(x), block, ("branch_pool", 0))], 1
        )

    x = (picture[None] * 255).round() / 255
    x = 2 * functional.interpolate(x, (299, 299), mode="bilinear", align_corners=False) - 1
    x = conv(conv(conv(x, "Conv2d_1a_3x3", 2), "Conv2d_2a_3x3"), "Conv2d_2b_3x3", padding=1)
    x = conv(conv(functional.max_pool2d(x, 3, 2), "Conv2d_3b_1x1"), "Conv2d_4a_3x3")
    x = functional.max_pool2d(x, 3, 2)
    for block in ("5b", "5c", "5d"):
        x = a(x, block)
    three = chain(x, "6a", ("branch3x3dbl_1", 0), ("branch3x3dbl_2", 1))
    halves = [conv(x, "Mixed_6a.branch3x3", 2), conv(three, "Mixed_6a.branch3x3dbl_3", 2)]
    x = torch.cat([*halves, functional.max_pool2d(x, 3, 2)], 1)
    for block in ("6b", "6c", "6d", "6e"):
        x = c(x, block)
    three = conv(chain(x, "7a", ("branch3x3_1", 0)), "Mixed_7a.branch3x3_2", 2)
    seven = chain(x, "7a", ("branch7x7x3_1", 0), ("branch7x7x3_2", (0, 3)), ("branch7x7x3_3", (3, 0)))
    x = torch.cat([three, conv(seven, "Mixed_7a.branch7x7x3_4", 2), functional.max_pool2d(x, 3, 2)], 1)
    x = e(e(x, "7b", average), "7c", lambda x: functional.max_pool2d(x, 3, 1, 1))
    return x.mean((2, 3))[0]


def test_fid_and_kid_are_those_of_fids_inception(models):
    given, real = samples(2), samples(2, seed=1)
    state = torch.load(models / "evaluation/inception/inception.pth", weights_only=True)
    found = [torch.stack([literal_inception(w, state) for w in s.windows]) for s in (given, real)]
    apart = (found[0] - found[0].mean(0)).norm()
    assert apart > 0.01 * found[0].norm()
    assert (SCORES["fid"].measure(given, models).rows - found[0]).norm() < 1e-4 * apart
    expected = 1000 * metrics.kernel_distance(*found)
    assert SCORES["kid"].compute(given, real, models) == pytest.approx(expected, rel=1e-3)
    few = [Measures(rows[:, :9], PROMPTS[:2], (0, 1)) for rows in found]  # a root of 2048 x 2048 takes seconds
    expected = metrics.frechet_distance(*(side.rows for side in few))
    assert averaged(SCORES["fid"], *few) == pytest.approx(expected, rel=1e-9)


def test_fids_inception_is_torch_fidelitys(models, tmp_path):
    extractor = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3").FeatureExtractorInceptionV3
    shutil.copy(models / "evaluation/inception/inception.pth", tmp_path / "weights.pth")
    theirs = extractor("x", ["2048"], feature_extractor_weights_path=str(tmp_path / "weights.pth"))
    given = (coloured(2, 299) * 255).round()
    (expected,) = theirs(given.to(torch.uint8))
    with torch.inference_mode():  # it takes bytes to (x - 128) / 128, pytorch-fid and we to x / 127.5 - 1
        found = pictures.INCEPTION.open(models).network((given - 128) / 128)
    assert (found - expected).norm() < 1e-4 * (expected - expected.mean(0)).norm()


def test_torchvisions_own_inception_is_refused(tmp_path):
    written(tmp_path, "evaluation/inception", {"fc.weight": torch.zeros(1000, 2048)})
    with pytest.raises(ValueError, match="fid: .*inception.pth does not hold usable weights .*1008 classes, got 1000"):
        SCORES["fid"].compute(samples(), samples(seed=1), tmp_path)


def clip_by_hand(folder, windows, prompts):
    """(picture embeddings, text embeddings), one at a time."""
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    processor = transformers.CLIPImageProcessor.from_pretrained(folder)
    seen = [processor((w * 255).round().to(torch.uint8), return_tensors="pt") for w in windows]
    ids = [[0, *(tiny.WORDS.index(word) for word in prompt.split()), 2] for prompt in prompts]
    with torch.inference_mode():
        images = torch.cat([model.get_image_features(**s).pooler_output for s in seen])
        return images, torch.cat([model.get_text_features(torch.tensor([row])).pooler_output for row in ids])


def test_clip_is_100_times_the_cosine_of_picture_and_prompt(models):
    given = samples()
    images, text = clip_by_hand(models / "evaluation/clip", given.windows, PROMPTS)
    cosines = [float(a @ t / a.norm() / t.norm()) for a, t in zip(images, text, strict=True)]
    assert max(cosines) - min(cosines) > 1e-3
    assert SCORES["clip"].compute(given, None, models) == pytest.approx(25 * sum(cosines), abs=1e-3)


def test_clip_is_what_torchmetrics_gives(models):
    metric = pytest.importorskip("torchmetrics.functional.multimodal.clip_score")
    folder, given = models / "evaluation/clip", samples()
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    for name in (
        "get_image_features",
        "get_text_features",
    ):  # torchmetrics 1.9 expects transformers 4
        features = getattr(model, name)
        setattr(model, name, lambda *args, _own=features, **more: _own(*args, **more).pooler_output)
    processor = transformers.CLIPProcessor(transformers.CLIPImageProcessor.from_pretrained(folder), tiny.tokenizer())
    files = list((given.windows * 255).round().to(torch.uint8))
    expected, _ = metric._clip_score_update(files, list(PROMPTS), model, processor)
    assert SCORES["clip"].compute(given, None, models) == pytest.approx(float(expected.detach().mean()), abs=1e-3)


def test_fid_and_kid_over_clip_take_clips_embeddings(models):
    sides = samples(5), samples(5, seed=1)
    found = [clip_by_hand(models / "evaluation/clip", s.windows, PROMPTS[:1])[0] for s in sides]
    expected = metrics.frechet_distance(*found), 1000 * metrics.kernel_distance(*found)
    values = [SCORES[name].compute(*sides, models) for name in ("fid@clip", "kid@clip")]
    assert values == pytest.approx(expected, rel=2e-3)


def literal_style(a, b, weights):
    """SyncDiffusion's evaluation: mean squared difference of Gram matrices after each of five convolutions, summed."""
    mean, spread = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x, y = ((side - mean[:, None, None]) / spread[:, None, None] for side in (a, b))
    total = 0.0
    for number in (0, 2, 5, 7, 10):
        layer = torch.nn.Conv2d(1, 1, 3, padding=1)
        layer.weight, layer.bias = (torch.nn.Parameter(weights[f"features.{number}.{p}"]) for p in ("weight", "bias"))
        if number in (5, 10):
            x, y = (functional.max_pool2d(side[None], 2)[0] for side in (x, y))
        x, y = (functional.conv2d(side[None], layer.weight, layer.bias, padding=1)[0].detach() for side in (x, y))
        grams = [torch.einsum("ihw,jhw->ij", side.double(), side.double()) / side.numel() for side in (x, y)]
        total += float((grams[0] - grams[1]).square().mean())
        x, y = x.clamp_min(0), y.clamp_min(0)
    return total


@pytest.mark.parametrize(
    "name, file", [("intra_style", "evaluation/vgg19/vgg19.pth"), ("intra_style@vgg16", "perceptual/vgg16.pth")]
)
def test_intra_style_is_the_style_loss_within_canvases_times_1000(models, name, file):
    given = Samples(coloured(6), (0, 0, 0, 1, 1, 1), ("far bells",) * 6)
    weights = torch.load(models / file, weights_only=True)
    pairs = [*itertools.combinations(range(3), 2), *itertools.combinations(range(3, 6), 2)]
    expected = sum(literal_style(*given.windows[list(pair)], weights) for pair in pairs) / 6
    assert expected > 0
    assert SCORES[name].compute(given, None, models) == pytest.approx(1000 * expected, rel=1e-4)


@functools.cache
def torchmetrics_network(models):
    """torchmetrics' LPIPS with the user's backbone put into torchvision's network."""
    network = pytest.importorskip("torchmetrics.functional.image.lpips")._LPIPS(net="vgg", pnet_rand=True)
    features = torchvision.models.vgg16(weights=None, init_weights=False).features
    weights = torch.load(models / "perceptual/vgg16.pth", weights_only=True)
    features.load_state_dict({key.removeprefix("features."): value for key, value in weights.items()})
    for i, (start, end) in enumerate(((0, 4), (4, 9), (9, 16), (16, 23), (23, 30)), 1):
        for number in range(start, end):
            setattr(getattr(network.net, f"slice{i}"), str(number), features[number])
    return network.eval()


@torch.inference_mode()
def torchmetrics_lpips(models, a, b):
    """LPIPS of one pair of pictures in 0 ... 1."""
    return float(torchmetrics_network(models)(a[None], b[None], normalize=True))


def test_intra_lpips_of_pictures_is_torchmetrics_lpips_within_canvases(models):
    given = samples()
    expected = [torchmetrics_lpips(models, *given.windows[i : i + 2]) for i in (0, 2)]
    assert min(expected) > 1e-4
    assert SCORES["intra_lpips"].compute(given, None, models) == pytest.approx(sum(expected) / 2, rel=1e-4)


def test_intra_lpips_of_sound_is_that_of_its_mel_spectrograms(models):
    generator = torch.Generator().manual_seed(0)
    windows = 0.1 * torch.randn(4, 16000, generator=generator) * torch.tensor([1.0, 3.0, 0.5, 0.4])[:, None]
    given = Samples(windows, (0, 0, 1, 1), PROMPTS, 16000)
    scale = MelScale(sample_rate=16000, bins=64, hop=160, fmin=0, fmax=8000)
    expected = []
    for pair in windows.split(2):
        mel = scale.spectrogram(pair).transpose(1, 2)
        grey = (mel - mel.min()) / (mel.max() - mel.min())
        expected.append(torchmetrics_lpips(models, *grey[:, None].repeat(1, 3, 1, 1)))
    assert SCORES["intra_lpips"].compute(given, None, models) == pytest.approx(sum(expected) / 2, rel=1e-4)


def test_mel_pictures_share_one_scale_within_a_canvas():
    loud = torch.sin(torch.arange(16000) * 0.3)
    both = sound.mel_pictures(torch.stack([loud, 0.01 * loud]), 16000)
    assert both.shape == (2, 3, 64, 100)
    assert both.min() == 0 and both.max() == 1
    assert both[1].max() < 0.9 < both[0].max()


@pytest.mark.parametrize("name", ["intra_lpips", "intra_style"])
def test_equal_windows_are_no_distance_apart(models, name):
    same = coloured(1).repeat(2, 1, 1, 1)
    assert SCORES[name].compute(Samples(same, (0, 0), PROMPTS[:2]), None, models) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", ["intra_lpips", "intra_style"])
def test_a_canvas_of_one_window_has_no_pairs_and_is_refused(models, name):
    with pytest.raises(ValueError, match=f"{name}: expected at least two windows of each canvas, got one of canvas 7"):
        SCORES[name].compute(Samples(coloured(3), (0, 0, 7), PROMPTS[:3]), None, models)


@pytest.mark.parametrize("name", ["fid", "kid", "clip", "intra_style"])
def test_sound_is_refused(models, name):
    heard = Samples(torch.zeros(2, 16000), (0, 0), PROMPTS[:2], 16000)
    with pytest.raises(ValueError, match=f"{name}: expected windows of image, got audio"):
        SCORES[name].compute(heard, heard, models)


def test_pictures_are_judged_as_the_8_bit_files_that_they_become():
    assert pictures.as_bytes(torch.tensor([0.0, 0.4999 / 255, 0.5001 / 255, 1.0])).tolist() == [0, 0, 1, 255]
