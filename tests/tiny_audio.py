"""Tiny random audio models in the real formats, written by the libraries' own classes into a folder.

Prompts, UNet, VAE and vocoder have the published models' structure, and a few thousand weights.
"""

import json
from functools import lru_cache
from pathlib import Path

import torch
from diffusers import AudioLDM2ProjectionModel, AudioLDM2UNet2DConditionModel, AutoencoderKL, UNet2DConditionModel
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    AutoTokenizer,
    ClapAudioConfig,
    ClapConfig,
    ClapModel,
    ClapTextConfig,
    ClapTextModelWithProjection,
    GPT2Config,
    GPT2Model,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
    T5Config,
    T5EncoderModel,
)

import comfy.ldm.modules.diffusionmodules.model as ldm
import comfy.text_encoders.sd3_clip

WIDTH, ROWS, COLUMNS = 16, 16, 32
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
BLOCKS = {
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "in_channels": 8,
    "out_channels": 8,
    "sample_size": (COLUMNS, ROWS),
}
CORPUS = ["rain on a tin roof, and far thunder", "a dog barks twice in a large hall", "slow piano, low quality"]


def randomised(model, seed):
    """The model with new weights: matrices as torch draws them, vectors that are neither 0 nor 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.state_dict().items():
        if weight.is_floating_point():
            spread = 0.1 if weight.ndim < 2 else (weight[0].numel()) ** -0.5
            centre = 1.0 if weight.ndim < 2 and name.endswith("weight") or name == "scale" else 0.0
            weight.copy_(centre + spread * torch.randn(weight.shape, generator=generator))
    return model.eval()


def roberta_tokenizer(folder):
    """A byte-level BPE of a few hundred tokens, in RobertaTokenizer's files."""
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(CORPUS, vocab_size=300, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    folder.mkdir(parents=True)
    bpe.save_model(str(folder))
    tokenizer_config = {"tokenizer_class": "RobertaTokenizer", "model_max_length": 77}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)


def t5_tokenizer(folder):
    """The host's copy of T5's own tokenizer."""
    source = Path(comfy.text_encoders.sd3_clip.__file__).parent / "t5_tokenizer"
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)


def clap_text():
    return {
        "vocab_size": 300,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": WIDTH,
        "max_position_embeddings": 79,
    }


def clap(seed):
    audio = {
        "patch_embeds_hidden_size": 8,
        "depths": [1, 1],
        "num_attention_heads": [1, 1],
        "hidden_size": 16,
        "projection_dim": WIDTH,
        "num_mel_bins": 64,
        "spec_size": 64,
        "patch_size": 4,
        "patch_stride": [4, 4],
        "window_size": 4,
    }
    config = ClapConfig(
        text_config=ClapTextConfig(**clap_text()).to_dict(),
        audio_config=ClapAudioConfig(**audio).to_dict(),
        projection_dim=WIDTH,
    )
    return randomised(ClapModel(config), seed)


def t5(seed, width=WIDTH):
    config = T5Config(
        vocab_size=32128,
        d_model=width,
        d_kv=8,
        d_ff=24,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return randomised(T5EncoderModel(config), seed)


def vae(seed):
    levels = 3
    model = AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(8, 8, 16),
        norm_num_groups=4,
        layers_per_block=1,
        latent_channels=8,
        scaling_factor=0.9227914214134216,
    )
    return randomised(model, seed)


def vocoder(seed):
    config = SpeechT5HifiGanConfig(
        model_in_dim=64,
        sampling_rate=16000,
        upsample_initial_channel=32,
        upsample_rates=[5, 4, 2, 2, 2],
        upsample_kernel_sizes=[16, 16, 8, 4, 4],
        normalize_before=False,
    )
    return randomised(SpeechT5HifiGan(config), seed)


def class_unet(seed):
    """AudioLDM's: the prompt is a vector beside the time, no cross-attention to tokens."""
    unet = UNet2DConditionModel(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=(16, 32),  # attn2 attends to itself
        attention_head_dim=4,
        class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=WIDTH,
        class_embeddings_concat=True,
        **BLOCKS,
    )
    return randomised(unet, seed)


def token_unet(seed, **changes):
    """Tango's: cross-attention to T5's tokens."""
    unet = UNet2DConditionModel(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        use_linear_projection=True,
        **BLOCKS | changes,
    )
    return randomised(unet, seed)


def audioldm2_unet(seed):
    unet = AudioLDM2UNet2DConditionModel(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=((None, 24, WIDTH), (None, 24, WIDTH)),
        attention_head_dim=4,
        **BLOCKS,
    )
    return randomised(unet, seed)


def write(folder, pipeline, scheduler=None, **components):
    """A diffusers folder: name=(library, model or function that writes a tokenizer or None)."""
    folder.mkdir(parents=True)
    index = {"_class_name": pipeline, "_diffusers_version": "0.42.1"}
    for name, (library, part) in components.items():
        if part is None:
            index[name] = [None, None]
        elif callable(part) and not isinstance(part, torch.nn.Module):
            part(folder / name)
            index[name] = [library, {"roberta_tokenizer": "RobertaTokenizer"}.get(part.__name__, "T5TokenizerFast")]
        else:
            part.save_pretrained(folder / name)
            index[name] = [library, type(part).__name__]
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler or SCHEDULER))
    index["scheduler"] = ["diffusers", "DDIMScheduler"]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def audioldm(folder, seed=1):
    return write(
        folder,
        "AudioLDMPipeline",
        vae=("diffusers", vae(seed)),
        text_encoder=("transformers", randomised(ClapTextModelWithProjection(ClapTextConfig(**clap_text())), seed + 1)),
        tokenizer=("transformers", roberta_tokenizer),
        unet=("diffusers", class_unet(seed + 2)),
        vocoder=("transformers", vocoder(seed + 3)),
    )


