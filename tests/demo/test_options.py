"""What the demo refuses: one sentence, exit code 1, before anything is installed or started."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from safa_pack import run
from safa_pack.demo import options, pocket

pytestmark = pytest.mark.tools


@pytest.fixture
def model(tmp_path, monkeypatch):
    """Files with the names and headers of a model; nobody runs it."""
    folder = tmp_path / "models" / "safa-pocket"
    for name, described in (("unet", "config.json"), ("vae", "config.json"), ("scheduler", "scheduler_config.json")):
        (folder / name).mkdir(parents=True)
        (folder / name / described).write_text("{}")
        if name != "scheduler":
            save_file({"a": torch.zeros(3, 5), "b": torch.ones(7)}, folder / name / "model.safetensors")
    listed = (
        '{"_class_name": "X", "unet": ["d", "U"], "vae": ["d", "V"], "scheduler": ["d", "S"], "vocoder": [null, null]}'
    )
    (folder / "model_index.json").write_text(listed)
    monkeypatch.setattr(options, "MODEL", folder)
    return folder


def refusal(*argv):
    with pytest.raises(ValueError) as raised:
        options.parse(list(argv))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_without_options_the_workflow_decides(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    got = options.parse([])
    assert got == options.Options(None, 24.0, True, "safa", None, None, False, tmp_path / "safa-demo")
    assert not got.out.exists()


def test_every_option_is_read(model, tmp_path):
    argv = ["--prompt", "waves", "--seconds", "6", "--no-loop", "--method", "average", "--seed", "0", "--steps", "1000"]
    got = options.parse([*argv, "--compare", "--out", str(tmp_path / "new" / "deep")])
    assert got == options.Options("waves", 6.0, False, "average", 0, 1000, True, tmp_path / "new" / "deep")
    assert options.parse(["--seconds", "600"]).seconds == 600


@pytest.mark.parametrize("prompt", ["", "  ", "\n\t"])
def test_an_empty_prompt_is_refused(model, prompt):
    assert "--prompt to name a sound" in refusal("--prompt", prompt)


@pytest.mark.parametrize(
    "seconds", ["0", "-3", "5.12", "5.999", "600.1", "10000", "nan", "inf", "-inf", "1e400", "long", ""]
)
def test_a_length_that_the_demo_does_not_make_is_refused_with_the_limits(model, seconds):
    said = refusal(f"--seconds={seconds}")
    assert f"from 6 to 600, got {seconds}:" in said and "5.12 s" in said and "an hour" in said


def test_the_window_that_is_told_is_the_models():
    assert options.WINDOW == 128 / 25 < options.SHORTEST


def test_an_unknown_method_is_refused_with_the_known_ones(model):
    assert refusal("--method", "swap") == "Expected --method to be one of safa, average, triangular, got swap."


@pytest.mark.parametrize("name", ["--seed", "--steps"])
@pytest.mark.parametrize("value", ["-1", "1.5", "many", "", "²", "1" * 30])
def test_numbers_that_are_not_whole_or_too_large_are_refused(model, name, value):
    assert f"{name} to be a whole number from" in refusal(f"{name}={value}")


@pytest.mark.parametrize("argv", [["--second", "24"], ["rain"], ["--prompt"]])
def test_what_is_not_an_option_is_refused(model, argv):
    assert argv[0] in refusal(*argv)


def test_an_output_folder_that_is_a_file_is_refused(model, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    for name in (file, file / "below"):
        assert refusal("--out", str(name)) == f"Expected --out to be a folder, but {file} is a file; name another."
    assert file.read_text() == "mine"


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no folder here that nobody may write into")
def test_an_output_folder_that_cannot_be_written_is_refused(model):
    assert refusal("--out", "/proc/self/sounds").startswith("Nothing can be written in /proc/self (")


def test_a_full_disk_is_noticed_before_the_work(model, tmp_path, monkeypatch):
    monkeypatch.setattr(options, "NEEDED_SPACE", shutil.disk_usage(tmp_path).total * 2)
    assert refusal("--out", str(tmp_path)).endswith(
        f"MB are free in {tmp_path}: free some space or name another --out."
    )


# The model's files


def damaged(model):
    said = refusal()
    assert said.startswith(f"The pocket model in {model} is damaged (") and "git checkout -- models/safa-pocket" in said
    return said


def test_a_missing_model_is_named_with_the_way_to_get_it_back(model):
    shutil.rmtree(model)
    assert refusal().startswith("The pocket model is missing (") and "git checkout -- models/safa-pocket" in refusal()


def test_a_missing_part_is_named(model):
    shutil.rmtree(model / "vae")
    assert "vae: No such file" in damaged(model)


def test_missing_weights_are_named(model):
    (model / "unet" / "model.safetensors").unlink()
    assert "unet has no weights" in damaged(model)


def test_a_missing_description_is_named(model):
    (model / "scheduler" / "scheduler_config.json").unlink()
    assert "scheduler/scheduler_config.json is missing" in damaged(model)


@pytest.mark.parametrize("keep", [0, 5, 20, 60, -1])
def test_weights_that_are_cut_off_are_noticed(model, keep):
    weights = model / "unet" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    assert "unet/model.safetensors is not whole" in damaged(model)


def test_a_pointer_in_the_place_of_weights_is_noticed(model):
    (model / "vae" / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n" * 3)
    assert "vae/model.safetensors is not whole" in damaged(model)


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_a_broken_index_is_noticed(model, content):
    (model / "model_index.json").write_text(content)
    damaged(model)


def test_a_broken_description_is_noticed(model):
    (model / "vae" / "config.json").write_text("{")
    assert "vae/config.json is not JSON" in damaged(model)


def test_a_whole_file_of_weights_has_the_size_that_its_header_says(model):
    weights = model / "vae" / "model.safetensors"
    assert pocket.safetensors_size(weights) == weights.stat().st_size


# As a person starts it


def test_a_refusal_is_one_line_and_exit_code_1_and_starts_nothing(tmp_path):
    command = [sys.executable, str(run.ROOT / "run.py"), "demo", "--seconds", "0", "--out", "out"]
    environment = dict(os.environ, COMFYUI_PATH=str(tmp_path / "none"))  # would be refused by setup
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith("run.py: Expected --seconds from 6 to 600, got 0:") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_lists_the_options(tmp_path):
    command = [sys.executable, str(run.ROOT / "run.py"), "demo", "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    for name in ("--prompt", "--seconds", "--no-loop", "--method", "--seed", "--steps", "--compare", "--out"):
        assert name in done.stdout
