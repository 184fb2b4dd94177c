"""Protocols from the command line on random models: made, stopped, resumed, shared out, measured and reported."""

import json

import pytest
import torch

from safa_pack.evaluation import command, windows
from safa_pack.evaluation.command import main
from safa_pack.evaluation.making.open import open_model
from safa_pack.evaluation.making.pocket import caption
from safa_pack.evaluation.scores import SCORES, Measures, Score
from safa_pack.evaluation.scores import pocket as pocket_scores
from safa_pack.evaluation.scores.classifier import Recipe
from safa_pack.evaluation.scores.metrics import frechet_distance, intra_similarity
from safa_pack.evaluation.store import Run
from safa_pack.safa_core import plan_views
from safa_pack.tests.evaluation import pocket, tiny_pictures
from safa_pack.training.sounds import CLASSES

pytestmark = pytest.mark.tools

PROMPTS = ["a forest", "a cat on a hill"]
ROWS = ["Reference", "SaFa (1600)", "SaFa (3200)"]
COSTS = ("seconds", "runtime")  # differ from run to run


def lacks(folder):
    return None if (folder / "colours").exists() else f"no weights: put colours into {folder}."


def colours(samples, folder):
    """Mean colour of each window: features that need no network."""
    return Measures(samples.windows.mean((2, 3)), samples.prompts, samples.positions)


def likeness(samples, folder):
    rows = [[intra_similarity(samples.windows[own].mean((2, 3)))] for own in samples.canvases.values()]
    return Measures(torch.tensor(rows), (samples.prompts[0],) * len(rows), (0,) * len(rows))


OWN = (
    Score("colour", "Colour↓", "image", "lower", True, lacks, colours, lambda a, b: frechet_distance(a.rows, b.rows)),
    Score(
        "intra_colour",
        "IColour↑",
        "image",
        "higher",
        False,
        lacks,
        likeness,
        lambda a, b: float(a.rows.mean()),
        within=True,
    ),
)


