"""Networks of transformers: CLAP and CLIP, which hear or see and read, and AST, which knows AudioSet's classes."""

from __future__ import annotations

from pathlib import Path

import torch

from ...safa_core.loading import LOCAL
from .backbones import TOKENIZER, TRANSFORMERS, Backbone, ready
from .pictures import as_bytes
from .sound import at_rate


def _loaded(path: Path, model: str, processor: str):
    """(model, its processor); ValueError where the folder holds another model or lacks some of its weights."""
    import transformers

    transformers.logging.disable_progress_bar()
    kind = getattr(transformers, model)
    config = transformers.AutoConfig.from_pretrained(path, **LOCAL)
    if not isinstance(config, kind.config_class):
        raise ValueError(f"expected a {model}, got the configuration of a {config.model_type} model")
    network, info = kind.from_pretrained(path, config=config, output_loading_info=True, **LOCAL)
    lacking = sorted(info["missing_keys"])
    if lacking:  # transformers would have filled them with random numbers
        raise ValueError(f"{len(lacking)} weights of {model} are missing, such as {lacking[0]}")
    return ready(network), getattr(transformers, processor).from_pretrained(path, **LOCAL)


def _projected(output) -> torch.Tensor:
    """What get_..._features gives: a tensor up to transformers 4, an output whose pooler is that tensor since 5."""
    return output if isinstance(output, torch.Tensor) else output.pooler_output


class _Reader:
    """The text half of CLAP and CLIP."""

    def __init__(self, path: Path):
        from transformers import AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(path, **LOCAL)

    @torch.inference_mode()
    def texts(self, prompts: list[str]) -> torch.Tensor:
        """Prompts -> [N, D]; what exceeds the model's tokens is cut."""
        most = self.network.config.text_config.max_position_embeddings
        most = min(most - self.spare, self.tokenizer.model_max_length)
        tokens = self.tokenizer(list(prompts), padding=True, truncation=True, max_length=most, return_tensors="pt")
        tokens = {name: tokens[name].to(self.network.device) for name in ("input_ids", "attention_mask")}
        return _projected(self.network.get_text_features(**tokens)).cpu()


class Clap(_Reader):
    """LAION-CLAP (Wu et al., 2023)."""

    spare = 2  # RoBERTa's positions start behind the padding's

    def __init__(self, path: Path):
        super().__init__(path)
        self.network, self.features = _loaded(path, "ClapModel", "ClapFeatureExtractor")

    def windows(self, batch: torch.Tensor, rate: int) -> dict[str, torch.Tensor]:
        """Sound [N, samples] -> embedding [N, D]. Of a window longer than CLAP's 10 s the middle is heard."""
        wanted = self.features.sampling_rate
        sound = at_rate(batch, rate, wanted)
        more = max(0, sound.shape[1] - self.features.nb_max_samples)  # the extractor would cut at random
        sound = sound[:, more // 2 : sound.shape[1] - (more - more // 2)]
        heard = self.features(list(sound.cpu().numpy()), sampling_rate=wanted, return_tensors="pt")
        mel = heard["input_features"].float().to(batch.device)
        longer = torch.zeros(len(mel), 1, dtype=torch.bool, device=mel.device)  # the extractor picks one at random
        return {"embedding": _projected(self.network.get_audio_features(input_features=mel, is_longer=longer))}


class Clip(_Reader):
    """CLIP (Radford et al., 2021)."""

    spare = 0

    def __init__(self, path: Path):
        super().__init__(path)
        self.network, self.processor = _loaded(path, "CLIPModel", "CLIPImageProcessor")

    def windows(self, batch: torch.Tensor, rate: None) -> dict[str, torch.Tensor]:
        """Pictures [N, 3, H, W] in 0 ... 1 -> embedding [N, D]. Of one that is not square CLIP sees the middle."""
        seen = self.processor(images=list(as_bytes(batch).cpu()), return_tensors="pt")["pixel_values"]
        return {"embedding": _projected(self.network.get_image_features(pixel_values=seen.to(batch.device)))}


class Ast:
    """Audio Spectrogram Transformer (Gong et al., 2021) with AudioSet's 527 classes."""

    def __init__(self, path: Path):
        self.network, self.features = _loaded(path, "ASTForAudioClassification", "ASTFeatureExtractor")

    def windows(self, batch: torch.Tensor, rate: int) -> dict[str, torch.Tensor]:
        """Sound [N, samples] -> embedding [N, D], logits [N, classes]; what exceeds the model's 10.24 s is cut."""
        wanted = self.features.sampling_rate
        sound = list(at_rate(batch, rate, wanted).cpu().numpy())
        heard = self.features(sound, sampling_rate=wanted, return_tensors="pt")["input_values"]
        embedding = self.network.audio_spectrogram_transformer(heard.to(batch.device)).pooler_output
        return {"embedding": embedding, "logits": self.network.classifier(embedding)}


CLAP = Backbone(
    "clap",
    "evaluation/clap",
    "a ClapModel in transformers' files, such as laion/larger_clap_general (huggingface.co)",
    Clap,
    (*TRANSFORMERS, *TOKENIZER),
)
CLIP = Backbone(
    "clip",
    "evaluation/clip",
    "a CLIPModel in transformers' files, such as openai/clip-vit-base-patch16 (huggingface.co)",
    Clip,
    (*TRANSFORMERS, *TOKENIZER),
)
AST = Backbone(
    "ast",
    "evaluation/ast",
    "an ASTForAudioClassification in transformers' files, such as "
    "MIT/ast-finetuned-audioset-10-10-0.4593 (huggingface.co)",
    Ast,
    TRANSFORMERS,
)
