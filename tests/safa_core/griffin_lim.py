"""A whole log-mel spectrogram to sound by Griffin-Lim, in one call."""

import torch

from safa_pack.safa_core.sound.mel import GriffinLim, MelScale


def griffin_lim(log_mel, sample_rate, n_fft, hop, fmin, fmax, log="ln", loop=False):
    """Log-mel [B, n, bins] (Slaney) -> sound [B, n * hop]; on a ring the end flows into the start.

    sample_rate, fmin, fmax in Hz; n_fft (which is the window too) and hop in samples; log: "ln" or "log10".
    """
    count, bins = log_mel.shape[1:]
    scale = MelScale(sample_rate, bins, hop, fmin, fmax, n_fft, n_fft, log)
    vocoder = GriffinLim(scale).vocoder(0, count)
    sound = torch.cat([piece for _, piece in vocoder.pieces([log_mel], loop)], dim=1)
    return sound.roll(vocoder.before * hop, dims=1) if loop else sound