@pytest.fixture(scope="module", autouse=True)
def own_scores():
    with pytest.MonkeyPatch.context() as patch:
        for score in OWN:
            patch.setitem(SCORES, score.name, score)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, prompts, and the one backbone."""
    folder = tmp_path_factory.mktemp("place")
    tiny_pictures.write_sd(folder / "sd")
    (folder / "prompts.txt").write_text("\n".join(PROMPTS), encoding="utf-8")
    (folder / "weights").mkdir()
    (folder / "weights" / "colours").write_text("")
    return folder


def options(place, data, *more, protocol="table6", model="sd", weights="weights"):
    return [
        *("--protocol", protocol, "--model", str(place / model), "--data", str(data), "--shrink", "8"),
        *("--prompts", str(place / "prompts.txt"), "--weights", str(place / weights), "--device", "cpu"),
        *("--steps", "1", "--seeds", "2", "--also", "colour", "intra_colour", "windows", *more),
    ]


def rows(*titles):
    return ["--rows", *(titles or ROWS)]


def results(data, protocol="table6"):
    """The lines of the results file without what the machine decides."""
    text = (data / "paper" / protocol / f"{protocol}.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        line.get("facts", {}).pop("command", None)
        for name in COSTS:
            line.pop(name, None)
            line.get("scores", {}).pop(name, None)
    return lines


@pytest.fixture(scope="module")
def finished(place, tmp_path_factory):
    data = tmp_path_factory.mktemp("finished")
    assert main(options(place, data, *rows())) == 0
    return data


def test_the_table_has_the_papers_rows_and_columns_and_says_what_is_missing(finished, place):
    text = (finished / "paper" / "table6" / "table6.md").read_text(encoding="utf-8")
    head, _, *body = [line for line in text.splitlines() if line.startswith("| ")]
    body, costs = body[: len(ROWS)], body[-len(ROWS) :]
    columns = ["CLIP↑", "FID↓", "KID↓", "ILPIPS↓", "IStyleL↓", "Colour↓", "IColour↑", "Windows↓"]
    assert [cell.strip() for cell in head.split("|")[1:-1]] == ["Method", *columns]
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in body]
    assert [row[0] for row in table] == ROWS
    for row in table:
        assert all(cell.startswith("no weights [") for cell in row[1:6])
    assert table[0][-1] == "–" and [row[-1] for row in table[1:]] == [
        "**8.00**",
        "14.00",
    ]  # (3 or 6 views + 1) x 2
    counts = [[cell.strip() for cell in line.split("|")[1:-2]] for line in costs]
    assert counts == [[ROWS[0], "1", "4", "2"], [ROWS[1], "3", "4", "8"], [ROWS[2], "6", "4", "14"]]
    assert f"no weights: put vgg19-dcbb9e9d.pth of torchvision (download.pytorch.org/models) into {place}" in text
    assert "2 of 2 seeds are finished in every row, with 2 prompts each." in text
    assert "steps: 1 in place of the protocol's 50." in text and "8 times smaller" in text
    picture = finished / "paper" / "table6" / "table6.png"
    assert picture.read_bytes()[1:4] == b"PNG" and not (finished / "paper" / "table6" / "sd" / "table6.md").exists()


def test_scores_are_means_over_prompts_and_positions_of_the_windows_that_the_paper_cuts(finished, place):
    """Everything once more from the saved latents."""
    model = open_model("image", place / "sd", 64, torch.device("cpu"), 32)
    folder = next((finished / "paper" / "table6" / "sd").glob("shard-0-of-1"))
    kept = {line["key"]: line for line in map(json.loads, (folder / "results.jsonl").read_text().splitlines())}
    run = Run(folder, json.loads((folder / "settings.json").read_text()))

    def pictures(length, prompt):
        own = [k for k, v in kept.items() if v.get("prompt") == prompt and "row" in v and f"-{length}" in v["row"]]
        own = sorted(own, key=lambda k: kept[k]["seed"])
        return torch.cat([model.decode(run.tensors(k)["canvas"], False) for k in own])

    values, alone = [], []
    for prompt in (0, 1):
        real = pictures("64", prompt).mean((2, 3))
        long = pictures("0.2-200", prompt)
        values += [frechet_distance(long[..., s : s + 64].mean((2, 3)), real) for s in (0, 64, 128)]
        alone.append(intra_similarity(real))
    line = next(line for line in results(finished) if line.get("row") == "SaFa (1600)")
    assert line["scores"]["colour"] == pytest.approx(sum(values) / 6, rel=1e-4)
    line = next(line for line in results(finished) if line.get("row") == "Reference")
    assert line["scores"]["intra_colour"] == pytest.approx(sum(alone) / 2, rel=1e-4)  # the one pair of each prompt
    assert line["scores"]["colour"] is None  # halves of two windows
    assert "at least 2 rows" in line["missing"]["colour"]


def test_a_second_run_makes_and_measures_nothing(finished, place, monkeypatch, capsys):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.safetensors")}
    monkeypatch.setattr(command, "make", None)
    assert main(options(place, finished, *rows())) == 0
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*.safetensors")} == before
    assert "measured" not in capsys.readouterr().out


def test_a_stopped_run_goes_on_and_ends_with_the_same_lines(finished, place, tmp_path, monkeypatch, capsys):
    """Stopped while it makes, then while it measures."""
    make, measure = command.make, command.measure
    made = []

    def stopped_make(*given):
        if len(made) > 3:
            raise KeyboardInterrupt
        made.append(given)
        return make(*given)

    def stopped_measure(*given):
        next(measure(*given))
        raise KeyboardInterrupt

    for name, stopped in (("make", stopped_make), ("measure", stopped_measure)):
        with monkeypatch.context() as patch:
            patch.setattr(command, name, stopped)
            assert main(options(place, tmp_path, *rows())) == 1
        assert "run it again to go on" in capsys.readouterr().err
    assert main(options(place, tmp_path, *rows())) == 0
    assert results(tmp_path) == results(finished)


def test_two_shards_together_are_one_run(finished, place, tmp_path, capsys):
    assert main(options(place, tmp_path, *rows(), "--shard", "0/2")) == 0
    assert "run the same with --report" in capsys.readouterr().out
    assert not list(tmp_path.rglob("*.md"))
    assert main(options(place, tmp_path, *rows(), "--report")) == 0
    assert "No seed is finished." in (tmp_path / "paper" / "table6" / "table6.md").read_text(encoding="utf-8")
    assert main(options(place, tmp_path, *rows(), "--shard", "1/2")) == 0
    assert main(options(place, tmp_path, *rows(), "--report")) == 0
    assert results(tmp_path) == results(finished)
    folder = tmp_path / "paper" / "table6" / "sd"
    made = [{path.name for path in (folder / f"shard-{i}-of-2").glob("*.safetensors")} for i in (0, 1)]
    assert all(made) and not made[0] & made[1]


def test_what_gets_its_weights_later_is_measured_then(finished, place, tmp_path, monkeypatch):
    assert main(options(place, tmp_path, *rows(), weights="none")) == 0
    line = next(line for line in results(tmp_path) if line.get("row") == "SaFa (1600)")
    assert line["scores"]["colour"] is None and line["missing"]["colour"].startswith("no weights: put colours")
    monkeypatch.setattr(command, "make", None)
    assert main(options(place, tmp_path, *rows(), "--report")) == 0
    line = next(line for line in results(tmp_path) if line.get("row") == "SaFa (1600)")
    assert "without --report" in line["missing"]["colour"]
    assert main(options(place, tmp_path, *rows())) == 0
    assert results(tmp_path) == results(finished)


def test_other_steps_do_not_mix_with_what_is_there(finished, place, capsys):
    assert main([*options(place, finished, *rows()), "--steps", "3"]) == 1
    assert "steps differ" in capsys.readouterr().err


def test_models_stand_side_by_side_and_a_transformer_runs_every_row(place, tmp_path):
    """Table 3 with both of its architectures."""
    tiny_pictures.write_sd3(place / "sd3")
    titles = ["Reference", "MD", "SyncD", "MAD", "SaFa", "SaFa*"]
    few = ("--seeds", "1")
    (place / "one.txt").write_text(PROMPTS[0], encoding="utf-8")
    for model in ("sd", "sd3"):
        given = options(place, tmp_path, *few, "--prompts", str(place / "one.txt"), protocol="table3", model=model)
        assert main(given) == 0
    text = (tmp_path / "paper" / "table3" / "table3.md").read_text(encoding="utf-8")
    assert "sd: FID↓" in text and "sd3: FID↓" in text
    lines = [line for line in results(tmp_path, "table3") if "row" in line]
    shown = [title if title != "SyncD" else "SyncD (VAE features)" for title in titles]
    assert [(line["model"], line["row"]) for line in lines] == [(m, title) for m in ("sd", "sd3") for title in shown]
    views = {line["row"]: (line["views"], line["evaluations"]) for line in lines if line["model"] == "sd3"}
    assert views["MD"] == (21, 42) and views["SaFa"] == (6, 14) and views["SaFa*"] == (6, 12)


def test_a_figure_shows_the_first_canvas_of_every_rate_and_the_scores(place, tmp_path):
    given = options(place, tmp_path, "--seeds", "1", *rows("SaFa, 0", "SaFa, 1"), protocol="fig5")
    assert main(given) == 0
    assert (tmp_path / "paper" / "fig5" / "fig5.png").read_bytes()[1:4] == b"PNG"
    shown = list((tmp_path / "paper" / "fig5").rglob("safa-*-p000-s0000.png"))
    assert len(shown) == 2
    lines = [line for line in results(tmp_path, "fig5") if "row" in line]
    assert [line["rate"] for line in lines] == [0, 1] and all(line["scores"]["intra_colour"] for line in lines)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["--protocol", "table9"], "Expected a protocol of table2, table3"),
        (["--model", "gone"], "gone, which does not exist"),
        (["--protocol", "table2"], "Expected an audio model for protocol table2, got an image model"),
        (["--shard", "2/2"], "I from 0 to N - 1"),
        (["--shard", "x"], "such as 0/2, got 'x'"),
        (["--shard", "7/8"], "below the 4 canvases of a row, got 7/8"),
        (["--rows", "Magic"], "Expected rows of Reference, SaFa (1600)"),
        (["--also", "magic"], "Expected scores of "),
        (["--also", "clap"], "Expected scores of "),
        (["--steps", "0"], "`steps` of at least 1"),
        (["--prompts", "gone.txt"], "Expected a text file of prompts"),
        (["--device", "abacus"], "Expected a --device"),
        (["--batch", "1"], "--batch of 2 or more"),
        (["--eta", "2"], "`eta` in [0, 1]"),
    ],
)
def test_bad_input_is_one_sentence_before_anything_runs(place, tmp_path, monkeypatch, capsys, change, sentence):
    monkeypatch.setattr(command, "make", None)
    assert main([*options(place, tmp_path), *change]) == 1
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1


def test_a_full_disk_is_told_before_anything_runs(place, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command.shutil, "disk_usage", lambda folder: type("Disk", (), {"free": 1000})())
    monkeypatch.setattr(command, "make", None)
    assert main(options(place, tmp_path)) == 1
    assert "GiB of space" in capsys.readouterr().err


def test_a_folder_that_is_no_known_model_is_told(place, tmp_path, capsys):
    (tmp_path / "flux").mkdir()
    (tmp_path / "flux" / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    assert main([*options(place, tmp_path), "--model", str(tmp_path / "flux")]) == 1
    assert "got FluxPipeline" in capsys.readouterr().err
    assert main([*options(place, tmp_path), "--model", str(tmp_path)]) == 1
    assert "without model_index.json" in capsys.readouterr().err


def test_real_clips_are_asked_for_where_the_paper_compares_with_them(place, tmp_path, capsys):
    folder = tmp_path / "audio"
    folder.mkdir()
    (folder / "model_index.json").write_text('{"_class_name": "AudioLDM2Pipeline", "vocoder": ["a", "b"]}')
    given = ["--protocol", "table5", "--model", str(folder), "--data", str(tmp_path)]
    assert main(given) == 1
    assert "Expected --real and --prompts for protocol table5" in capsys.readouterr().err
    real = [*given, "--prompts", str(place / "prompts.txt"), "--real", str(tmp_path)]
    assert main(real) == 1
    assert "file.wav<tab>caption" in capsys.readouterr().err
    (tmp_path / "named.txt").write_text("a.wav\ta forest\nb.wav\ta cat\n", encoding="utf-8")
    assert main([*real, "--prompts", str(tmp_path / "named.txt")]) == 1
    assert "a.wav" in capsys.readouterr().err


def test_help_lists_the_protocols(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    said = capsys.readouterr().out
    assert all(
        name in said
        for name in ("table2", "table3", "table5", "table6", "fig5", "fig8", "fig9", "pocket_noise", "--pocket")
    )


# ---- The pocket model ----

SHOWN = ["single windows", "SaFa", "MD"]


@pytest.fixture(scope="module")
def small_classifier():
    with pytest.MonkeyPatch.context() as patch:
        recipe = Recipe(clips=1, seconds=0.96, frames=4 * pocket.VIEW, features=8, epochs=1, batch=14, held_out=1)
        patch.setattr(pocket_scores, "RECIPE", recipe)
        yield


def pocket_options(folder, *more):
    places = ["--model", str(folder / "model"), "--data", str(folder / "data"), "--out", str(folder / "out")]
    places += ["--weights", str(folder / "weights"), "--device", "cpu"]
    return [
        "--pocket",
        "--protocol",
        "pocket",
        *places,
        "--steps",
        "1",
        "--seeds",
        "1",
        "--length",
        "11.52",
        "--rows",
        *SHOWN,
        *more,
    ]


@pytest.fixture(scope="module")
def pocket_run(small_classifier, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pocket")
    pocket.write(folder / "model")
    assert main(pocket_options(folder, "--record", "1")) == 0
    return folder


def test_pocket_figures_are_those_of_the_windows_that_are_centred_on_overlaps(pocket_run):
    """Fréchet distances and accuracies once more from the saved latents: every class, 3 overlaps, 36 columns."""
    model = open_model("pocket", pocket_run / "model", 0, torch.device("cpu"), 32)
    judge = pocket_scores.POCKET.open(pocket_run / "weights")
    folder = pocket_run / "data" / "pocket" / "pocket" / "model" / "shard-0-of-1"
    run = Run(folder, json.loads((folder / "settings.json").read_text()))
    plan = plan_views(36, pocket.VIEW, 0.2, loop=True)
    singles, seams = [], []
    for number in range(len(CLASSES)):
        singles.append(run.tensors(f"single-5.12-p{number:03d}-s0000")["canvas"])
        canvas = run.tensors(f"safa-0.2-11.52-rate0.3-interval1-p{number:03d}-s0000")["canvas"]
        seams += [canvas.roll(-start, -1)[..., : pocket.VIEW] for start in windows.seam_windows(plan)]
    features, classes = judge.judge(model.decode(torch.cat(singles)))
    first, second = features.unflatten(0, (len(CLASSES), 2, 3)).transpose(0, 1).flatten(1, 2)
    joined, joined_classes = judge.judge(model.decode(torch.cat(seams)))
    facts, single, safa, _ = [
        json.loads(line) for line in (pocket_run / "out" / "pocket_eval.jsonl").read_text().splitlines()
    ]
    for line, found, given in ((single, second, classes), (safa, joined, joined_classes)):
        truth = torch.arange(len(CLASSES)).repeat_interleave(len(given) // len(CLASSES))
        assert line["scores"]["recognised"] == pytest.approx(
            float((given.argmax(1) == truth).double().mean()), rel=1e-5
        )
        assert line["scores"]["fd@pocket"] == pytest.approx(frechet_distance(found, first), rel=1e-4)
    assert single["canvases"] == len(CLASSES) * 6 and safa["canvases"] == len(CLASSES) and safa["views"] == 3
    assert facts["facts"]["controls"][0] == {"change": "none", "fd": single["scores"]["fd@pocket"]}


def test_the_pocket_page_has_every_row_its_claims_and_the_recorded_step(pocket_run):
    text = (pocket_run / "out" / "pocket_eval.md").read_text(encoding="utf-8")
    assert all(text.count(f"\n| {row} | ") >= 3 for row in SHOWN)  # the figures, the deficits and the costs
    assert "| 3 copies of one window per prompt |" in text and "1 steps, 48 windows per line." in text
    assert "\n| prompts are met as well as by single windows | Table 2, U-Net | CLAP: reference" in text
    assert "\n| step | 0 |\n" in text and "asked" not in text and "reached" not in text
    assert (pocket_run / "out" / "pocket_spectrum.png").read_bytes()[1:4] == b"PNG"


def test_a_second_pocket_run_makes_nothing_and_no_time_starts_nothing(pocket_run, monkeypatch, capsys):
    before = (pocket_run / "out" / "pocket_eval.md").read_text(encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(command, "make", None)
        assert main(pocket_options(pocket_run, "--record", "1")) == 0
        assert main([*pocket_options(pocket_run), "--seeds", "2", "--minutes", "0"]) == 0
    assert "0 minutes are over: run it again to go on." in capsys.readouterr().out
    assert before.split("Made by")[0] in (pocket_run / "out" / "pocket_eval.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["--length", "8", "--rows", "single windows", "MD"], "at least two windows (32 latent columns), got 25"),
        (["--rows", "SaFa"], "Expected the row of single windows"),
        (["--prompts", "any.txt"], "Expected no --prompts for protocol pocket"),
        (["--out", "{blocked}/docs"], "can be written"),
        (["--model", "{blocked}"], "Expected a model folder"),
    ],
)
def test_what_gives_no_pocket_figures_is_one_sentence_before_anything_runs(
    pocket_run, tmp_path, monkeypatch, capsys, change, sentence
):
    monkeypatch.setattr(command, "make", None)
    (tmp_path / "file").write_text("")
    change = [part.replace("{blocked}", str(tmp_path / "file")) for part in change]
    assert main([*pocket_options(pocket_run), *change]) == 1
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1


def test_too_few_windows_for_a_distance_are_refused(pocket_run, monkeypatch, capsys):
    monkeypatch.setattr(pocket_scores, "RECIPE", Recipe(features=64))
    assert main(pocket_options(pocket_run)) == 1
    assert "1 seeds x 16 classes x 3 overlaps = 48: raise --seeds." in capsys.readouterr().err


def test_seeds_have_their_own_captions():
    assert len({caption(CLASSES[0], seed) for seed in range(12)}) > 1


# ---- What survives an interruption ----


def test_an_interrupted_line_is_made_again_and_other_settings_are_refused(tmp_path):
    settings = {"steps": 2}
    run = Run(tmp_path, settings)
    for key in ("a", "b"):
        run.save(key, {"seed": 0}, {"x": torch.ones(2)})
    cut = run.results.read_text()[:-5]
    run.results.write_text(cut)
    again = Run(tmp_path, settings)
    assert "a" in again and "b" not in again
    again.save("b", {"seed": 0}, {"x": torch.zeros(2)})
    assert list(Run(tmp_path, settings).lines) == ["a", "b"]
    assert not again.tensors("b")["x"].any()
    with pytest.raises(ValueError, match="steps differ"):
        Run(tmp_path, {"steps": 3})
