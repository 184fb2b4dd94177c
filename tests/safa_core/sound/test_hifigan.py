"""Sound in pieces, vocoded by transformers' own HiFi-GAN, and rings decoded by diffusers' own VAE.

The two libraries are imported by the tests: the core tier collects this folder without them.
"""

import pytest
import torch

from safa_pack.safa_core.sound.vocode import Vocoder, circular_convolutions, vocoder_reach

pytestmark = pytest.mark.tools

AUDIOLDM = {"upsample_rates": [5, 4, 2, 2, 2], "upsample_kernel_sizes": [16, 16, 8, 4, 4]}
CONFIGS = [
    AUDIOLDM,
    {"upsample_rates": [4, 4], "upsample_kernel_sizes": [8, 8]},
    {"upsample_rates": [3, 2], "upsample_kernel_sizes": [7, 6], "resblock_kernel_sizes": [5, 9],
     "resblock_dilation_sizes": [[1, 2], [2, 6]]},
    {"upsample_rates": [8, 8, 2, 2], "upsample_kernel_sizes": [16, 16, 4, 4], "resblock_kernel_sizes": [3],
     "resblock_dilation_sizes": [[1, 3, 5]]},
]  # fmt: skip


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def hifigan(bins=8, seed=0, **config):
    """SpeechT5HifiGan, slim, with weights that keep the sound away from both silence and clipping."""
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    config = {"upsample_initial_channel": 32, "normalize_before": False, **config}
    model = SpeechT5HifiGan(SpeechT5HifiGanConfig(model_in_dim=bins, **config)).eval()
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        fan = weight[0].numel() if weight.ndim > 1 else 100
        weight.copy_(torch.randn(weight.shape, generator=generator) / fan**0.5)
    return model


def vocoder_of(model, block=48):
    hop, before, after = vocoder_reach(model)
    return Vocoder(lambda mel, first: model(mel), hop, before, after, block)


def noise(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=dtype)


def sound(vocoder, blocks, loop=False):
    frames, pieces = zip(*vocoder.pieces(blocks, loop), strict=True)
    assert list(frames) == [frames[0] + sum(p.shape[1] for p in pieces[:i]) // vocoder.hop for i in range(len(pieces))]
    whole = torch.cat(pieces, 1)
    return whole.roll(frames[0] * vocoder.hop, 1) if loop else whole


@pytest.mark.parametrize("config", CONFIGS)
def test_reach_is_where_a_broken_frame_is_heard(config):
    """NaN goes wherever a sample depends on a frame, and nowhere else."""
    model = hifigan(**config)
    hop, before, after = vocoder_reach(model)
    middle = 60
    mel = noise(1, 2 * middle + 1, 8)
    mel[0, middle] = torch.nan
    broken = model(mel)[0].isnan().nonzero().flatten()
    print(f"hop {hop}: a frame is heard from {broken[0] / hop - middle:.1f} to {broken[-1] / hop - middle:.1f} frames")
    assert broken[0] // hop == middle - after
    assert broken[-1] // hop == middle + before


def test_audioldms_vocoder_needs_the_documented_24_frames():
    hop, before, after = vocoder_reach(hifigan(**AUDIOLDM))
    assert hop == 160
    assert max(before, after) <= 24


# 0 on one thread; with more, torch may add a convolution's products in another order for another length
@pytest.mark.parametrize(
    "config, dtype, most", [*((config, torch.float64, 1e-15) for config in CONFIGS), (CONFIGS[1], torch.float32, 1e-6)]
)
def test_sound_in_pieces_is_sound_in_one(config, dtype, most):
    model = hifigan(**config).to(dtype)
    vocoder = vocoder_of(model)
    mel = noise(2, 131, 8, dtype=dtype)  # two blocks of 48 frames and a shorter one
    whole = model(mel)[:, : 131 * vocoder.hop]
    for sizes in ([131], [1] * 131, [70, 7, 54], [30, 0, 100, 1]):
        pieces = sound(vocoder, mel.split(sizes, 1))
        worst = (pieces - whole).abs().max().item()
        print(f"{dtype}, blocks {len(sizes)}: {worst:.1e} of {whole.abs().max():.2f}")
        assert pieces.shape == whole.shape
        assert worst <= most
    assert 0.05 < whole.abs().max() <= 1


@pytest.mark.parametrize("frames", [3, 17, 48, 60, 120])
@pytest.mark.parametrize("config", CONFIGS[:2])
def test_a_loop_is_the_middle_of_its_endless_repetition(config, frames):
    model = hifigan(**config)
    vocoder = vocoder_of(model)
    mel = noise(1, frames, 8)
    rounds = 2 * (60 // frames + 1) + 1
    endless = model(mel.repeat(1, rounds, 1))
    middle = endless[:, rounds // 2 * frames * vocoder.hop :][:, : frames * vocoder.hop]
    for size in (frames, 5):
        ring = sound(vocoder, mel.split(size, 1), loop=True)
        assert ring.shape == middle.shape
        assert (ring - middle).abs().max() <= 1e-6


def test_rolling_a_loops_frames_rolls_its_sound():
    vocoder = vocoder_of(hifigan(**AUDIOLDM))
    mel = noise(1, 150, 8)
    ring = sound(vocoder, [mel], loop=True)
    rolled = sound(vocoder, [mel.roll(37, 1)], loop=True)
    worst = (rolled - ring.roll(37 * 160, 1)).abs().max().item()
    print(f"rolled by 37 frames: {worst:.1e} of {ring.abs().max():.2f}")
    assert worst <= 1e-6


def test_a_decoder_with_linear_attention_layers_wraps_and_is_left_as_it_was():
    import diffusers

    vae = diffusers.AutoencoderKL(
        in_channels=1, out_channels=1, down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3, block_out_channels=[8, 8, 16], latent_channels=8, norm_num_groups=4,
    ).eval()  # fmt: skip
    latent = noise(1, 8, 12, 4)
    before = vae.decode(latent).sample
    with circular_convolutions(vae, -2):
        ring = vae.decode(latent).sample
        rolled = vae.decode(latent.roll(5, 2)).sample
    worst = ((rolled - ring.roll(20, 2)).abs().max() / ring.abs().max()).item()
    print(f"rolled by 5 latent columns: {worst:.1e} of the peak")
    assert worst <= 1e-5
    assert torch.equal(vae.decode(latent).sample, before)
    assert (before - ring).abs().max() > 1e-2 * before.abs().max()
