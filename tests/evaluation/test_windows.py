"""Which columns are looked at, against a canvas that is numbered by hand."""

import pytest
import torch

from safa_pack.evaluation import windows
from safa_pack.safa_core import plan_views
from safa_pack.safa_core.measures import spectrum

pytestmark = pytest.mark.tools

LOOP = plan_views(306, 128, 0.2, loop=True)  # views at 0, 102, 204; 26 columns shared
OPEN = plan_views(230, 128, 0.2)


def test_regions_of_a_loop():
    assert spectrum.overlap_regions(LOOP) == [(102, 26), (204, 26), (0, 26)]
    assert spectrum.middle_regions(LOOP) == [(26, 76), (128, 76), (230, 76)]


def test_regions_of_an_open_canvas():
    assert spectrum.overlap_regions(OPEN) == [(102, 26)]
    assert spectrum.middle_regions(OPEN) == [(0, 102), (128, 102)]


def test_high_overlaps_have_no_middles():
    assert spectrum.middle_regions(plan_views(306, 128, 0.8, loop=True)) == []


@pytest.mark.parametrize("overlap", [0.2, 0.35, 0.5, 0.8])
def test_seam_windows_have_the_overlap_in_their_middle(overlap):
    plan = plan_views(306, 128, overlap, loop=True)
    for (start, width), first in zip(spectrum.overlap_regions(plan), windows.seam_windows(plan), strict=True):
        before = (start - first) % plan.length
        after = (first + plan.view - start - width) % plan.length
        assert before - after in (-1, 0, 1)


def test_windows_apart_share_no_column_and_keep_their_number():
    for length in (256, 306, 600, 1800):
        plan = plan_views(length, 128, 0.2, loop=True)
        starts = windows.apart_windows(plan)
        assert len(starts) == length // 128
        columns = [(start + c) % length for start in starts for c in range(128)]
        assert len(set(columns)) == len(columns)


def test_pieces_go_round_the_ring():
    canvas = torch.arange(10.0).expand(2, 3, 4, 10)
    found = spectrum.cut(canvas, [8, 1], 4)
    assert found.shape == (2, 2, 3, 4, 4)
    assert found[1, :, 0, 0].tolist() == [[8, 9, 0, 1], [1, 2, 3, 4]]


def test_evenly_keeps_ends_apart_and_never_repeats():
    assert windows.evenly(range(13), 3) == [0, 4, 8]
    assert windows.evenly([5, 6], 3) == [5, 6]
