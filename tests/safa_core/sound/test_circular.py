"""Circular convolutions against padding by hand (F.pad) and against a ring written out three times."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from safa_pack.safa_core.sound.circular import circular, crop_ring, pad_ring, wrap_obstacle

pytestmark = pytest.mark.core
torch.manual_seed(0)

CONVS = {
    "1d": (nn.Conv1d(3, 5, 3, padding=1), (2, 3, 11), -1),
    "1d dilated": (nn.Conv1d(3, 5, 5, padding=6, dilation=3), (2, 3, 13), -1),
    "1d same, even kernel": (nn.Conv1d(3, 5, 4, padding="same"), (2, 3, 11), -1),
    "2d width": (nn.Conv2d(3, 5, 3, padding=1), (2, 3, 6, 11), -1),
    "2d height": (nn.Conv2d(3, 5, 3, padding=1), (2, 3, 11, 6), -2),
    "2d tuple": (nn.Conv2d(3, 5, (1, 7), padding=(0, 3)), (1, 3, 4, 12), -1),
    "2d same, dilated": (nn.Conv2d(3, 5, 3, padding="same", dilation=2), (1, 3, 9, 12), -1),
    "2d grouped, no bias": (nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), (1, 4, 5, 9), -1),
    "2d replicate": (nn.Conv2d(3, 5, 3, padding=1, padding_mode="replicate"), (1, 3, 5, 9), -1),
    "3d width": (nn.Conv3d(3, 5, 3, padding=1), (1, 3, 3, 5, 9), -1),
    "3d time": (nn.Conv3d(3, 5, 3, padding=1), (1, 3, 7, 4, 5), -3),
    "shorter than the reach": (nn.Conv1d(2, 2, 9, padding=4), (1, 2, 3), -1),
    "one column": (nn.Conv2d(2, 2, 3, padding=1), (1, 2, 4, 1), -1),
}


def padded_by_hand(conv, x, axis):
    """The convolution with no padding of its own: circular on `axis`, the layer's own padding elsewhere."""
    dims = x.ndim - 2
    for dim in range(-dims, 0):
        extent = conv.dilation[dim] * (conv.kernel_size[dim] - 1)
        left, right = extent // 2, extent - extent // 2
        if dim == axis:
            while left > x.shape[dim] or right > x.shape[dim]:  # F.pad wraps once at most
                x = torch.cat([x, x, x], dim)
        pads = [0, 0] * dims
        pads[2 * (-dim - 1) : 2 * (-dim - 1) + 2] = left, right
        mode = {"zeros": "constant"}.get(conv.padding_mode, conv.padding_mode)
        x = F.pad(x, pads, mode="circular" if dim == axis else mode)
    function = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[dims]
    return function(x, conv.weight, conv.bias, 1, 0, conv.dilation, conv.groups)


@pytest.mark.parametrize("name", CONVS)
def test_circular_equals_padding_by_hand(name):
    conv, shape, axis = CONVS[name]
    x = torch.randn(shape)
    ordinary = conv(x)
    with circular(conv, axis):
        ring = conv(x)
    expected = padded_by_hand(conv, x, axis).narrow(axis, 0, x.shape[axis])
    if name == "shorter than the reach":  # written out three times: the middle is away from both outer ends
        expected = padded_by_hand(conv, x, axis).narrow(axis, x.shape[axis], x.shape[axis])
    torch.testing.assert_close(ring, expected, rtol=0, atol=2e-6)
    assert (ring - ordinary).abs().max() > 1e-2
    assert torch.equal(conv(x), ordinary)


@pytest.mark.parametrize(
    "conv, shape, axis",
    [
        (nn.ConvTranspose1d(3, 4, 4, stride=2, padding=1), (1, 3, 7), -1),
        (nn.ConvTranspose1d(3, 4, 16, stride=8, padding=4), (2, 3, 5), -1),
        (nn.ConvTranspose1d(3, 4, 3, stride=2, padding=1, output_padding=1), (1, 3, 7), -1),
        (nn.ConvTranspose2d(3, 4, 4, stride=2, padding=1), (1, 3, 5, 8), -1),
        (nn.ConvTranspose2d(3, 4, (3, 4), stride=(1, 2), padding=1), (1, 3, 8, 5), -2),
        (nn.ConvTranspose3d(2, 3, 4, stride=2, padding=1), (1, 2, 2, 3, 6), -1),
    ],
)
def test_transposed_convolution_is_the_middle_of_three_rings(conv, shape, axis):
    x = torch.randn(shape)
    with circular(conv, axis):
        ring = conv(x)
    size = x.shape[axis] * conv.stride[axis]
    expected = conv(torch.cat([x, x, x], axis)).narrow(axis, size, size)
    torch.testing.assert_close(ring, expected, rtol=0, atol=2e-6)
    assert (ring - conv(x)).abs().max() > 1e-2


class CachedConv(nn.Conv3d):
    """Like the host's causal convolutions: joins earlier frames before it convolves, pads the other axes itself."""

    def __init__(self):
        super().__init__(3, 3, 3, padding=(0, 1, 1))

    def forward(self, x, cache=None):
        return super().forward(x if cache is None else torch.cat([cache, x], 2))


def test_a_subclass_that_joins_cached_frames():
    conv, x, cache = CachedConv(), torch.randn(1, 3, 1, 4, 9), torch.randn(1, 3, 2, 4, 9)
    with circular(conv, -1):
        ring = conv(x, cache)
        rolled = conv(x.roll(4, -1), cache.roll(4, -1))
    torch.testing.assert_close(ring.roll(4, -1), rolled, rtol=0, atol=2e-6)
    assert wrap_obstacle(conv, -3) is not None


