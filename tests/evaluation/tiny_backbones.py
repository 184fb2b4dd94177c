"""Random backbones of a few thousand weights, written where the scores look for them."""

from math import prod

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    PreTrainedTokenizerFast,
)

from safa_pack.safa_core.sound.mel import mel_filterbank

WORDS = "<s> <pad> </s> <unk> rain on a roof far bells skyline at night".split()
TEXT = {
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def randomised(network, seed=0):
    """The network with new weights, vectors that are neither 0 nor 1, and positive running variances."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.state_dict().items():
            if weight.is_floating_point():
                spread = 0.2 if weight.ndim < 2 else 1.5 * weight[0].numel() ** -0.5
                drawn = spread * torch.randn(weight.shape, generator=generator)
                weight.copy_(1 + drawn.abs() if name.endswith("running_var") else drawn + 0.5 * (weight.ndim < 2))
    return network.eval()


def tokenizer():
    """Words, each a token; <s> and </s> around them as RoBERTa and CLIP have them."""
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("<s>", 0), ("</s>", 2)]
    words.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    marks = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=20, **marks)


def clap(folder, fused=False):
    """models/evaluation/clap."""
    audio = {
        "patch_embeds_hidden_size": 8,
        "depths": [1, 1],
        "num_attention_heads": [1, 1],
        "hidden_size": 16,
        "num_mel_bins": 64,
        "spec_size": 256,
        "patch_size": 16,
        "patch_stride": [16, 16],
        "window_size": 4,
        "enable_fusion": fused,
    }
    text = {**TEXT, "max_position_embeddings": 22, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    model = randomised(ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=12)))
    extractor = ClapFeatureExtractor(truncation="fusion" if fused else "rand_trunc")
    return _saved(folder / "evaluation" / "clap", model, extractor, tokenizer())


def clip(folder):
    """models/evaluation/clip."""
    text = {**TEXT, "max_position_embeddings": 20, "eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1}
    vision = {**TEXT, "image_size": 32, "patch_size": 8}
    vision.pop("vocab_size")
    model = randomised(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)))
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return _saved(folder / "evaluation" / "clip", model, processor, tokenizer())


def ast(folder):
    """models/evaluation/ast."""
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = ASTForAudioClassification(ASTConfig(max_length=128, num_mel_bins=32, num_labels=7, **size))
    return _saved(
        folder / "evaluation" / "ast", randomised(model), ASTFeatureExtractor(num_mel_bins=32, max_length=128)
    )


def _saved(folder, *parts):
    for part in parts:
        part.save_pretrained(folder)
    return folder


def panns(fft=512, widths=(2, 3, 4, 5, 6, 8), wide=10, classes=7, seed=0):
    """The state of a CNN14 with the published names."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape, positive=False):
        values = torch.randn(shape, generator=generator) * (1.5 * prod(shape[1:]) ** -0.5 if shape[1:] else 0.3)
        return values.abs() + 1 if positive else values

    def drawn_norm(name, width):
        parts = {"weight": drawn(width) + 1, "bias": drawn(width), "running_mean": drawn(width)}
        parts["running_var"] = drawn(width, positive=True)
        return {f"{name}.{key}": value for key, value in parts.items()} | {
            f"{name}.num_batches_tracked": torch.tensor(3)
        }

    weights = {"spectrogram_extractor.stft.conv_real.weight": drawn(fft // 2 + 1, 1, fft)}
    rate, high = {512: (16000, 8000), 1024: (32000, 14000)}.get(fft, (8000, 4000))
    weights["logmel_extractor.melW"] = mel_filterbank(rate, fft, 64, 50, high).T.contiguous()
    weights |= drawn_norm("bn0", 64)
    weights["bn0.running_mean"] -= 20  # dB
    weights["bn0.running_var"] *= 200
    for i, (before, after) in enumerate(zip((1, *widths), widths, strict=False), 1):
        for j, source in ((1, before), (2, after)):
            weights[f"conv_block{i}.conv{j}.weight"] = drawn(after, source, 3, 3)
            weights |= drawn_norm(f"conv_block{i}.bn{j}", after)
    for name, (after, before) in {"fc1": (wide, widths[-1]), "fc_audioset": (classes, wide)}.items():
        weights |= {f"{name}.weight": drawn(after, before), f"{name}.bias": drawn(after)}
    weights["fc_audioset.weight"] *= 0.3
    return weights


def vggish(widths=(2, 3, 4, 4, 5, 5), wide=16, out=6, seed=0):
    """The state of a VGGish with torchvggish's names."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {}
    for number, before, after in zip((0, 3, 6, 8, 11, 13), (1, *widths), widths, strict=False):
        shapes |= {f"features.{number}.weight": (after, before, 3, 3), f"features.{number}.bias": (after,)}
    for number, before, after in ((0, widths[-1] * 4 * 6, wide), (2, wide, wide), (4, wide, out)):
        shapes |= {f"embeddings.{number}.weight": (after, before), f"embeddings.{number}.bias": (after,)}
    return {
        name: torch.randn(shape, generator=generator) * (1.5 * prod(shape[1:]) ** -0.5)
        for name, shape in shapes.items()
    }


def vgg(layers, seed=0):
    """Convolutions of a VGG in torchvision's names; layers: number -> (channels before, after)."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for number, (before, after) in layers.items():
        weights[f"features.{number}.weight"] = (
            torch.randn(after, before, 3, 3, generator=generator) * (before * 9) ** -0.5
        )
        weights[f"features.{number}.bias"] = 0.1 * torch.randn(after, generator=generator)
    return weights
