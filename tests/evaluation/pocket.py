"""A random model in the pocket model's layout, of a few thousand weights: windows of 0.64 s."""

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

WIDTH, VIEW = 8, 16


def write(folder):
    """The folder, as diffusers and transformers write it."""
    torch.manual_seed(0)
    parts = {"unet": unet(), "vae": vae(), "text_encoder": t5(), "tokenizer": tokenizer(), "scheduler": scheduler()}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    return folder


def unet():
    return UNet2DConditionModel(
        sample_size=(VIEW, 16),
        in_channels=8,
        out_channels=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
    )


def vae():
    return AutoencoderKL(
        in_channels=1,
        out_channels=1,
        latent_channels=8,
        block_out_channels=(4, 4, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=4,
        scaling_factor=0.8,
    )


def t5():
    return T5EncoderModel(T5Config(vocab_size=8, d_model=WIDTH, d_kv=4, d_ff=16, num_layers=1, num_heads=2))


def tokenizer():
    words = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, "rain": 3, "a": 4}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def scheduler():
    return DDIMScheduler(
        beta_start=0.0015,
        beta_end=0.0195,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
    )
