"""Nodes for a test's server, in the place of loaders whose files have one size only, of gigabytes."""

import sys
import zlib
from pathlib import Path

import torch

import comfy.patcher_extension
import comfy.sample
from comfy.text_encoders.hidream_o1 import BOI_TOKEN_ID, TMS_TOKEN_ID

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT))
import bootstrap  # noqa: E402

bootstrap.pack()
bootstrap.leave_path()

from safa_pack.tests import tiny_controls  # noqa: E402
from safa_pack.tests.host_templates.stand_ins.families import MODELS  # noqa: E402

TOKENS = 8


class Texts:
    """In the place of the host's CLIP: each text's own random conditioning."""

    def __init__(self, width, pooled, kind):
        self.width, self.pooled, self.kind = width, pooled, kind

    def clone(self):
        return self

    def set_tokenizer_option(self, name, value):
        """T5's options are of no concern here."""

    def tokenize(self, text, **options):
        return {"text": text, **options}

    def encode_from_tokens_scheduled(self, tokens, **options):
        generator = torch.Generator().manual_seed(zlib.crc32(tokens["text"].encode()))
        context = torch.randn(1, TOKENS, self.width, generator=generator)
        values = {}
        if self.pooled:
            values["pooled_output"] = torch.randn(1, self.pooled, generator=generator)
        if self.kind == "HiDream":
            values["conditioning_llama3"] = torch.randn(1, 2, TOKENS, self.width, generator=generator)
        if self.kind == "HiDream-O1":
            words = torch.randint(1, 1000, (1, TOKENS), generator=generator)
            values["text_input_ids"] = torch.cat([words, torch.tensor([[BOI_TOKEN_ID, TMS_TOKEN_ID]])], 1)
        if self.kind == "OmniGen2":
            values["attention_mask"] = torch.ones(1, TOKENS, dtype=torch.long)
        if self.kind == "ACE-Step 1.0":
            values["conditioning_lyrics"] = torch.randint(1, 6000, (1, TOKENS), generator=generator)
        if self.kind == "ACE-Step 1.5":
            values["conditioning_lyrics"] = torch.randn(1, TOKENS, self.width, generator=generator)
        return [[context, values]]


class StandInTexts:
    @classmethod
    def INPUT_TYPES(cls):
        kinds = ["", "HiDream", "HiDream-O1", "OmniGen2", "ACE-Step 1.0", "ACE-Step 1.5"]
        return {"required": {"width": ("INT", {"max": 8192}), "pooled": ("INT", {"max": 8192}), "kind": (kinds,)}}

    RETURN_TYPES, FUNCTION, CATEGORY = ("CLIP",), "load", "tests"

    def load(self, width, pooled, kind):
        return (Texts(width, pooled, kind),)


class StandInModel:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"family": (list(MODELS),)}}

    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "load", "tests"

    def load(self, family):
        with torch.inference_mode(False):
            return (MODELS[family](),)


class Blank:
    """In the place of a VAE that has one size: silence as long as the sound would be, or a picture without anything."""

    audio_sample_rate = 44100

    def __init__(self, pixels):
        self.pixels = pixels

    def decode(self, latent):
        if self.pixels == 0:
            return torch.zeros(len(latent), latent.shape[-1] * 4096, 2)
        rows, columns = latent.shape[-2:]
        return torch.zeros(len(latent), rows * self.pixels, columns * self.pixels, 3)


class StandInVAE:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"pixels": ("INT", {"tooltip": "Pixels per latent, 0 for sound."})}}

    RETURN_TYPES, FUNCTION, CATEGORY = ("VAE",), "load", "tests"

    def load(self, pixels):
        return (Blank(pixels),)


CONTROLS = {"InstantX": tiny_controls.qwen, "InstantX inpainting": tiny_controls.qwen_inpaint}


class StandInControl:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"kind": (list(CONTROLS),)}}

    RETURN_TYPES, FUNCTION, CATEGORY = ("CONTROL_NET",), "load", "tests"

    def load(self, kind):
        with torch.inference_mode(False):
            return (CONTROLS[kind](),)


class StandInNoise:
    """A view's part of the noise that the host draws for a canvas."""

    @classmethod
    def INPUT_TYPES(cls):
        number = ("INT", {"min": -8, "max": 100000})
        return {"required": {"model": ("MODEL",), "canvas": number, "start": number, "axis": number}}

    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "patch", "tests"

    def patch(self, model, canvas, start, axis):
        def outer_sample(
            executor, noise, latent_image, sampler, sigmas, denoise_mask, callback, quiet, seed, *rest, **k
        ):
            if noise.any():  # a second stage adds none
                shape = list(noise.shape)
                shape[axis] = canvas
                whole = comfy.sample.prepare_noise(torch.zeros(shape, dtype=noise.dtype), seed)
                noise = whole.narrow(axis, start, noise.shape[axis])
            return executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, quiet, seed, *rest, **k)

        patched = model.clone()
        kind = comfy.patcher_extension.WrappersMP.OUTER_SAMPLE
        patched.add_wrapper_with_key(kind, "stand_in_noise", outer_sample)
        return (patched,)


NODE_CLASS_MAPPINGS = {
    cls.__name__: cls for cls in (StandInTexts, StandInModel, StandInVAE, StandInControl, StandInNoise)
}