def musicldm(folder, seed=11):
    return write(
        folder,
        "MusicLDMPipeline",
        vae=("diffusers", vae(seed)),
        text_encoder=("transformers", clap(seed + 1)),
        tokenizer=("transformers", roberta_tokenizer),
        unet=("diffusers", class_unet(seed + 2)),
        vocoder=("transformers", vocoder(seed + 3)),
    )


def audioldm2(folder, seed=21):
    """Names GPT2Model, as the converted checkpoints do."""
    projection = AudioLDM2ProjectionModel(WIDTH, WIDTH, 24)
    gpt2 = GPT2Model(GPT2Config(vocab_size=32, n_positions=600, n_embd=24, n_layer=2, n_head=2))
    return write(
        folder,
        "AudioLDM2Pipeline",
        vae=("diffusers", vae(seed)),
        text_encoder=("transformers", clap(seed + 1)),
        text_encoder_2=("transformers", t5(seed + 2)),
        projection_model=("audioldm2", randomised(projection, seed + 3)),
        language_model=("transformers", randomised(gpt2, seed + 4)),
        tokenizer=("transformers", roberta_tokenizer),
        tokenizer_2=("transformers", t5_tokenizer),
        unet=("audioldm2", audioldm2_unet(seed + 5)),
        vocoder=("transformers", vocoder(seed + 6)),
    )


def t5_audio(folder, seed=31, with_vocoder=True, scheduler=None):
    """UNet2DConditionModel + T5EncoderModel + AutoencoderKL, with or without a vocoder: no published pipeline."""
    return write(
        folder,
        "TextToAudio",
        scheduler=scheduler,
        vae=("diffusers", vae(seed)),
        text_encoder=("transformers", t5(seed + 1)),
        tokenizer=("transformers", t5_tokenizer),
        unet=("diffusers", token_unet(seed + 2)),
        vocoder=("transformers", vocoder(seed + 3) if with_vocoder else None),
    )


class LdmVae(torch.nn.Module):
    """The autoencoder inside Tango's pytorch_model_vae.bin, from the host's copy of LDM's classes."""

    CONFIG = {
        "ch": 32,
        "out_ch": 1,
        "ch_mult": [1, 1, 2],
        "num_res_blocks": 1,
        "attn_resolutions": [],
        "in_channels": 1,
        "resolution": 256,
        "z_channels": 8,
        "double_z": True,
        "dropout": 0.0,
    }

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = ldm.Encoder(**self.CONFIG), ldm.Decoder(**self.CONFIG)
        self.quant_conv, self.post_quant_conv = torch.nn.Conv2d(16, 16, 1), torch.nn.Conv2d(8, 8, 1)

    def decode(self, latent):
        return self.decoder(self.post_quant_conv(latent))


@lru_cache
def tango_parts(seed=41):
    """The modules that Tango's files are made of."""
    return {
        "vae": randomised(LdmVae(), seed),
        "vocoder": vocoder(seed + 1),
        "unet": token_unet(seed + 2, sample_size=(32, 2)),
        "text_encoder": t5(seed + 3),
    }


def tango(folder, seed=41):
    """Tango's own files, the UNet's configuration beside them."""
    (folder / "configs").mkdir(parents=True)
    unet_config, parts = "configs/diffusion_model_config.json", tango_parts(seed)
    main = {
        "text_encoder_name": "google/flan-t5-large",
        "scheduler_name": "stabilityai/stable-diffusion-2-1",
        "unet_model_name": None,
        "unet_model_config_path": unet_config,
        "snr_gamma": 5.0,
    }
    stft = {
        "filter_length": 1024,
        "hop_length": 160,
        "win_length": 1024,
        "n_mel_channels": 64,
        "sampling_rate": 16000,
        "mel_fmin": 0,
        "mel_fmax": 8000,
    }
    vae_config = {
        "image_key": "fbank",
        "subband": 1,
        "embed_dim": 8,
        "time_shuffle": 1,
        "ddconfig": LdmVae.CONFIG,
        "scale_factor": 0.9227914214134216,
    }
    for name, content in (("main", main), ("stft", stft), ("vae", vae_config)):
        (folder / f"{name}_config.json").write_text(json.dumps(content))
    (folder / unet_config).write_text(json.dumps(dict(parts["unet"].config)))
    hifigan = {k: v for k, v in parts["vocoder"].state_dict().items() if k not in ("mean", "scale")}
    hifigan = {f"vocoder.{k.replace('upsampler.', 'ups.')}": v for k, v in hifigan.items()}
    main_weights = {f"{n}.{k}": v for n in ("unet", "text_encoder") for k, v in parts[n].state_dict().items()}
    torch.save({**parts["vae"].state_dict(), **hifigan}, folder / "pytorch_model_vae.bin")
    torch.save(main_weights, folder / "pytorch_model_main.bin")
    torch.save({}, folder / "pytorch_model_stft.bin")
    return folder


FAMILIES = {"audioldm": audioldm, "audioldm2": audioldm2, "musicldm": musicldm, "t5_audio": t5_audio, "tango": tango}
