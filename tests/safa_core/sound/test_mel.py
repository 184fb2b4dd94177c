"""Mel spectrograms against torchaudio's and against Slaney's formula written out, and sound without a vocoder."""

import math

import pytest
import torch

from safa_pack.safa_core.sound.mel import (
    RIFFUSION,
    GriffinLim,
    MelScale,
    hz_to_mel,
    istft,
    mel_filterbank,
    mel_to_hz,
    riffusion_mel,
    stft,
)
from safa_pack.tests.safa_core.griffin_lim import griffin_lim

pytestmark = pytest.mark.core

AUDIOLDM = MelScale(16000, 64, 160, 0.0, 8000.0)


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


@pytest.fixture
def torchaudio():
    return pytest.importorskip("torchaudio", reason="newer hosts come without it")


def tones(seconds=2.0, rate=16000, ring=False):
    """Sound with partials that come and go; with `ring` its end flows into its start."""
    t = torch.arange(int(seconds * rate)) / rate
    whole = [round(f * seconds) / seconds for f in (220.0, 587.0, 1760.0)]
    swell = 0.5 + 0.5 * torch.sin(2 * math.pi * (2 / seconds if ring else 1.3) * t)
    return (swell * sum(torch.sin(2 * math.pi * f * t) for f in whole) / 4).unsqueeze(0)


