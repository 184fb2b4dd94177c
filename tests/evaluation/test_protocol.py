"""The protocol files against the numbers of the paper, written down here once more."""

import pytest

from safa_pack.evaluation.options import PROTOCOLS, names
from safa_pack.evaluation.protocol import load, parse
from safa_pack.evaluation.scores import SCORES

pytestmark = pytest.mark.tools

WINDOW = 256  # latent columns of AudioLDM's 10.24 s
PAPER_PROMPTS = (
    "a photo of a city skyline at night",
    "a photo of a forest with a misty fog",
    "a photo of a mountain range at twilight",
    "a photo of a snowy mountain peak with skiers",
    "cartoon panorama of spring summer beautiful nature",
    "natural landscape in anime style illustration",
)


def seconds(length, view):
    return round(length / 10.24 * WINDOW)


def pixels(length, view):
    return int(length) // 8


def rows(part):
    return [(row.title, row.method, row.length, row.overlap) for row in part.rows]


def guided_steps(row, part):
    return round(row.rate * part.steps)


def test_table_2_is_the_papers():
    """Section 3.1: 24 s loops of three 10-second views, 200 steps, guidance 3.5, reference and merging for 60 steps."""
    part = load("table2").part("audio")
    assert (part.steps, part.guidance, part.eta, part.seeds) == (200, 3.5, 0.0, 500)
    assert rows(part) == [
        ("Reference", "single", 10.24, 0.2),
        ("MAD", "merge_attend", 24, 0.2),
        ("MD", "average", 24, 0.2),
        ("MD*", "triangular", 24, 0.2),
        ("SaFa", "safa", 24, 0.2),
        ("SaFa*", "swap", 24, 0.2),
    ]
    assert list(part.columns.values()) == ["FD↓", "FAD↓", "KL↓", "CLAP↑", "ILPIPS↓", "ICLAP↑"]
    for row in part.rows[1:]:
        views = part.plan(row, seconds)
        assert (len(views), views.view, views.length, views.loop) == (3, 256, 600, True)
    assert {row.title: guided_steps(row, part) for row in part.rows if row.method in ("merge_attend", "safa")} == {
        "MAD": 60,
        "SaFa": 60,
    }
    assert part.reference == "model" and part.subsets == ("prompt", "position")
    assert len(part.prompts) + part.left_out == 9


def test_table_3_is_the_papers():
    """Section 3.2: 512 x 3200 of 512 x 640, 50 steps, reference for 15, stride 128 but for SaFa, six prompts of 500."""
    part = load("table3").part("image")
    assert (part.steps, part.seeds, part.height, part.view, part.crop) == (50, 500, 512, 640, 512)
    assert rows(part) == [
        ("Reference", "single", 512, 0.2),
        ("MD", "average", 3200, 0.8),
        ("SyncD", "sync_diffusion", 3200, 0.8),
        ("MAD", "merge_attend", 3200, 0.8),
        ("SaFa", "safa", 3200, 0.2),
        ("SaFa*", "swap", 3200, 0.2),
    ]
    assert list(part.columns.values()) == ["FID↓", "KID↓", "CLIP↑", "IStyleL↓", "ILPIPS↓", "Rtime↓"]
    plans = {row.title: part.plan(row, pixels) for row in part.rows}
    assert {title: len(views) for title, views in plans.items()} == {
        "Reference": 1, "MD": 21, "SyncD": 21, "MAD": 21, "SaFa": 6, "SaFa*": 6,
    }  # fmt: skip
    for title in ("MD", "SyncD", "MAD"):
        assert plans[title].starts == tuple(range(0, 321, 16)) and not plans[title].loop
    assert guided_steps(part.rows[4], part) == 15
    assert guided_steps(part.rows[3], part) == 25 and guided_steps(part.rows[2], part) == 10  # their authors'
    assert tuple(prompt.lower() for prompt in part.prompts) == PAPER_PROMPTS
    assert part.regions == 5 and part.pairs == 1000