def decoder():
    return nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1),
        nn.GroupNorm(2, 8),
        nn.SiLU(),
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.SiLU(),
        nn.ConvTranspose2d(8, 3, 4, stride=2, padding=1),
    )


@pytest.mark.parametrize("axis", [-1, -2])
def test_rolling_the_latent_rolls_the_picture(axis):
    module, x = decoder(), torch.randn(2, 4, 10, 12)
    with circular(module, axis):
        picture = module(x)
        for columns in (1, 3, 7):
            rolled = module(x.roll(columns, axis))
            torch.testing.assert_close(rolled, picture.roll(4 * columns, axis), rtol=0, atol=2e-6)
        other = -3 - axis
        assert (module(x.roll(1, other)) - picture.roll(4, other)).abs().max() > 1e-2
    assert (module(x.roll(1, axis)) - module(x).roll(4, axis)).abs().max() > 1e-2


def test_restored_however_the_block_ends():
    module, x = decoder(), torch.randn(1, 4, 6, 9)
    own = lambda *args: nn.Conv2d._conv_forward(module[0], *args)  # noqa: E731
    module[0]._conv_forward = own
    ordinary = module(x)
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), circular(module, -1):
            assert not torch.equal(module(x), ordinary)
            raise error
        assert torch.equal(module(x), ordinary)
        assert module[0]._conv_forward is own
        assert not any({"_conv_forward", "forward"} & set(vars(layer)) for layer in list(module)[1:])


def test_gradients_pass():
    module, x = decoder(), torch.randn(1, 4, 6, 9, requires_grad=True)
    with circular(module, -1):
        module(x)[..., 0].square().sum().backward()
    assert x.grad[..., -1].abs().max() > 0


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 4, 3, stride=2), nn.Linear(4, 4))
        self.decoder = decoder()
        self.scale = nn.Parameter(torch.ones(1, 8, 1, 1))


class LearnedMap(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.register_buffer("positions", torch.zeros(shape))


@pytest.mark.parametrize(
    "module, axis, reason",
    [
        (Autoencoder(), -1, None),
        (nn.Conv2d(3, 3, (1, 3), padding=0), -2, None),
        (nn.Conv3d(3, 3, (3, 1, 1), padding=0), -1, None),
        (nn.Conv1d(3, 3, 1), -2, None),
        (LearnedMap((1, 8, 1)), -1, None),
        (nn.Conv2d(3, 3, 3, stride=2, padding=1), -1, "stride 2"),
        (nn.Conv2d(3, 3, 3), -1, "causal"),
        (nn.Conv2d(3, 3, 3, padding="valid"), -1, "causal"),
        (nn.Conv1d(3, 3, 3, padding=2), -1, "causal"),
        (nn.ConvTranspose1d(3, 3, 4, stride=2, padding=2), -1, "does not give stride times the length"),
        (nn.Conv1d(3, 3, 3, padding=1), -2, "does not run along the axis"),
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.Linear(3, 3)), -1, "^1 \\(Linear\\) may treat places differently"),
        (nn.MultiheadAttention(4, 2), -1, "may treat"),
        (nn.LayerNorm(8), -1, "may treat"),
        (nn.ReplicationPad2d(1), -1, "may treat"),
        (nn.AvgPool2d(2), -1, "may treat"),
        (nn.Upsample(scale_factor=2, mode="bilinear"), -1, "interpolates"),
        (nn.Upsample(scale_factor=1.5), -1, "interpolates"),
        (nn.Upsample(size=8), -1, "interpolates"),
        (LearnedMap((1, 16, 8)), -1, "learned map"),
        (nn.ModuleDict({"decoder": nn.ModuleDict({"pos_encoder": LearnedMap((16, 8))})}), -1, "learned map"),
    ],
)
def test_which_modules_can_wrap(module, axis, reason):
    assert (wrap_obstacle(module, axis) is None) == (reason is None)
    if reason is not None:
        with pytest.raises(ValueError, match=reason.replace("^", f"along axis {axis}, but ")), circular(module, axis):
            pass


def test_axis_is_counted_from_the_back():
    with pytest.raises(ValueError, match="counted from the back .* got 3"), circular(decoder(), 3):
        pass


@pytest.mark.parametrize("length, amount", [(12, 4), (3, 8), (1, 5)])
def test_pad_and_crop_of_a_short_reach_is_the_ring(length, amount):
    conv, x = nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), nn.Upsample(scale_factor=3)), torch.randn(1, 2, length)
    padded = pad_ring(x, -1, amount)
    assert torch.equal(padded, x.repeat(1, 1, 2 * amount + 1)[..., amount * (length - 1) :][..., : length + 2 * amount])
    cropped, difference = crop_ring(conv(padded), -1, length, amount)
    with circular(conv, -1):
        torch.testing.assert_close(cropped, conv(x), rtol=0, atol=2e-6)
    assert difference < 2e-6


def test_crop_after_a_causal_decoder_keeps_all_frames_of_every_latent():
    latent = torch.arange(20.0).reshape(1, 1, 20)
    frames = pad_ring(latent, -1, 4).repeat_interleave(4, -1)[..., 3:]  # 4n - 3 frames, as causal video VAEs give
    cropped, difference = crop_ring(frames, -1, 20, 4)
    assert torch.equal(cropped, latent.repeat_interleave(4, -1))
    assert difference == 0


def test_crop_measures_the_step_at_the_joint():
    decoded = pad_ring(torch.rand(1, 3, 10), -1, 4).repeat_interleave(2, -1)
    decoded[..., 8 + 20] += 0.25  # the second decoding of the ring's first column
    assert crop_ring(decoded, -1, 10, 4)[1] == pytest.approx(0.25)
