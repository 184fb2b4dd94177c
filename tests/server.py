"""Drives a real ComfyUI server over HTTP and websocket, and converts UI workflows to its API format.

Imported by tests as `safa_pack.tests.server`.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass, field

import torch
import websocket

from safa_pack import run

PREVIEW_FRAMES = {1, 4}  # BinaryEventTypes.PREVIEW_IMAGE, PREVIEW_IMAGE_WITH_METADATA of the host's protocol.py


class PromptRefused(Exception):
    """The server's validation refused a prompt; `node_errors` is its answer, by node id."""

    def __init__(self, answer):
        super().__init__(json.dumps(answer, indent=1))
        self.node_errors = answer.get("node_errors", {})


@dataclass
class Result:
    """What one prompt produced."""

    prompt_id: str
    outputs: dict = field(default_factory=dict)
    progress: list = field(default_factory=list)
    previews: int = 0
    error: dict | None = None
    interrupted: bool = False


class ComfyServer:
    """`with ComfyServer(comfyui, base) as server:` a server with this pack only, its data below `base`."""

    def __init__(self, comfyui, base, *arguments):
        self.comfyui, self.base, self.arguments = comfyui, base, arguments
        self.client_id = uuid.uuid4().hex

    def __enter__(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        for name in ("input", "output", "models", "user"):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        run.link_pack(self.base / "custom_nodes")
        with open(self.base / "server.log", "wb") as log:
            self.process = subprocess.Popen(self._command(), stdout=log, stderr=log, env=self._environment())
        try:
            self._wait_until_it_answers(timeout=180)
        except BaseException:
            self.stop()
            raise
        return self

    def _command(self):
        command = [sys.executable, str(self.comfyui / "main.py"), "--port", str(self.port), "--disable-auto-launch"]
        command += ["--base-directory", str(self.base)]
        command += ["--database-url", "sqlite:///" + (self.base / "user" / "comfyui.db").as_posix()]
        command += ["--disable-api-nodes", "--preview-method", "latent2rgb", *self.arguments]
        command += [] if torch.cuda.is_available() else ["--cpu"]
        return [*command, "--disable-all-custom-nodes", "--whitelist-custom-nodes", run.PACK]

    def _environment(self):
        return dict(os.environ, PYTHONUNBUFFERED="1", HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")

    def _wait_until_it_answers(self, timeout):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"ComfyUI stopped with exit code {self.process.returncode}:\n{self.log()}")
            try:
                return self.get("/system_stats")
            except OSError:
                time.sleep(0.2)
        raise TimeoutError(f"ComfyUI did not answer within {timeout} s:\n{self.log()}")

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def __exit__(self, *exception):
        self.stop()

    def log(self):
        """Everything the server has printed so far."""
        return (self.base / "server.log").read_text(encoding="utf-8", errors="replace")

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def post(self, path, value):
        body = json.dumps(value).encode()
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def object_info(self, node_id=None):
        """All nodes by id, or one of them."""
        return self.get(f"/object_info/{node_id}")[node_id] if node_id else self.get("/object_info")

    def queue(self, prompt, client_id=None):
        """Queues a prompt in API format and returns its id; raises PromptRefused."""
        try:
            return self.post("/prompt", {"prompt": prompt, "client_id": client_id or self.client_id})["prompt_id"]
        except urllib.error.HTTPError as refusal:
            raise PromptRefused(json.load(refusal)) from None

    def run(self, prompt, timeout=120, on_progress=None):
        """Queues a prompt and follows it to its end; `on_progress(message)` sees each progress message."""
        client_id = uuid.uuid4().hex
        deadline = time.monotonic() + timeout
        address = f"ws://127.0.0.1:{self.port}/ws?clientId={client_id}"
        socket_ = websocket.create_connection(address, timeout=timeout)
        try:
            result = Result(self.queue(prompt, client_id))
            while True:
                socket_.settimeout(max(0.1, deadline - time.monotonic()))
                if self._follow(socket_.recv(), result, on_progress):
                    break
        except (websocket.WebSocketException, OSError) as failure:
            raise RuntimeError(f"ComfyUI did not finish the prompt: {failure!r}\n{self.log()[-5000:]}") from failure
        finally:
            socket_.close()
        result.outputs = self.get(f"/history/{result.prompt_id}")[result.prompt_id]["outputs"]
        return result

    def _follow(self, frame, result, on_progress):
        """Notes one websocket frame in the result; true when it was the prompt's last."""
        if isinstance(frame, bytes):
            result.previews += int.from_bytes(frame[:4], "big") in PREVIEW_FRAMES
            return False
        message = json.loads(frame)
        data = message["data"]
        if data.get("prompt_id") != result.prompt_id:
            return False
        if message["type"] == "progress":
            result.progress.append(data)
            if on_progress:
                on_progress(data)
        elif message["type"] == "execution_error":
            result.error = data
        elif message["type"] == "execution_interrupted":
            result.interrupted = True
        return message["type"] == "executing" and data["node"] is None

    def interrupt(self):
        """Stops the prompt that runs now."""
        self.post("/interrupt", {})

    def files(self, result, kind="output"):
        """Paths of the files a run has saved (kind "output") or shown ("temp")."""
        entries = [
            entry
            for output in result.outputs.values()
            for values in output.values()
            for entry in values
            if isinstance(entry, dict) and entry.get("type") == kind
        ]
        return [self.base / kind / entry["subfolder"] / entry["filename"] for entry in entries]


WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR"}
DYNAMIC = "COMFY_DYNAMICCOMBO_V3"
NOT_SENT = {"Note", "MarkdownNote", "Reroute", "PrimitiveNode"}
MUTED, BYPASSED = 2, 4


def ui_to_api(workflow, object_info):
    """The API prompt that the web page would send for a workflow saved in UI format (without subgraphs)."""
    if workflow.get("definitions", {}).get("subgraphs"):
        raise ValueError("Expected a workflow without subgraphs.")
    graph = _Graph(workflow)
    prompt = {}
    for node in graph.nodes.values():
        if node["type"] in NOT_SENT or node.get("mode", 0) in (MUTED, BYPASSED):
            continue
        if node["type"] not in object_info:
            raise ValueError(f"Expected a node that the server has, got {node['type']} (node {node['id']}).")
        inputs = dict(_widgets(node, object_info[node["type"]]))
        for socket_ in node.get("inputs", []):
            if socket_.get("link") is not None:
                inputs.pop(socket_["name"], None)
                source = graph.source(socket_["link"])
                if source is not None:
                    inputs[socket_["name"]] = source
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


class _Graph:
    """Nodes by id, and where links come from."""

    def __init__(self, workflow):
        self.nodes = {node["id"]: node for node in workflow["nodes"]}
        self.origins = {}
        for link in workflow["links"]:
            if isinstance(link, dict):
                link = [link["id"], link["origin_id"], link["origin_slot"]]
            self.origins[link[0]] = (link[1], link[2])

    def source(self, link):
        """What the prompt holds for a link; None if it comes from a muted or open end."""
        origin, slot = self.origins[link]
        node = self.nodes[origin]
        if node.get("mode", 0) == MUTED:
            return None
        if node["type"] == "PrimitiveNode":
            return node["widgets_values"][0]
        if node["type"] != "Reroute" and node.get("mode", 0) != BYPASSED:
            return [str(origin), slot]
        link = self._passed_through(node, slot)
        return None if link is None else self.source(link)

    def _passed_through(self, node, slot):
        """The link behind an output of a reroute or a bypassed node: same slot first, then the first of its type."""
        inputs = node.get("inputs", [])
        if node["type"] == "Reroute":
            return inputs[0]["link"]
        kind = node["outputs"][slot]["type"]
        fitting = [candidate for candidate in inputs[slot : slot + 1] + inputs if candidate["type"] == kind]
        return fitting[0]["link"] if fitting else None


def _widgets(node, info):
    """(input name, value) of a node's widgets, whose values a workflow stores by position."""
    stored = node.get("widgets_values") or []
    specs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    if isinstance(stored, dict):
        return [(name, stored[name]) for name in specs if name in stored]
    return list(_by_position(specs, iter(stored), prefix=""))


def _by_position(specs, values, prefix):
    for name, spec in specs.items():
        kind, options = spec[0], (spec[1] if len(spec) > 1 else {})
        choices = options.get("options", []) if isinstance(kind, str) else kind
        is_widget = kind in (*WIDGETS, DYNAMIC) if isinstance(kind, str) else True
        if not is_widget or options.get("forceInput"):
            continue
        value = next(values, _DEFAULT)
        if value is _DEFAULT:  # saved before the node had this input
            first = choices[0] if choices else None
            value = options.get("default", first["key"] if kind == DYNAMIC else first)
        yield prefix + name, value
        seed = kind == "INT" and name in ("seed", "noise_seed")
        if options.get("control_after_generate", seed):
            next(values, None)
        if kind == DYNAMIC:
            chosen = next(choice["inputs"] for choice in choices if choice["key"] == value)
            nested = {**chosen.get("required", {}), **chosen.get("optional", {})}
            yield from _by_position(nested, values, f"{prefix}{name}.")


_DEFAULT = object()
