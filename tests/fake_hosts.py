"""Folders that look like a ComfyUI and like an interpreter, for tests of run.py and host_setup.py."""

from safa_pack import host_setup


def make_comfyui(folder):
    """The files by which a ComfyUI folder is recognised."""
    (folder / "comfy").mkdir(parents=True)
    (folder / "main.py").write_text("")
    (folder / "comfyui_version.py").write_text(f'__version__ = "{host_setup.COMFYUI_VERSION}"\n')
    (folder / "requirements.txt").write_text("torch\n")
    return folder


def make_python(path):
    path.parent.mkdir(parents=True)
    path.write_text("")
    return path
