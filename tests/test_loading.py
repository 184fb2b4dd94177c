"""No code of a model's folder is ever run, or offered to run: every call that opens one, read from the source."""

import ast
import json
import shutil

import pytest

from safa_pack import run
from safa_pack.safa_core.loading import LOCAL

pytestmark = pytest.mark.core
FOLDERS = ("nodes", "safa_core", "demo", "training", "evaluation", "tools", "benchmarks")
# what runs whatever a file names, unless it is told otherwise
LOADERS = {"torch.load", "np.load", "numpy.load"}
NEVER = {
    "eval",
    "exec",
    "pickle.load",
    "pickle.loads",
    "torch.jit.load",
    "torch.hub.load",
    "yaml.load",
    "runpy.run_path",
}


def calls():
    """(file:line, what is called, the call) of all of the pack but its tests."""
    for path in (path for folder in FOLDERS for path in sorted((run.ROOT / folder).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield f"{path.relative_to(run.ROOT)}:{node.lineno}", ast.unparse(node.func), node


def options(call):
    """{name: value as source} of a call's keywords; "**" holds what is unpacked into it."""
    named = {word.arg: ast.unparse(word.value) for word in call.keywords if word.arg}
    return named | {"**": [ast.unparse(word.value) for word in call.keywords if not word.arg]}


def test_libraries_look_at_local_files_alone_and_run_no_code_of_a_folder():
    assert LOCAL == {"local_files_only": True, "trust_remote_code": False}
    loaded = [(where, options(call)) for where, name, call in calls() if name.endswith(".from_pretrained")]
    assert len(loaded) > 10
    assert [where for where, given in loaded if "LOCAL" not in given["**"]] == []
    assert [where for where, given in loaded if LOCAL.keys() & given.keys()] == []


def test_files_of_arrays_are_read_as_arrays_alone():
    loaded = [(where, name, options(call)) for where, name, call in calls() if name in LOADERS]
    assert any(name == "torch.load" for _, name, _ in loaded)
    unsafe = [where for where, name, given in loaded if name == "torch.load" and given.get("weights_only") != "True"]
    assert unsafe == []
    assert [where for where, _, given in loaded if given.get("allow_pickle", "False") != "False"] == []


def test_nothing_is_unpickled_or_evaluated():
    assert [(where, name) for where, name, _ in calls() if name in NEVER] == []


def test_a_tokenizer_with_code_is_refused_in_a_sentence(tmp_path, monkeypatch):
    from safa_pack.evaluation.making.pocket import PocketModel

    folder = tmp_path / "model"
    shutil.copytree(run.ROOT / "models" / "safa-pocket", folder)
    file = folder / "tokenizer" / "tokenizer_config.json"
    described = json.loads(file.read_text())
    described |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    file.write_text(json.dumps(described))
    (folder / "tokenizer" / "own.py").write_text("raise SystemExit('code of a folder was run')")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked whether to run code"))
    with pytest.raises(ValueError, match="custom code"):
        PocketModel(folder, "cpu")
