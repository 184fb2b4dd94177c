"""A real ComfyUI server of one's own: started, asked, followed and stopped, by HTTP and websocket."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass, field
from itertools import chain

import aiohttp

from .signals import held_back

# BinaryEventTypes of the host's protocol.py: previews (with metadata or without), a text on a node
PREVIEWS, TEXT = {1, 4}, 3
TAIL = 12  # lines of its log that are shown when a server fails


class PromptRefused(Exception):
    """The server's validation refused a prompt; `node_errors` is its answer, by node id."""

    def __init__(self, answer):
        super().__init__(json.dumps(answer, indent=1))
        self.node_errors = answer.get("node_errors", {})


class ServerFailed(Exception):
    """The server did not start, or ended or fell silent before its work was done.

    sentence: what happened. tail: the last lines of its log.
    """

    def __init__(self, sentence, tail):
        super().__init__(f"{sentence} The end of its log:\n{tail}")
        self.sentence, self.tail = sentence, tail


@dataclass
class Result:
    """What one prompt produced. outputs: by node id. texts: (node id, text) that nodes showed."""

    prompt_id: str
    outputs: dict = field(default_factory=dict)
    progress: list = field(default_factory=list)
    texts: list = field(default_factory=list)
    previews: int = 0
    error: dict | None = None
    interrupted: bool = False


class ComfyServer:
    """`with ComfyServer(comfyui, base) as server:` a server on a free loopback port, all of its data below `base`.

    comfyui: the host's folder. base: a folder; packs in its `custom_nodes` load where `arguments` (ComfyUI's own)
    whitelist them.
    """

    def __init__(self, comfyui, base, *arguments):
        self.comfyui, self.base, self.arguments = comfyui, base, arguments
        self.client_id, self.process = uuid.uuid4().hex, None

    def __enter__(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        for name in ("input", "output", "models", "user"):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        # a session of its own: Ctrl-C in a terminal reaches whoever holds the server, and that one stops it
        apart = {} if os.name == "nt" else {"start_new_session": True}
        try:
            with open(self.log_file, "wb") as log, held_back():
                pipes = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
                self.process = subprocess.Popen(self._command(), env=self._environment(), **pipes, **apart)
            self._wait_until_it_answers(timeout=600)
        except BaseException:
            self.stop()
            raise
        return self

    def _command(self):
        command = [sys.executable, str(self.comfyui / "main.py"), "--port", str(self.port), "--disable-auto-launch"]
        command += ["--base-directory", str(self.base)]
        command += ["--database-url", "sqlite:///" + (self.base / "user" / "comfyui.db").as_posix()]
        return [*command, "--disable-api-nodes", "--disable-all-custom-nodes", *self.arguments]

    def _environment(self):
        return dict(os.environ, PYTHONUNBUFFERED="1", HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")

    def _wait_until_it_answers(self, timeout):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise self._failed("did not start")
            try:
                return self.get("/system_stats")
            except (OSError, ValueError):
                time.sleep(0.2)
        raise self._failed(f"did not answer within {timeout} s")

    def _failed(self, what):
        code = self.process.poll()
        ended = "" if code is None else f" (exit code {code})" if code >= 0 else f" (killed by signal {-code})"
        return ServerFailed(f"ComfyUI {what}{ended}.", self.log_tail())

    def stop(self):
        """Ends the process; all of its data is below `base`, so there is nothing that it would have to finish."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def __exit__(self, *exception):
        self.stop()

    @property
    def log_file(self):
        return self.base / "server.log"

    def log(self):
        """Everything the server has printed so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def log_tail(self):
        lines = [line for line in self.log().replace("\r", "\n").splitlines() if line.strip()]
        return "\n".join("  " + line for line in lines[-TAIL:]) or "  (empty)"

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

    def queue(self, prompt, client_id=None, workflow=None):
        """Queues a prompt in API format and returns its id; raises PromptRefused.

        workflow: the same in UI format, for the files' metadata.
        """
        value = {"prompt": prompt, "client_id": client_id or self.client_id}
        if workflow is not None:
            value["extra_data"] = {"extra_pnginfo": {"workflow": workflow}}
        try:
            return self.post("/prompt", value)["prompt_id"]
        except urllib.error.HTTPError as refusal:
            raise PromptRefused(json.load(refusal)) from None

    def run(self, prompt, timeout=120, on_progress=None, on_text=None, workflow=None):
        """Queues a prompt and follows it to its end; None as `timeout` (in s) waits as long as the server lives.

        `on_progress(message)` sees each progress message, `on_text(node id, text)` what nodes show.
        Raises ServerFailed when the server ends meanwhile.
        """
        try:
            following = self._run(prompt, on_progress, on_text, workflow)
            result = asyncio.run(asyncio.wait_for(following, timeout))
            result.outputs = self.get(f"/history/{result.prompt_id}")[result.prompt_id]["outputs"]
            return result
        except (TimeoutError, asyncio.TimeoutError):
            raise self._failed(f"did not finish within {timeout} s") from None
        except (aiohttp.ClientError, OSError) as error:
            try:
                self.process.wait(3)  # one that was killed is gone a moment after its connections are
            except subprocess.TimeoutExpired:
                raise self._failed("broke the connection") from error
            raise self._failed("stopped in the middle of the work") from error

    async def _run(self, prompt, on_progress, on_text, workflow):
        client_id = uuid.uuid4().hex
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(f"{self.url}/ws?clientId={client_id}", max_msg_size=0) as messages:
                result = Result(self.queue(prompt, client_id, workflow))
                async for message in messages:
                    if message.type == aiohttp.WSMsgType.BINARY:
                        self._note_bytes(message.data, result, on_text)
                    elif message.type == aiohttp.WSMsgType.TEXT and self._follow(message.data, result, on_progress):
                        return result
        raise ConnectionError("the websocket was closed")

    def _note_bytes(self, frame, result, on_text):
        kind = int.from_bytes(frame[:4], "big")
        if kind in PREVIEWS:
            result.previews += 1
        if kind == TEXT:
            size = int.from_bytes(frame[4:8], "big")
            shown = frame[8 : 8 + size].decode(), frame[8 + size :].decode()
            result.texts.append(shown)
            if on_text:
                on_text(*shown)

    def _follow(self, text, result, on_progress):
        """Notes one message in the result; true when it was the prompt's last."""
        message = json.loads(text)
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

    def files(self, result, kind="output", node=None):
        """Paths of the files a run has saved (kind "output") or shown ("temp"), by all nodes or one (its id)."""
        outputs = result.outputs.values() if node is None else [result.outputs.get(node, {})]
        paths = []
        for output in outputs:
            for entry in chain.from_iterable(output.values()):
                if isinstance(entry, dict) and entry.get("type") == kind:
                    paths.append(self.base / kind / entry["subfolder"] / entry["filename"])
        return list(dict.fromkeys(paths))  # a node may name a file twice: for the host's page, and for the pack's own
