"""The demo itself: a server of its own, the first workflow once, or with every method to compare."""

import io
import json
import tempfile
import time
from pathlib import Path

from PIL import Image

from .convert import ui_to_api
from .files import put
from .options import METHODS, WORKFLOW, Options
from .pictures import comparison
from .report import Report
from .server import ComfyServer, PromptRefused, Result, ServerFailed
from .variants import customised, of_type, prompt_node

NAMES = {
    "safa": "SaFa: neighbours take turns in their overlap, the reference leads the early steps",
    "average": "average (MultiDiffusion): the mean in the overlap",
    "triangular": "triangular (MultiDiffusion*): a mean that fades from one view to the next",
}
SHORT = {"safa": "SaFa", "average": "average", "triangular": "triangular"}
STAGES = {"SaFaSampler": "step", "SaFaMelDecode": "decoding, frame"}


class Failed(Exception):
    """One sentence for the terminal."""


class Demo:
    """One run with a server that answers."""

    def __init__(self, server: ComfyServer, options: Options, report: Report):
        self.server, self.options, self.report = server, options, report
        self.workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
        self.nodes = {str(node["id"]): node for node in self.workflow["nodes"]}
        self.object_info = server.object_info()

    @property
    def sound(self) -> str:
        return "loop.wav" if self.options.loop else "sound.wav"

    def make(self) -> list[str]:
        """Write the files; their names. The sound comes first: there is something to hear while the rest is made."""
        out, method = self.options.out, self.options.method
        result = self._run(method, show_texts=True)
        (sound,) = self.server.files(result)
        pictures = {method: self._picture(result)}
        put(out, {self.sound: sound.read_bytes(), "spectrogram.png": pictures[method]})
        for older in ("compare.png", "server.log"):  # of another sound, of a failure
            (out / older).unlink(missing_ok=True)
        if not self.options.compare:
            return [self.sound, "spectrogram.png"]
        self.report.say(f"{out / self.sound} is ready; the other methods follow for the comparison")
        for other in METHODS:
            if other != method:
                pictures[other] = self._picture(self._run(other, show_texts=False))
        put(out, {"compare.png": self._compared(pictures)})
        return [self.sound, "spectrogram.png", "compare.png"]

    def _picture(self, result: Result) -> bytes:
        """The PNG of Mel Decode's spectrogram."""
        shown = self.server.files(result, "temp", str(of_type(self.workflow, "SaFaMelDecode")["id"]))
        (picture,) = (path for path in shown if path.suffix == ".png")
        return picture.read_bytes()

    def _run(self, method: str, show_texts: bool) -> Result:
        workflow = customised(self.workflow, self.object_info, self.options, method)

        def progress(message):
            stage = STAGES.get(self.nodes[message["node"]]["type"])
            if stage:
                self.report.progress(f"{SHORT[method]}: {stage}", message["value"], message["max"])

        def text(node, shown):
            if show_texts and node in self.nodes:
                if self.nodes[node]["type"] == "SaFaSaveLoop":
                    shown = shown.partition(": ")[2]  # without the name that the file has in the temporary folder
                title = self.nodes[node].get("title") or self.object_info[self.nodes[node]["type"]]["display_name"]
                self.report.say(f"{title}: {shown}")

        prompt = ui_to_api(workflow, self.object_info)
        result = self.server.run(prompt, timeout=None, on_progress=progress, on_text=text, workflow=workflow)
        if result.error is not None:
            raise Failed(f"{result.error['node_type']} failed: {result.error['exception_message'].strip()}")
        return result

    def _compared(self, pictures: dict[str, bytes]) -> bytes:
        rows = [(NAMES[method], Image.open(io.BytesIO(pictures[method]))) for method in METHODS]
        prompt = self.options.prompt or prompt_node(self.workflow)["widgets_values"][0]
        explained = "The same model, prompt, seed and steps. Bars on top are views; shaded places are their overlaps."
        written = io.BytesIO()
        comparison(rows, prompt, explained).save(written, "png")
        return written.getvalue()


def sentence(error: Exception) -> str:
    """What happened, in one."""
    if isinstance(error, ServerFailed):
        return error.sentence
    if isinstance(error, PromptRefused):
        node = next(iter(error.node_errors.values()), None)
        reason = str(error) if node is None else "{message}: {details}".format(**node["errors"][0])
        return f"ComfyUI refused the workflow ({reason})."
    full = "No space left on device" in str(error)
    return "The disk is full: free some space and run this again." if full else str(error)


def keep_log(server: ComfyServer, out: Path) -> str:
    """Where the log is now; it would go with the temporary folder otherwise."""
    try:
        put(out, {"server.log": server.log_file.read_bytes()})
    except OSError as error:
        return f"Its log could not be kept ({error.strerror}) and ends with:\n{server.log_tail()}"
    return f"Its log is {out / 'server.log'} and ends with:\n{server.log_tail()}"


def run_demo(comfyui: Path, options: Options, arguments: list[str], link_pack) -> None:
    """Everything between the checks and the last line (Failed, KeyboardInterrupt, OSError).

    comfyui: the host. arguments: more of its server's. link_pack: puts this repository into a custom_nodes folder.
    """
    started, report = time.monotonic(), Report()
    with tempfile.TemporaryDirectory(prefix="safa-demo-", ignore_cleanup_errors=True) as place:
        link_pack(Path(place) / "custom_nodes")
        server = ComfyServer(comfyui, Path(place), *arguments)
        report.say("starting a ComfyUI of the demo's own; Ctrl-C stops everything")
        try:
            with server:
                names = Demo(server, options, report).make()
        except (ServerFailed, PromptRefused, Failed) as error:
            raise Failed(f"{sentence(error)} {keep_log(server, options.out)}") from error
    say_goodbye(report, options, names, time.monotonic() - started)


def say_goodbye(report: Report, options: Options, names: list[str], seconds: float) -> None:
    listen = "play it on repeat: its end flows into its start" if options.loop else "play it"
    texts = [
        listen,
        "what you hear, and the views that it was made of",
        "SaFa, average, triangular: one above the other",
    ]
    report.say(f"done in {seconds:.0f} s:")
    for name, text in zip(names, texts, strict=False):
        print(f"  {options.out / name}  {text}")
    report.say("next:")
    print('  python run.py demo --prompt "waves with distant bells" --seed 8')
    print("  python run.py demo --compare")
    print("  python run.py serve, then A first loop in Templates, or spectrogram.png dropped on the page")
