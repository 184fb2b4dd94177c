"""The options end up in the prompt, and in the workflow that the files carry."""

import json
from pathlib import Path

import pytest

from safa_pack.demo.convert import set_widget, ui_to_api
from safa_pack.demo.options import WORKFLOW, Options
from safa_pack.demo.variants import customised

pytestmark = pytest.mark.server
SHIPPED = json.loads(WORKFLOW.read_text(encoding="utf-8"))


def prompts(server, method="safa", **asked):
    """({class: inputs} as shipped, the same customised, the customised workflow)."""
    info = server.object_info()
    given = {"prompt": None, "seconds": 24.0, "loop": True, "method": method, "seed": None, "steps": None, **asked}
    workflow = customised(SHIPPED, info, Options(out=Path("out"), compare=False, **given), method)
    both = [ui_to_api(each, info) for each in (SHIPPED, workflow)]
    titles = {str(node["id"]): node.get("title") for node in SHIPPED["nodes"]}
    named = [{titles[i] or node["class_type"]: node["inputs"] for i, node in each.items()} for each in both]
    return *named, workflow


def changed(before, after):
    return {(n, k): v for n in after for k, v in after[n].items() if before[n].get(k) != v}


def test_without_options_it_is_the_workflow_that_a_person_drags_into_the_page(server):
    before, after, _ = prompts(server)
    assert after == before


def test_every_option_changes_its_own_inputs_and_nothing_else(server):
    before, after, _ = prompts(server, prompt="waves", seconds=60.0, loop=False, seed=3, steps=11)
    assert changed(before, after) == {
        ("Prompt", "text"): "waves",
        ("SaFaSubviewPlanner", "length"): 60.0,
        ("SaFaSubviewPlanner", "loop"): False,
        ("SaFaSaveLoop", "loop"): False,
        ("SaFaSampler", "seed"): 3,
        ("SaFaSampler", "steps"): 11,
    }


@pytest.mark.parametrize(("method", "window"), [("average", "flat"), ("triangular", "triangular")])
def test_the_averages_have_their_join_and_no_reference(server, method, window):
    before, after, workflow = prompts(server, method)
    assert set(before) - set(after) == {"SaFaSelfLoopSwap", "SaFaReferenceSwap"}
    assert after["SaFaOverlapAverage"] == {"window": window}
    assert "guide" not in after["SaFaSampler"]
    (join,) = (node for node in workflow["nodes"] if node["type"] == "SaFaOverlapAverage")
    assert after["SaFaSampler"]["join"] == [str(join["id"]), 0]
    rest = {name: value for name, value in before["SaFaSampler"].items() if name != "guide"}
    assert after["SaFaSampler"] == rest


def test_the_shipped_workflow_is_not_changed_by_it(server):
    before = json.dumps(SHIPPED)
    prompts(server, "average", prompt="waves", loop=False)
    assert json.dumps(SHIPPED) == before


def test_a_widget_that_a_node_does_not_store_is_named(server):
    (node,) = (node for node in SHIPPED["nodes"] if node["type"] == "SaFaSampler")
    with pytest.raises(ValueError, match="store its widget 'volume', got seed, steps, cfg"):
        set_widget(node, server.object_info("SaFaSampler"), "volume", 1)
