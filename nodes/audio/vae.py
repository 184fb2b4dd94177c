"""VAE and vocoder of the audio families as the host's VAE: latents to sound and back, by way of a mel spectrogram."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.utils

from ...safa_core.sound.mel import MelScale
from .host_ops import use_host_ops
from .parts import AudioParts, Mel

LOGS = {"ln": torch.log, "log10": torch.log10}


class LibraryModel(torch.nn.Module):
    """A library's model within a plain module, on which the host's patcher can set `device`.

    In the library's own classes `device` is a read-only property.
    """

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model


class AudioVAE(comfy.sd.VAE):
    """VAE and vocoder as a VAE of the host, for VAE Decode Audio, VAE Encode Audio and Mel Decode.

    Latents [B, C, T, F] are unscaled, as everywhere in ComfyUI outside the sampler: the pipelines' division by the
    VAE's scaling factor is `process_out` of the MODEL's latent format.

    A MelVAE, whose attributes mel_vae.py describes.
    """

    latent_axis = 2

    def __init__(self, parts: AudioParts):
        self.name = parts.name
        self.first_stage_model = parts.vae
        self.vocoder: Any = parts.vocoder
        self.latent_channels = parts.vae.config.latent_channels
        self.frames_per_column = 2 ** (len(parts.vae.config.block_out_channels) - 1)
        self._set_mel(parts.mel)
        self._set_host_fields()
        self.patcher = self._patcher(self.first_stage_model)
        self.vocoder_patcher: Any = None if self.vocoder is None else self._patcher(self.vocoder)

    @property
    def first_stage_model(self) -> Any:
        return self._autoencoder

    @first_stage_model.setter
    def first_stage_model(self, module: torch.nn.Module) -> None:
        """Also the patcher's own, as Select VAE Device sets it."""
        self._autoencoder = module.model if isinstance(module, LibraryModel) else module

    def _set_mel(self, mel: Mel) -> None:
        self.audio_sample_rate = mel.sampling_rate
        self.hop = mel.hop_length
        self.n_fft = mel.n_fft
        self.mel_bins = mel.n_mels
        self.fmin = mel.fmin
        self.fmax = mel.fmax
        self.log = mel.log
        self.loudest = mel.loudest

    def _set_host_fields(self) -> None:
        """What the host's own VAEs have, and its nodes read."""
        self.latent_dim = 2
        self.output_channels = 1
        self.upscale_ratio = self.downscale_ratio = self.frames_per_column
        self.upscale_index_formula = self.downscale_index_formula = None
        self.extra_1d_channel = None
        self.size = None
        self.disable_offload = False
        self.not_video = False
        self.device = comfy.model_management.vae_device()
        self.output_device = comfy.model_management.intermediate_device()
        self.working_dtypes = [torch.float32]
        self.vae_dtype = comfy.model_management.vae_dtype(self.device, self.working_dtypes)

    def _patcher(self, module: torch.nn.Module) -> comfy.model_patcher.ModelPatcher:
        torch.nn.Module.to(module, self.vae_dtype)
        use_host_ops(module, self.vae_dtype, None)
        comfy.model_management.archive_model_dtypes(module)
        offload = comfy.model_management.vae_offload_device()
        return comfy.model_patcher.CoreModelPatcher(
            LibraryModel(module), load_device=self.device, offload_device=offload
        )

    def load(self, memory_required: float = 0) -> None:
        """Bring VAE and vocoder to the device, with `memory_required` bytes left beside them."""
        patchers = [p for p in (self.patcher, self.vocoder_patcher) if p is not None]
        comfy.model_management.load_models_gpu(patchers, memory_required=memory_required)

    def memory_used_decode(self, shape: Sequence[int], dtype: torch.dtype) -> float:
        """Bytes for a latent [B, C, T, F]: the host's figure for an AutoencoderKL, per pixel of the spectrogram."""
        pixels = shape[2] * shape[3] * self.frames_per_column**2
        return 2178 * pixels * comfy.model_management.dtype_size(dtype)

    def memory_used_encode(self, shape: Sequence[int], dtype: torch.dtype) -> float:
        """Bytes for a mel spectrogram [B, 1, frames, bins]."""
        return 1767 * shape[2] * shape[3] * comfy.model_management.dtype_size(dtype)

    def memory_used_vocoder(self, frames: int) -> float:
        """Bytes for `frames` mel frames: about six tensors of the widest level live together."""
        config = self.vocoder.config
        rate = 1
        widest = 0
        for level, up in enumerate(config.upsample_rates):
            rate *= up
            widest = max(widest, rate * config.upsample_initial_channel // 2 ** (level + 1))
        return 6 * frames * widest * comfy.model_management.dtype_size(self.vae_dtype)

    def check_latent(self, latent: torch.Tensor) -> None:
        """Refuse what this VAE did not make (ValueError)."""
        rows = self.mel_bins // self.frames_per_column
        shape = list(latent.shape)
        if latent.ndim != 4 or shape[1] != self.latent_channels or shape[3] != rows or shape[2] < 1:
            raise ValueError(
                f"{self.name}: expected a latent [batch, {self.latent_channels}, time, {rows}], got {shape}; this "
                "latent is empty or of another model."
            )

    def latent_to_mel(self, latent: torch.Tensor) -> torch.Tensor:
        """Latent [B, C, T, F] -> log-mel [B, T * frames_per_column, mel_bins], float32 on the VAE's device.

        Not louder than the model's training: guidance overshoots it, and the exponential of 2 more is 7 times as loud.
        """
        self.check_latent(latent)
        memory = self.memory_used_decode(latent.shape, self.vae_dtype)
        comfy.model_management.load_models_gpu([self.patcher], memory_required=memory)
        return torch.cat([self._decode_mel(clip) for clip in latent.split(1)])

    def _decode_mel(self, latent: torch.Tensor) -> torch.Tensor:
        latent = latent.to(self.device, self.vae_dtype)
        mel = self.first_stage_model.decode(latent, return_dict=False)[0][:, 0].float()
        return mel if self.loudest is None else mel.clamp(max=self.loudest)

    def mel_to_latent(self, mel: torch.Tensor) -> torch.Tensor:
        """Log-mel [B, frames, mel_bins] -> the posterior's mode [B, C, frames / frames_per_column, F], float32."""
        shape = list(mel.shape)
        if mel.ndim != 3 or shape[2] != self.mel_bins or shape[1] < 1 or shape[1] % self.frames_per_column:
            raise ValueError(
                f"{self.name}: expected a mel spectrogram [batch, frames, {self.mel_bins}] with a multiple of "
                f"{self.frames_per_column} frames, got {shape}."
            )
        memory = self.memory_used_encode((1, 1, *shape[1:]), self.vae_dtype)
        comfy.model_management.load_models_gpu([self.patcher], memory_required=memory)
        clips = mel[:, None].to(self.device, self.vae_dtype).split(1)
        return torch.cat([self.first_stage_model.encode(clip).latent_dist.mode().float() for clip in clips])

    def mel_to_audio(self, mel: torch.Tensor) -> torch.Tensor:
        """Log-mel [B, frames, mel_bins] -> waveform [B, frames * hop], float32.

        A HiFi-GAN's few samples more (32 for AudioLDM's) are cut, as the pipelines do.
        """
        if self.vocoder is None:
            raise ValueError(f"{self.name} has no vocoder; use Mel Decode, which has Griffin-Lim.")
        memory = self.memory_used_vocoder(mel.shape[1])
        comfy.model_management.load_models_gpu([self.vocoder_patcher], memory_required=memory)
        clips = mel.to(self.vocoder_patcher.load_device, self.vae_dtype).split(1)  # not the VAE's, once that was moved
        return torch.cat([self.vocoder(clip)[:, : mel.shape[1] * self.hop].float() for clip in clips])

    def audio_to_mel(self, audio: torch.Tensor) -> torch.Tensor:
        """Waveform [B, samples] at audio_sample_rate -> log-mel [B, ceil(samples / hop), mel_bins].

        As the families were trained: reflected edges, magnitudes, Slaney filters, clamped at 1e-5.
        """
        audio = F.pad(audio.float(), (0, -audio.shape[1] % self.hop))
        window = torch.hann_window(self.n_fft, device=audio.device)
        spectrum = torch.stft(audio, self.n_fft, self.hop, window=window, pad_mode="reflect", return_complex=True)
        scale = MelScale(self.audio_sample_rate, self.mel_bins, self.hop, self.fmin, self.fmax, self.n_fft, self.n_fft)
        mel = (scale.filterbank().to(audio) @ spectrum[..., : audio.shape[1] // self.hop].abs()).transpose(1, 2)
        return LOGS[self.log](mel.clamp(min=1e-5))

    def decode(self, samples_in: torch.Tensor, vae_options: dict | None = None) -> torch.Tensor:
        """Latent [B, C, T, F] -> waveform [B, samples, 1], as VAE Decode Audio takes it."""
        return self._sound(self.latent_to_mel(samples_in))

    def _sound(self, mel: torch.Tensor) -> torch.Tensor:
        return self.mel_to_audio(mel).to(self.output_device)[..., None]

    def decode_tiled(
        self,
        samples: torch.Tensor,
        tile_x: int = 512,
        tile_y: int | None = None,
        overlap: int = 64,
        tile_t: int | None = None,
        overlap_t: int | None = None,
    ) -> torch.Tensor:
        """As `decode`, the VAE in windows of `tile_x` latent columns that fade into each other over `overlap`.

        Not the whole decode's values: the VAE's GroupNorm and attention see one window at a time.
        """
        self.check_latent(samples)
        window = [*samples.shape[:2], min(tile_x, samples.shape[2]), samples.shape[3]]
        memory = self.memory_used_decode(window, self.vae_dtype)
        comfy.model_management.load_models_gpu([self.patcher], memory_required=memory)
        mel = comfy.utils.tiled_scale_multidim(
            samples,
            lambda part: self._decode_mel(part)[:, None],
            tile=(tile_x, samples.shape[3]),
            overlap=(min(overlap, tile_x // 2), 0),
            upscale_amount=self.frames_per_column,
            out_channels=1,
            output_device=self.output_device,
        )
        return self._sound(mel[:, 0])

    def encode(self, pixel_samples: torch.Tensor) -> torch.Tensor:
        """Waveform [B, samples, channels] -> latent; channels are averaged, the last column filled with silence."""
        if pixel_samples.ndim != 3 or pixel_samples.shape[1] <= self.n_fft // 2:
            raise ValueError(
                f"{self.name}: expected sound of more than {self.n_fft // 2} samples, got {list(pixel_samples.shape)} "
                "[batch, samples, channels]."
            )
        audio = pixel_samples.mean(-1)
        column = self.hop * self.frames_per_column
        audio = F.pad(audio, (0, -audio.shape[1] % column))
        return self.mel_to_latent(self.audio_to_mel(audio)).to(self.output_device)

    def encode_tiled(
        self,
        pixel_samples: torch.Tensor,
        tile_x: int | None = None,
        tile_y: int | None = None,
        overlap: int | None = None,
        tile_t: int | None = None,
        overlap_t: int | None = None,
    ) -> torch.Tensor:
        """As `encode`: the spectrogram is encoded whole."""
        return self.encode(pixel_samples)
