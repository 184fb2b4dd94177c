"""Scores on a GPU: the same values as on the CPU."""

import pytest
import torch

from safa_pack.evaluation.scores import SCORES, Samples, backbones
from safa_pack.tests.evaluation import tiny_backbones as tiny

pytestmark = pytest.mark.gpu
PROMPTS = ("far bells", "far bells", "rain on a roof", "rain on a roof")


@pytest.mark.parametrize("name", ["fd", "fad", "kl", "clap", "intra_clap", "kl@ast", "clip", "intra_style"])
def test_a_gpu_gives_the_scores_of_the_cpu(tmp_path, name, monkeypatch):
    for build in (tiny.clap, tiny.clip, tiny.ast):
        build(tmp_path)
    files = {"panns": tiny.panns(), "vggish": tiny.vggish()}
    files["vgg19"] = tiny.vgg({0: (3, 4), 2: (4, 5), 5: (5, 6), 7: (6, 6), 10: (6, 7)})
    for folder, weights in files.items():
        (tmp_path / "evaluation" / folder).mkdir()
        torch.save(weights, tmp_path / "evaluation" / folder / f"{folder}.pth")
    generator = torch.Generator().manual_seed(0)

    def drawn():
        if SCORES[name].kind == "audio":
            return Samples(0.1 * torch.randn(4, 19200, generator=generator), (0, 0, 1, 1), PROMPTS, 16000)
        return Samples(torch.rand(4, 3, 40, 40, generator=generator), (0, 0, 1, 1), PROMPTS)

    sides = [drawn().windows, drawn().windows]

    def value():
        rate = 16000 if SCORES[name].kind == "audio" else None
        return SCORES[name].compute(*(Samples(side, (0, 0, 1, 1), PROMPTS, rate) for side in sides), tmp_path)

    there = value()
    backbones._opened.cache_clear()
    monkeypatch.setattr(backbones.torch.cuda, "is_available", lambda: False)
    assert there == pytest.approx(value(), rel=1e-2, abs=1e-4)
    backbones._opened.cache_clear()