def test_table_5_is_the_papers():
    """Section 5.1: 32, 64 and 96 s from 4, 8 and 12 views of 10 s, settings of 3.1, windows 8 s apart, AudioCaps."""
    part = load("table5").part("audio")
    assert (part.steps, part.guidance, part.seeds, part.hop) == (200, 3.5, 1, 8)
    assert rows(part)[1:] == [(f"SaFa ({s}s)", "safa", s, 0.2) for s in (32, 64, 96)]
    assert [len(part.plan(row, seconds)) for row in part.rows[1:]] == [4, 8, 12]
    assert {guided_steps(row, part) for row in part.rows[1:]} == {60}
    assert list(part.columns.values()) == ["FD↓", "FAD↓", "KL↓", "mCLAP↑"]
    assert part.reference == "real" and part.left_out == 880


def test_table_6_is_the_papers():
    part = load("table6").part("image")
    assert rows(part)[1:] == [(f"SaFa ({w})", "safa", w, 0.2) for w in (1600, 3200, 4800)]
    assert list(part.columns.values()) == ["CLIP↑", "FID↓", "KID↓", "ILPIPS↓", "IStyleL↓"]
    assert (part.steps, part.seeds, part.height, part.view) == (50, 500, 512, 640)
    assert tuple(prompt.lower() for prompt in part.prompts) == PAPER_PROMPTS


@pytest.mark.parametrize(
    ("name", "kind", "length"), [("fig5", "image", 3200), ("fig8", "image", 3200), ("fig8", "audio", 24)]
)
def test_figures_5_and_8_sweep_the_guidance_rate_of_the_tables(name, kind, length):
    protocol, table = load(name), load({"image": "table3", "audio": "table2"}[kind]).part(kind)
    part = protocol.part(kind)
    assert list(protocol.axes) == ["rate"]
    assert [row.rate for row in part.rows] == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert {(row.method, row.length, row.overlap) for row in part.rows} == {("safa", length, 0.2)}
    same = ("steps", "guidance", "view", "height", "loop", "prompts", "crop", "hop", "regions")
    assert all(getattr(part, field) == getattr(table, field) for field in same)


def test_figure_9_sweeps_the_interval_of_the_self_loop_swap():
    protocol = load("fig9")
    part = protocol.part("audio")
    assert list(protocol.axes) == ["interval"]
    assert [row.interval for row in part.rows] == [1, 2, 4, 8, 16]
    assert {(row.method, row.length) for row in part.rows} == {("swap", 24)}
    assert (part.steps, part.guidance) == (200, 3.5)
    assert "image" not in protocol.parts


def test_every_protocol_loads_and_its_scores_exist():
    pocket = [f"pocket{name}" for name in ("", "_lengths", "_noise", "_overlap", "_shared_noise", "_sweeps")]
    ears = ["ears", "ears_lengths", "ears_noise"]
    seams = ["seams_loop", "seams_open"]
    assert names() == ["table2", "table3", "table5", "table6", *ears, "fig5", "fig8", "fig9", *pocket, *seams]
    assert {path.stem for path in PROTOCOLS.glob("*.json")} == set(names())
    for name in names():
        for kind, part in load(name).parts.items():
            assert set(part.scores) <= set(SCORES)
            assert all(SCORES[score].fits(kind) for score in part.scores)


def test_what_a_protocol_cannot_mean_is_refused():
    with pytest.raises(ValueError, match="Expected a protocol of table2, .*got 'table9'"):
        load("table9")
    with pytest.raises(ValueError, match="Expected an audio model for protocol table2, got an image model"):
        load("table2").part("image")
    content = {"title": "", "source": "", "audio": {"rows": [{"title": "a", "method": "safa", "length": 1, "w": 2}]}}
    with pytest.raises(ValueError, match="got w"):
        parse("test", content)
    with pytest.raises(ValueError, match="lengths are the model's"):
        load("table2").part("audio").shrunk(2)
    with pytest.raises(ValueError, match="got colour"):
        parse("test", {"title": "", "source": "", "colour": 1})