def slaney(bins, n_fft, rate, fmin, fmax):
    """Slaney's Auditory Toolbox (1998): linear below 1 kHz, 27 logarithmic steps to 6.4 kHz, triangles of area 1."""

    def to_mel(f):
        return f / (200 / 3) if f < 1000 else 15 + math.log(f / 1000) / (math.log(6.4) / 27)

    def to_hz(m):
        return m * 200 / 3 if m < 15 else 1000 * math.exp((m - 15) * math.log(6.4) / 27)

    corner = [to_hz(to_mel(fmin) + i * (to_mel(fmax) - to_mel(fmin)) / (bins + 1)) for i in range(bins + 2)]
    bank = torch.zeros(bins, n_fft // 2 + 1)
    for m in range(bins):
        left, centre, right = corner[m : m + 3]
        for k in range(n_fft // 2 + 1):
            f = k * rate / n_fft
            if left < f <= centre:
                bank[m, k] = (f - left) / (centre - left) * 2 / (right - left)
            elif centre < f < right:
                bank[m, k] = (right - f) / (right - centre) * 2 / (right - left)
    return bank


def test_filterbank_is_slaneys():
    bank = mel_filterbank(16000, 1024, 64, 0, 8000)
    assert (bank - slaney(64, 1024, 16000, 0, 8000)).abs().max() <= 1e-6 * bank.max()


@pytest.mark.parametrize("scale, area", [("slaney", True), ("htk", False), ("htk", True)])
@pytest.mark.parametrize("rate, n_fft, bins, fmin, fmax", [(16000, 1024, 80, 0, 8000), (44100, 2048, 128, 40, 16000)])
def test_filterbank_is_torchaudios(torchaudio, scale, area, rate, n_fft, bins, fmin, fmax):
    bank = mel_filterbank(rate, n_fft, bins, fmin, fmax, scale, area)
    norm = "slaney" if area else None
    expected = torchaudio.functional.melscale_fbanks(n_fft // 2 + 1, fmin, fmax, bins, rate, norm, scale).T
    assert (bank - expected).abs().max() <= 2e-4 * expected.max()


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_mel_scale_inverts(scale):
    hz = torch.linspace(0, 16000, 1000, dtype=torch.float64)
    assert (mel_to_hz(hz_to_mel(hz, scale), scale) - hz).abs().max() <= 1e-6


def test_spectrogram_is_audioldms():
    """AudioLDM's TacotronSTFT: reflected by n_fft / 2, magnitudes, Slaney's mel, ln of at least 1e-5."""
    audio = tones()
    magnitude = torch.stft(audio, 1024, 160, 1024, torch.hann_window(1024), return_complex=True).abs()[..., :-1]
    expected = torch.log((slaney(64, 1024, 16000, 0, 8000) @ magnitude).clamp_min(1e-5)).transpose(1, 2)
    mel = AUDIOLDM.spectrogram(audio)
    assert mel.shape == expected.shape == (1, 200, 64)
    assert (mel - expected)[:, 4:-4].abs().max() <= 1e-3  # the ends: silence, not a reflection


@pytest.mark.parametrize("scale", [AUDIOLDM, MelScale(44100, 40, 441, 0, 10000, n_fft=17640, window=4410)])
def test_istft_undoes_stft(scale):
    audio = torch.randn(2, 30 * scale.hop, generator=torch.Generator().manual_seed(1))
    assert (istft(stft(audio, scale), scale) - audio).abs().max() <= 1e-4


def test_decibels_are_those_of_the_magnitudes():
    mel = torch.tensor([[1.0, 10.0, 0.1]])
    for log, given in (("ln", mel.log()), ("log10", mel.log10()), ("", mel)):
        scale = MelScale(16000, 3, 160, 0, 8000, log=log)
        assert torch.allclose(scale.decibel(given), torch.tensor([[0.0, 20.0, -20.0]]), atol=1e-4)


def convergence(sound, audio):
    """Distance between two spectrograms, relative: the measure of Griffin-Lim's papers."""
    a, b = (stft(x, AUDIOLDM).abs()[..., 8:-8] for x in (sound, audio))
    return ((a - b).norm() / b.norm()).item()


def test_without_a_vocoder_the_sound_is_as_close_as_torchaudios(torchaudio):
    audio = tones()
    mel = AUDIOLDM.spectrogram(audio)
    ours = griffin_lim(mel, 16000, 1024, 160, 0, 8000)
    assert ours.shape == audio.shape
    to_linear = torchaudio.transforms.InverseMelScale(
        513, 64, 16000, 0, 8000, norm="slaney", mel_scale="slaney", driver="gelsd"
    )
    magnitude = to_linear(mel.exp().transpose(1, 2))
    torch.manual_seed(0)
    theirs = torchaudio.transforms.GriffinLim(1024, 32, hop_length=160, power=1.0, momentum=0.99)(magnitude)
    theirs = torch.nn.functional.pad(theirs, (0, 160))
    print(f"spectral distance: ours {convergence(ours, audio):.3f}, torchaudio {convergence(theirs, audio):.3f}")
    assert convergence(ours, audio) <= 1.1 * convergence(theirs, audio)


def test_magnitudes_from_mels_are_torchaudios_least_squares(torchaudio):
    mel = AUDIOLDM.spectrogram(tones())
    theirs = torchaudio.transforms.InverseMelScale(
        513, 64, 16000, 0, 8000, norm="slaney", mel_scale="slaney", driver="gelsd"
    )(mel.exp().transpose(1, 2))
    ours = GriffinLim(AUDIOLDM).linear(mel)
    assert (ours - theirs).abs().max() <= 1e-3 * theirs.abs().max()


@pytest.mark.parametrize("loop", [False, True])
def test_griffin_lim_in_pieces_is_griffin_lim_in_one(loop):
    scale = MelScale(16000, 20, 128, 0, 8000, n_fft=256, window=256)
    mel = torch.randn(1, 300, 20, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    lim = GriffinLim(scale, iterations=8)
    whole = lim.vocoder(0, 300, block=10**6)
    pieces = lim.vocoder(0, 300, block=40)
    one, many = (torch.cat([s for _, s in v.pieces(mel.split(33, 1), loop)], 1) for v in (whole, pieces))
    assert one.shape == many.shape == (1, 300 * 128)
    assert (one - many).abs().max() <= 1e-9 * one.abs().max()


def test_a_loop_without_a_vocoder_has_no_click_at_its_wrap():
    audio = tones(3.0, ring=True)
    thrice = AUDIOLDM.spectrogram(audio.repeat(1, 3))
    sound = griffin_lim(thrice[:, 300:600], 16000, 1024, 160, 0, 8000, loop=True)
    assert sound.shape == audio.shape
    steps = (sound.roll(-1, 1) - sound).abs()[0]
    open_ended = griffin_lim(thrice[:, 300:600], 16000, 1024, 160, 0, 8000)
    print(
        f"step at the wrap {steps[-1]:.4f}, largest inside {steps[:-1].max():.4f}; not as a loop "
        f"{(open_ended[0, 0] - open_ended[0, -1]).abs():.4f}"
    )
    assert steps[-1] <= steps[:-1].max()
    around = stft(torch.cat([sound, sound, sound], 1), AUDIOLDM).abs()[..., 300:600]
    wanted = stft(audio.repeat(1, 3), AUDIOLDM).abs()[..., 300:600]
    frame_error = (around - wanted).norm(dim=1)[0] / wanted.norm(dim=1).mean()
    assert frame_error[[0, 1, 2, -3, -2, -1]].max() <= frame_error.max()


def test_riffusions_picture_is_read_as_riffusion_does():
    """Riffusion's image_util.spectrogram_from_image, written out for two pixels."""
    picture = torch.ones(1, 512, 3)
    picture[0, 511, 0] = 0.0  # lowest row, black
    picture[0, 0, 1] = 1 - 128 / 255
    mel = riffusion_mel(picture)
    assert mel.shape == (1, 3, 512)
    assert mel[0, 0, 0] == 30e6
    assert mel[0, 1, 511].item() == pytest.approx((128 / 255) ** 4 * 30e6, rel=1e-4)
    assert mel.count_nonzero() == 2


def test_riffusions_filterbank_is_torchaudios(torchaudio):
    expected = torchaudio.functional.melscale_fbanks(8821, 0.0, 10000.0, 512, 44100, None, "htk").T
    assert (RIFFUSION.filterbank() - expected).abs().max() <= 1e-3
    mel = torch.rand(1, 4, 512, generator=torch.Generator().manual_seed(3))
    signed = GriffinLim(RIFFUSION)._inverse @ mel[0].T
    assert (expected @ signed - mel[0].T).abs().max() <= 1e-3  # least squares meets all 512 mels exactly
