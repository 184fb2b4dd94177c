"""Other attention in diffusers' UNets while a model samples, and no other time."""

import pytest
import torch

from safa_pack.nodes.audio.loader import load_audio_model
from safa_pack.nodes.rivals.attention_swap import attention_layers, claim_self_attention, swap_attention, token_grid
from safa_pack.tests import tiny_audio
from safa_pack.tests.nodes.harness import ALIVE, ksampler

pytestmark = pytest.mark.host
LAYER = "mid_block.attentions.0.transformer_blocks.0.attn1"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    model, clip, _ = load_audio_model(tiny_audio.audioldm(tmp_path_factory.mktemp("audio_models") / "audioldm"))
    ALIVE.append(model)
    return model, clip


def sample(model, clip, cfg=2.0):
    tokens = clip.encode_from_tokens_scheduled(clip.tokenize("rain"))
    return ksampler(model, {"samples": torch.zeros(1, 8, 16, 16)}, steps=2, cfg=cfg, positive=tokens, negative=tokens)


def with_processor(model, processor):
    patched = model.clone()
    swap_attention(patched, "test", lambda layers, x, options: {LAYER: processor})
    return patched


def nothing(attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **_):
    return torch.zeros_like(hidden_states)


def test_a_swapped_attention_changes_the_result_and_no_other_clone_of_the_model(loaded):
    model, clip = loaded
    plain, other = sample(model, clip), sample(with_processor(model, nothing), clip)
    assert (other - plain).abs().max() > 1e-3
    assert torch.equal(sample(model, clip), plain)


def test_the_models_own_attention_is_back_after_an_error(loaded):
    model, clip = loaded
    layer = attention_layers(model.model.diffusion_model)[LAYER]
    own = layer.processor

    def broken(attn, hidden_states, **_):
        assert layer.processor is broken
        raise InterruptedError

    with pytest.raises(InterruptedError):
        sample(with_processor(model, broken), clip)
    assert layer.processor is own


def test_a_model_takes_one_method_for_its_self_attention(loaded):
    model = loaded[0].clone()
    claim_self_attention(model, "LiteFocus")
    with pytest.raises(ValueError, match="^the model already has LiteFocus.*before LiteFocus"):
        claim_self_attention(model.clone(), "Merge-Attend-Diffuse")
    claim_self_attention(loaded[0].clone(), "Merge-Attend-Diffuse")


def test_tokens_tell_the_level_they_are_of():
    assert token_grid(256 * 16, (256, 16)) == (256, 16)
    assert token_grid(63 * 4, (250, 16)) == (63, 4)
    with pytest.raises(ValueError, match="250 x 16"):
        token_grid(64 * 4, (250, 16))
