import pytest
import safetensors.torch
import torch

import folder_paths

from safa_pack.nodes.joint.file_facts import facts_before, for_page
from safa_pack.nodes.joint.model_facts import model_facts
from safa_pack.tests import tiny_audio, tiny_models

pytestmark = pytest.mark.host


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """ComfyUI's folders of models, below a folder of this test's alone."""
    known = {kind: ([str(tmp_path / kind)], {".safetensors"}) for kind in ("checkpoints", "diffusion_models")}
    known |= {kind: ([str(tmp_path / kind)], set()) for kind in ("audio_models", "diffusers")}
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", folder_paths.folder_names_and_paths | known)
    for kind in known:
        (tmp_path / kind).mkdir()
    return tmp_path


def test_a_file_tells_before_it_is_loaded_what_its_model_tells_afterwards(folders):
    weights = tiny_models.sd3_state_dict()
    checkpoint = {f"model.diffusion_model.{name}": value for name, value in weights.items()}
    safetensors.torch.save_file(weights, folders / "diffusion_models" / "sd3.safetensors")
    safetensors.torch.save_file(checkpoint, folders / "checkpoints" / "sd3.safetensors")
    loaded = model_facts(tiny_models.sd3())
    assert facts_before("diffusion_models", "sd3.safetensors") == loaded
    assert facts_before("checkpoints", "sd3.safetensors") == loaded


def test_an_audio_folder_tells_it_by_its_configurations(folders):
    from safa_pack.nodes.audio.loader import load_audio_model

    path = folders / "audio_models" / "ldm"
    tiny_audio.audioldm(path)
    assert facts_before("audio_models", "ldm") == model_facts(load_audio_model(path)[0])


def test_nothing_outside_the_folders_is_read_and_nothing_is_guessed(folders):
    secret = folders / "secret.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(2)}, secret)
    (folders / "checkpoints" / "broken.safetensors").write_bytes(b"no header")
    (folders / "checkpoints" / "other.safetensors").write_bytes(secret.read_bytes())
    for folder, name in [
        ("checkpoints", "../secret.safetensors"),
        ("checkpoints", str(secret)),
        ("checkpoints", "none.safetensors"),
        ("checkpoints", "broken.safetensors"),
        ("checkpoints", "other.safetensors"),
        ("output", "x.safetensors"),
        ("audio_models", "../../x"),
    ]:
        assert facts_before(folder, name) is None


def test_the_page_reads_them_under_the_names_of_the_planner_s_output():
    facts = model_facts(tiny_models.sd3())
    page = for_page(facts)
    assert (page["model"], page["native_view"]) == (facts.name, facts.view)
    assert {"unit", "scale", "patch"} <= page.keys()
