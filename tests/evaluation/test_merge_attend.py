"""Merge-Attend-Diffuse on the pocket model against the method written out: columns in loops, attention by hand."""

import pytest
import torch

from safa_pack.evaluation.making.merge_attend import merged
from safa_pack.evaluation.making.merging import Merging
from safa_pack.evaluation.making.methods import method
from safa_pack.evaluation.making.pocket import PocketModel
from safa_pack.evaluation.making.sampling import Sampling, Task
from safa_pack.evaluation.protocol import load
from safa_pack.safa_core import plan_views
from safa_pack.tests.evaluation import pocket

pytestmark = pytest.mark.tools

PLAN = plan_views(36, pocket.VIEW, 0.25, loop=True)  # three views of 16 columns, 12 apart
PROMPTS = ["rain", "a rain a rain a"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return PocketModel(pocket.write(tmp_path_factory.mktemp("pocket")), torch.device("cpu"), batch=3)


def task(**changes):
    given = {"steps": 4, "rate": 0.5, "guidance": 2.5}
    return Task(Sampling(**given | changes), PLAN, PROMPTS, [(0, 0, 1), (1, 0, 1)])


def attention(layer, q, k, v):
    """softmax(q k^T / sqrt(d)) v, head by head: [n, C] each."""
    parts = zip(*(t.chunk(layer.heads, dim=1) for t in (q, k, v)), strict=True)
    return torch.cat([(a @ b.T / a.shape[1] ** 0.5).softmax(1) @ c for a, b, c in parts], dim=1)


def merged_by_hand(projected, factor, bins):
    """Mean over the views of each canvas token: [views][n, C] -> {(time, bin): [C]}, and each view's places."""
    places = [
        [((start // factor + t) % (PLAN.length // factor), f) for t in range(PLAN.view // factor) for f in range(bins)]
        for start in PLAN.starts
    ]
    seen: dict = {}
    for own, tokens in zip(places, projected, strict=True):
        for place, token in zip(own, tokens, strict=True):
            seen.setdefault(place, []).append(token)
    return {place: torch.stack(tokens).mean(0) for place, tokens in seen.items()}, places


@torch.inference_mode()
@pytest.mark.parametrize("cross", [False, True])
def test_attention_merges_q_k_and_v_of_the_views_as_the_rival_is_described(model, cross):
    unet = model.network
    name = "attn2" if cross else "attn1"
    layer = unet.get_submodule(f"down_blocks.1.attentions.0.transformer_blocks.0.{name}")
    factor, bins = 2, 8
    generator = torch.Generator().manual_seed(3)
    states = torch.randn(2, len(PLAN), 2, PLAN.view // factor * bins, 16, generator=generator)
    text = torch.randn(2, len(PLAN), 2, 5, pocket.WIDTH, generator=generator) if cross else None
    with merged(model, PLAN, 2):
        given = text.flatten(0, 2) if cross else None
        found = layer(states.flatten(0, 2), encoder_hidden_states=given).unflatten(0, states.shape[:3])
    for g in range(2):
        for canvas in range(2):
            views = [states[g, v, canvas] for v in range(len(PLAN))]
            queries, places = merged_by_hand([layer.to_q(view) for view in views], factor, bins)
            order = sorted(queries)
            keys, values = (
                torch.stack([merged_by_hand([to(view) for view in views], factor, bins)[0][place] for place in order])
                if not cross
                else None
                for to in ((layer.to_k, layer.to_v) if not cross else (None, None))
            )
            for v in range(len(PLAN)):
                own = torch.stack([queries[place] for place in places[v]])
                if cross:
                    keys, values = layer.to_k(text[g, v, canvas]), layer.to_v(text[g, v, canvas])
                expected = layer.to_out[0](attention(layer, own, keys, values))
                assert torch.allclose(found[g, v, canvas], expected, atol=1e-5)


@torch.inference_mode()
def test_the_model_is_as_before_when_a_run_ends_or_fails(model):
    own, batch = model.network.attn_processors, model.batch
    method("merge_attend")(model, task(steps=1))
    with pytest.raises(ZeroDivisionError), merged(model, PLAN, 2):
        raise ZeroDivisionError
    assert model.network.attn_processors == own and model.batch == batch


@torch.inference_mode()
def test_canvases_do_not_see_each_other_and_merging_ends_when_its_share_of_the_steps_is_over(model, monkeypatch):
    both = method("merge_attend")(model, task())
    one = task()
    one.prompts, one.numbers = PROMPTS[:1], one.numbers[:1]
    assert torch.allclose(method("merge_attend")(model, one)[0], both[0], atol=1e-4)
    early, run = [], Merging.run

    def noted(self, layers_own, attn, states, encoder_hidden_states=None, *args, **kwargs):
        early.append(self.early)
        return run(self, layers_own, attn, states, encoder_hidden_states, *args, **kwargs)

    monkeypatch.setattr(Merging, "run", noted)
    method("merge_attend")(model, task())
    assert early == [True] * (len(early) // 2) + [False] * (len(early) // 2)
    assert not torch.allclose(method("average")(model, task())[0], both[0], atol=1e-3)


def test_its_views_begin_between_the_tokens_of_the_coarsest_attention():
    part = load("pocket").part("pocket")
    (row,) = (row for row in part.rows if row.method == "merge_attend")
    plan = part.plan(row, lambda length, view: round(length / view * 128))
    assert plan.starts == (0, 100, 200) and plan.length == 300  # in multiples of 4
