"""Subgraphs in the place of their nodes, as the page sends them."""

import pytest

from safa_pack.demo.convert import ui_to_api

pytestmark = pytest.mark.tools

INFO = {
    "Source": {"input": {"required": {"value": ["INT", {"default": 0}]}}},
    "Change": {"input": {"required": {"thing": ["THING"], "amount": ["INT", {"default": 0}]}}},
    "Show": {"input": {"required": {"thing": ["THING"]}}},
}


def socket(name, link, kind="THING"):
    return {"name": name, "type": kind, "link": link}


def link(number, origin, slot, target, place):
    return {"id": number, "origin_id": origin, "origin_slot": slot, "target_id": target, "target_slot": place}


def change(number, thing, amount=None, stored=1):
    inputs = [socket("thing", thing), socket("amount", amount, "INT")]
    return {"id": number, "type": "Change", "inputs": inputs, "widgets_values": [stored]}


def definitions():
    """`outer` holds a Change and `inner`, `inner` a Change; both show the inner one's amount."""
    inner = {
        "id": "inner",
        "inputs": [{"name": "thing"}, {"name": "amount"}],
        "outputs": [{"name": "thing", "linkIds": [3]}],
        "nodes": [change(1, 1, amount=2, stored=30)],
        "links": [link(1, -10, 0, 1, 0), link(2, -10, 1, 1, 1), link(3, 1, 0, -20, 0)],
    }
    outer = {
        "id": "outer",
        "inputs": [{"name": "thing"}, {"name": "amount"}],
        "outputs": [{"name": "thing", "linkIds": [4]}],
        "nodes": [
            change(1, 1, stored=20),
            {"id": 2, "type": "inner", "inputs": [socket("thing", 2), socket("amount", 3, "INT")]},
        ],
        "links": [
            link(1, -10, 0, 1, 0),
            link(2, 1, 0, 2, 0),
            link(3, -10, 1, 2, 1),
            link(4, 2, 0, -20, 0),
        ],
    }
    return {"subgraphs": [outer, inner]}


def workflow(mode=0, amount=None, **stored):
    """Source -> outer -> Show; `mode` of the subgraph's node, `amount` the link into it."""
    node = {"id": 8, "type": "outer", "mode": mode, "inputs": [socket("thing", 1), socket("amount", amount, "INT")]}
    node |= {"outputs": [{"type": "THING"}], "properties": {}} | stored
    return {
        "nodes": [
            {"id": 7, "type": "Source", "inputs": [], "outputs": [{"type": "THING"}], "widgets_values": [5]},
            node,
            {"id": 9, "type": "Show", "inputs": [socket("thing", 2)]},
        ],
        "links": [[1, 7, 0, 8, 0, "THING"], [2, 8, 0, 9, 0, "THING"], [3, 7, 0, 8, 1, "INT"]],
        "definitions": definitions(),
    }


def test_the_nodes_of_nested_subgraphs_are_sent_with_their_links():
    prompt = ui_to_api(workflow(), INFO)
    assert prompt["8:1"]["inputs"] == {"thing": ["7", 0], "amount": 20}
    assert prompt["8:2:1"]["inputs"] == {"thing": ["8:1", 0], "amount": 30}
    assert prompt["9"]["inputs"] == {"thing": ["8:2:1", 0]}
    assert set(prompt) == {"7", "8:1", "8:2:1", "9"}


def test_a_link_into_a_subgraph_reaches_the_widget_two_levels_below():
    assert ui_to_api(workflow(amount=3), INFO)["8:2:1"]["inputs"]["amount"] == ["7", 0]


def test_a_value_typed_on_the_subgraphs_node_is_sent():
    shown = {"properties": {"proxyWidgets": [["-1", "amount"]]}, "widgets_values": [77]}
    assert ui_to_api(workflow(**shown), INFO)["8:2:1"]["inputs"]["amount"] == 77


def test_a_bypassed_subgraph_lets_links_pass_and_a_muted_one_does_not():
    bypassed = ui_to_api(workflow(mode=4), INFO)
    assert bypassed["9"]["inputs"] == {"thing": ["7", 0]} and set(bypassed) == {"7", "9"}
    assert "thing" not in ui_to_api(workflow(mode=2), INFO)["9"]["inputs"]
