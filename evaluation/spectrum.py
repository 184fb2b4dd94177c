"""Fig. 2(b) of the paper: relative log-amplitude curves of the latent's regions."""

from __future__ import annotations

import torch

FLOOR = 1e-12  # amplitude


def radial_spectrum(pieces: torch.Tensor) -> torch.Tensor:
    """Log-amplitude in dB over radial frequency: [N, C, F, T] -> [N, bins].

    A 2-D FFT of every channel under a Hann window (a cut piece does not join its ends), 20 log10 of the amplitude,
    averaged over rings of equal frequency and then over channels. Bin k holds the frequencies from k / bins to
    (k + 1) / bins of Nyquist, in latent cells, Nyquist itself in the last; the bins are as wide as the shorter side
    resolves. What lies beyond Nyquist's circle is left out.
    """
    height, width = pieces.shape[-2:]
    window = torch.outer(*(torch.hann_window(n, periodic=False, dtype=torch.float64) for n in (height + 2, width + 2)))
    amplitude = torch.fft.fft2(pieces.double() * window[1:-1, 1:-1]).abs()
    decibel = 20 * torch.log10(amplitude.clamp_min(FLOOR)).flatten(-2)
    bins = min(height, width) // 2
    frequencies = (torch.fft.fftfreq(n, dtype=torch.float64) for n in (height, width))
    radius = torch.hypot(*torch.meshgrid(*frequencies, indexing="ij")).flatten()
    ring = (radius * 2 * bins).long().clamp_max(bins - 1)
    rings = torch.nn.functional.one_hot(ring, bins).double() * (radius <= 0.5).unsqueeze(1)
    return (decibel @ rings / rings.sum(0)).mean(1)


def relative(spectrum: torch.Tensor) -> torch.Tensor:
    """Curves [..., bins] relative to their lowest frequency, as Fig. 2(b) draws them."""
    return spectrum - spectrum[..., :1]


def top_third(bins: int) -> slice:
    """The frequencies from two thirds of Nyquist on."""
    return slice(-(-2 * bins // 3), bins)


def high_frequency_deficit(reference: torch.Tensor, spectrum: torch.Tensor) -> torch.Tensor:
    """How far `spectrum` lies below `reference`, in dB, on average over the top third: [..., bins] -> [...]."""
    return (reference - spectrum)[..., top_third(spectrum.shape[-1])].mean(-1)
