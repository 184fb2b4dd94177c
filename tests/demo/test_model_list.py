"""The pack's own model is in the loader's list of every installation, and the first where there is no other."""

import json
import os
import shutil

import pytest

import folder_paths

from safa_pack import run
from safa_pack.nodes.audio import folder as audio_files
from safa_pack.nodes.audio.loader import SaFaAudioModelLoader

pytestmark = pytest.mark.host
OWN = {"unet": ["d", "UNet2DConditionModel"], "text_encoder": ["t", "T5EncoderModel"], "vae": ["d", "AutoencoderKL"]}


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The user's models/audio_models and the pack's models, both empty."""
    user, pack = tmp_path / "audio_models", tmp_path / "pack"
    user.mkdir()
    pack.mkdir()
    monkeypatch.setattr(audio_files, "PACK_MODELS", str(pack))
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "audio_models", ([str(user), str(pack)], set()))
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "diffusers", ([str(tmp_path / "none")], set()))
    return user, pack


def add(folder, name):
    (folder / name).mkdir(parents=True)
    (folder / name / "model_index.json").write_text(json.dumps(OWN))


def options():
    return SaFaAudioModelLoader.define_schema().inputs[0].options


def test_the_packs_model_is_the_default_where_there_is_no_other_and_the_last_where_there_are(folders):
    user, pack = folders
    add(pack, "safa-pocket")
    assert options() == ["safa-pocket"]
    add(user, "tango2")
    add(user, "lab/audioldm")
    assert options() == ["lab/audioldm", "tango2", "safa-pocket"]


def test_a_users_folder_of_the_same_name_is_the_one_that_is_loaded(folders):
    user, pack = folders
    add(pack, "safa-pocket")
    add(user, "safa-pocket")
    assert options() == ["safa-pocket"]
    assert audio_files.find_model("safa-pocket") == user / "safa-pocket"
    shutil.rmtree(user / "safa-pocket")
    assert audio_files.find_model("safa-pocket") == pack / "safa-pocket"


def test_the_folder_is_the_one_in_the_repository():
    assert os.path.samefile(os.path.dirname(audio_files.PACK_MODELS), run.ROOT)
    assert folder_paths.get_folder_paths("audio_models")[-1] == audio_files.PACK_MODELS
