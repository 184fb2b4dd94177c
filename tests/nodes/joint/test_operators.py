import logging

import pytest
import torch

import comfy.hooks

from safa_pack.nodes.joint.operators import SaFaOverlapAverage, SaFaReferenceSwap, SaFaSelfLoopSwap
from safa_pack.nodes.joint.sampler import SaFaModelPatch
from safa_pack.safa_core import AverageJoin, ReferenceGuide, SwapJoin, TriangularJoin
from safa_pack.tests import tiny_models
from safa_pack.tests.nodes.host_calls import canvas_of

pytestmark = pytest.mark.host

WIDE = (1, 4, 12, 44)


@pytest.mark.parametrize(
    ("inputs", "join"),
    [
        ((1, "frames", 0), SwapJoin()),
        ((3, "rows", 0), SwapJoin(3, 0, "rows")),
        ((2, "frames", 2), SwapJoin(2, 2, "frames")),
        ((1, "auto", 0), SwapJoin()),
    ],
)
def test_self_loop_swap(inputs, join):
    assert SaFaSelfLoopSwap.execute(*inputs).result[0] == join


def test_overlap_average():
    assert SaFaOverlapAverage.execute("flat").result[0] == AverageJoin()
    assert SaFaOverlapAverage.execute("triangular").result[0] == TriangularJoin()


@pytest.mark.parametrize(
    ("axis", "unit", "meant"),
    [
        ("auto", "pixels", "rows"),
        ("auto", "seconds", "frames"),
        ("frames", "pixels", "frames"),
        ("rows", "seconds", "rows"),
    ],
)
def test_reference_swap_knows_the_axis_from_the_canvas(axis, unit, meant):
    guide = SaFaReferenceSwap.execute(0.3, 2, axis).result[0]
    assert guide.resolve(canvas_of(WIDE, 16, unit=unit)) == ReferenceGuide(0.3, 2, meant)


def test_reference_swap_warns_above_the_papers_rate_and_does_not_refuse(caplog):
    with caplog.at_level(logging.WARNING):
        SaFaReferenceSwap.execute(0.6, 1, "auto")
        assert not caplog.records
        assert SaFaReferenceSwap.execute(0.7, 1, "auto").result[0].rate == 0.7
    assert "Reference Swap: a rate of 0.7 is above 0.6" in caplog.text


def patch(join=None, guide=None, view=16, overlap=0.25, shape=WIDE, **options):
    return SaFaModelPatch.execute(tiny_models.toy(), canvas_of(shape, view, overlap, **options), join, guide)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: SaFaSelfLoopSwap.execute(0, "frames", 0), "Self-Loop Swap: .*`interval`.*0"),
        (lambda: SaFaSelfLoopSwap.execute(1, "columns", 0), "Self-Loop Swap: .*`axis`.*columns"),
        (lambda: SaFaSelfLoopSwap.execute(1, "frames", -1), "Self-Loop Swap: .*`shift`.*-1"),
        (lambda: SaFaReferenceSwap.execute(1.1, 1, "auto"), "Reference Swap: .*`rate` in .0, 1., got 1.1"),
        (lambda: SaFaReferenceSwap.execute(-0.1, 1, "auto"), "Reference Swap: .*`rate`.*-0.1"),
        (lambda: SaFaReferenceSwap.execute(float("nan"), 1, "auto"), "Reference Swap: .*`rate`.*nan"),
        (lambda: SaFaReferenceSwap.execute(0.3, 1, "columns"), "Reference Swap: .*`axis`.*columns"),
        (lambda: SaFaReferenceSwap.execute(0.3, 0, "auto"), "Reference Swap: .*`interval`.*0"),
        (lambda: patch(SwapJoin(8)), "SaFa Model Patch: .*`interval`.*8"),
        (lambda: patch(SwapJoin(12, 0, "rows")), "SaFa Model Patch: .*`interval`.*12"),
        (lambda: patch(SwapJoin(1, 7)), "SaFa Model Patch: .*`shift`.*7"),
        (
            lambda: patch(SwapJoin(1, 0, "rows"), shape=(1, 64, 44)),
            "SaFa Model Patch: .*rows",
        ),
        (
            lambda: patch(guide=SaFaReferenceSwap.execute(0.3, 1, "rows").result[0], shape=(1, 64, 44)),
            "SaFa Model Patch: .*rows",
        ),
        (
            lambda: patch(guide=SaFaReferenceSwap.execute(0.3, 1, "auto").result[0], overlap=0.6, loop=True),
            "SaFa Model Patch: .*only one view covers, got none.*below one half",
        ),
        (
            lambda: patch(guide=SaFaReferenceSwap.execute(0.3, 50, "frames").result[0]),
            "SaFa Model Patch: .*`interval`.*50",
        ),
    ],
)
def test_bad_input_is_refused_with_the_nodes_name(build, words):
    with pytest.raises(ValueError, match=words) as refusal:
        build()
    assert "\n" not in str(refusal.value)


def test_hooks_on_the_references_prompt_are_refused():
    (entry,) = tiny_models.conditioning("toy", 1)
    hooked = [[entry[0], {"hooks": comfy.hooks.HookGroup()}]]
    with pytest.raises(ValueError, match="Reference Swap: the conditioning carries hooks"):
        SaFaReferenceSwap.execute(0.3, 1, "auto", hooked)


def test_the_defaults_work_together():
    values = {
        node: {i.id: i.default for i in node.define_schema().inputs if getattr(i, "default", None) is not None}
        for node in (SaFaSelfLoopSwap, SaFaOverlapAverage, SaFaReferenceSwap)
    }
    joins = [node.execute(**values[node]).result[0] for node in (SaFaSelfLoopSwap, SaFaOverlapAverage)]
    guide = SaFaReferenceSwap.execute(**values[SaFaReferenceSwap]).result[0]
    for join in joins:
        assert patch(join, guide).result[0] is not None
    canvas = canvas_of(WIDE, 16)
    for join in joins:
        assert torch.all(join.weights(canvas.plan, canvas.rows) >= 0)
