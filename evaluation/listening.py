"""`python run.py eval --listen`: every prompt that a workflow or the README names, made, heard and drawn.

A table with what YAMNet hears, how loud the sound came out of the model and what its seam scores, and for each prompt a
spectrogram and the sound itself. Sounds are kept: run again, it goes on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ..safa_core import plan_views
from ..safa_core.measures.seam import sound_seam
from .making.methods import method
from .making.sampling import Sampling, Task
from .making.window_model import WindowModel
from .options import ROOT
from .report import markdown_table
from .scores.kinds import KINDS, kinds_of
from .scores.yamnet import YAMNET, Yamnet
from .store import Run

POCKET = "safa-pocket"
TEXTS = {"CLIPTextEncode": 0, "SaFaPromptTimeline": 0}  # node -> place of its prompt among its values
SPOKEN = re.compile(r'--prompt "([^"]+)"')  # of the demo, in the README and in what the demo says
STEPS, GUIDANCE, SEED = 25, 3.5, 7  # the workflows'
VIEWS = 2.4  # length of the loop, in the model's own windows
LOUDEST = 5


@dataclass(frozen=True)
class Heard:
    """One prompt's sound.

    peak, beyond: of the sound as the model made it, its loudest sample and how many lie beyond ±1. seam: as Roll by
    Half scores it. loudest: (class, score) of the loudest that YAMNet hears. kinds: named -> whether it is heard.
    """

    prompt: str
    peak: float
    beyond: int
    seam: float
    loudest: tuple[tuple[str, float], ...]
    kinds: dict[str, bool]

    def row(self) -> list[str]:
        """Of the table."""
        loudest = ", ".join(f"{name} {score:.2f}" for name, score in self.loudest)
        missed = [kind for kind, heard in self.kinds.items() if not heard]
        verdict = "–" if not self.kinds else f"no {', no '.join(missed)}" if missed else "yes"
        return [self.prompt, verdict, loudest, f"{self.peak:.2f}", str(self.beyond), f"{self.seam:.2f}"]


HEAD = ["prompt", "recognised", "loudest by YAMNet", "peak", "beyond ±1", "seam"]


def named_prompts(root: Path = ROOT) -> dict[str, list[str]]:
    """Prompt -> the files that name it: workflows of the pocket model, the README and the demo."""
    places: dict[str, list[str]] = {}
    for path in sorted((root / "workflows").glob("*.json")):
        for prompt in _of_workflow(json.loads(path.read_text(encoding="utf-8"))):
            places.setdefault(prompt, []).append(path.name)
    for path in [root / "README.md", *sorted((root / "demo").glob("*.py"))]:
        for prompt in SPOKEN.findall(path.read_text(encoding="utf-8")):
            places.setdefault(prompt, []).append(path.name)
    return places


def _of_workflow(workflow: dict) -> list[str]:
    """The prompts of a workflow whose model is the pocket's; a timeline's one by one, the empty one left out."""
    nodes = workflow["nodes"]
    if not any(POCKET in (node.get("widgets_values") or ()) for node in nodes):
        return []
    prompts: list[str] = []
    for node in nodes:
        if node["type"] in TEXTS:
            text = node["widgets_values"][TEXTS[node["type"]]]
            lines = re.findall(r"^[\d.]+-[\d.]+:\s*(.+)$", text, re.MULTILINE) or [text]
            prompts += [line.strip() for line in lines if line.strip()]
    return prompts


def listen(
    model: WindowModel, run: Run, weights: Path, prompts: dict[str, list[str]], say: Callable[[str], None] = print
) -> list[Heard]:
    """Make what the run does not have yet, and hear all; files beside the run's lines. ValueError without YAMNet."""
    ears = YAMNET.open(weights)
    columns = round(VIEWS * model.view)
    plan = plan_views(columns, model.view, 0.2, True)
    results = []
    for number, prompt in enumerate(prompts):
        key = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")
        if key not in run:
            task = Task(Sampling(STEPS, GUIDANCE), plan, [prompt], [(0, SEED, 0)], model.device)
            sound = model.decode(method("safa")(model, task).cpu(), True)
            run.save(key, {"prompt": prompt, "named_in": prompts[prompt]}, {"sound": sound})
        sound = run.tensors(key)["sound"]
        keep(run.folder / key, sound, model.sample_rate, prompt)
        results.append(heard(ears, prompt, sound, model.sample_rate))
        say(f"[{number + 1}/{len(prompts)}] {' | '.join(results[-1].row())}")
    return results


@torch.inference_mode()
def heard(ears: Yamnet, prompt: str, sound: torch.Tensor, rate: int) -> Heard:
    """What a sound [1, samples] is heard as."""
    said = ears.windows(sound, rate)
    scores = said["logits"][0].sigmoid()
    loudest = scores.topk(LOUDEST)
    names = tuple((ears.names[i], float(score)) for score, i in zip(*loudest, strict=True))
    order = list(KINDS)
    kinds = {kind: bool(said["heard"][0, order.index(kind)]) for kind in kinds_of(prompt)}
    beyond = int((sound.abs() > 1).sum())
    return Heard(prompt, float(sound.abs().max()), beyond, sound_seam(sound[None], rate).score, names, kinds)


def keep(path: Path, sound: torch.Tensor, rate: int, title: str) -> None:
    """The sound, at most as loud as a file takes, and its spectrogram."""
    import soundfile
    from PIL import Image

    from ..nodes.decode.level import levelled
    from ..nodes.decode.spectrogram_picture import audio_spectrogram, spectrogram_picture

    whole, _ = levelled(sound[None], "limit")
    soundfile.write(path.with_suffix(".wav"), whole[0].T.numpy(), rate)
    picture = spectrogram_picture(audio_spectrogram(sound, rate), title)[0]
    Image.fromarray((picture * 255).round().byte().numpy()).save(path.with_suffix(".png"))


def write(folder: Path, results: list[Heard], command: str) -> Path:
    """The table as listening.md."""
    path = folder / "listening.md"
    lines = [f"`{command}`", "", *markdown_table(HEAD, [one.row() for one in results])]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
