"""A template of the host run in a real server: as it is, with SaFa, and each view by itself."""

import math
from dataclasses import dataclass

import safetensors.torch
import soundfile
import torch
from PIL import Image, ImageDraw

from safa_pack import run
from safa_pack.tests.host_templates import graphs
from safa_pack.tests.server import ComfyServer

STAND_INS = "stand_ins"
OUTPUTS = ("SaveImage", "SaveImageAdvanced", "SaveAudioMP3")
# to a megapixel, which is what a test has no time for
SCALING = dict.fromkeys(("FluxKontextImageScale", "ImageScaleToTotalPixels", "ImageScaleToMaxDimension"), "image")
AVERAGING = {"LatentApplyOperationCFG": "model"}  # guidance that reads means of the whole canvas
NOISY = ("lcm", "euler_ancestral", "dpmpp_2m_sde_gpu", "dpmpp_3m_sde_gpu")
OVERLAP = 0.25


class TemplateServer(ComfyServer):
    """A server that also has the stand-in nodes, with the tiny files and pictures of these templates.

    more: files that no template names, by folder/name, and what writes each.
    """

    def __init__(self, comfyui, base, templates, more=()):
        super().__init__(comfyui, base, "--force-fp32", "--whitelist-custom-nodes", run.PACK, STAND_INS)
        self.templates, self.more = templates, dict(more)

    def __enter__(self):
        folder = self.base / "custom_nodes"
        folder.mkdir(parents=True)
        (folder / STAND_INS).symlink_to(run.ROOT / "tests" / "host_templates" / STAND_INS, target_is_directory=True)
        written = {}
        for name, write in self.more.items():
            self._write(name, write, written)
        for template in self.templates:
            for name, write in template.files.items():
                self._write(name, write, written)
            if template.unit == "pixels":
                self._draw(template.view, template.across)
                self._draw(2 * template.view, template.across)
        return super().__enter__()

    def _write(self, name, write, written):
        """A file, once for all names that it has."""
        path = self.base / "models" / name
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if write in written:
            path.hardlink_to(written[write])
        else:
            written[write] = write(path)

    def _draw(self, width, height):
        """A picture of this size, the same in every square of it: a disc, and a stripe across it to be painted."""
        picture = Image.new("RGBA", (width, height), "teal")
        draw = ImageDraw.Draw(picture)
        for left in range(0, width, height):
            draw.ellipse((left + height // 4, height // 4, left + 3 * height // 4, 3 * height // 4), fill="orange")
        draw.rectangle((0, height * 7 // 16, width, height * 9 // 16), fill=(0, 0, 0, 0))
        (self.base / "input").mkdir(parents=True, exist_ok=True)
        picture.save(self.base / "input" / f"{width}x{height}.png")


@dataclass(frozen=True)
class Outcome:
    """size: of what the template made, with three views of overlap 0.25; expected: as planned.

    one_view: the largest difference of a canvas that is one view from the host's own run. separate: of two views
    without overlap from the host's runs of each, relative to the largest value; None where it cannot be said.
    """

    size: tuple
    expected: tuple
    one_view: float
    separate: float | None


class Failed(Exception):
    """The server could not run a prompt."""


def outcome(server, template):
    """What a template gives with SaFa in it, and beside the host's own runs."""
    found = template.graph or graphs.template(template.name, server.object_info())
    output = graphs.nodes_of(found, *OUTPUTS)[0]
    found = graphs.without(graphs.replaced(graphs.only(found, output), template.stand_ins), SCALING)
    view, unit = template.view, template.unit
    whole = template.prompt(found, 2 * view)
    made = _made(server, template, found)
    own = _latent(server, whole)
    once = _latent(server, graphs.with_safa(whole, False, view=2 * view, unit=unit))
    separate = None
    if not template.picture:
        joint = graphs.with_safa(_local(whole), False, view=view, unit=unit, overlap=0.0)
        separate = _separate(server, template, _local(template.prompt(found, view)), _latent(server, joint))
    return Outcome(*made, _difference(once, own), separate)


def _made(server, template, found):
    """(size, expected size) of what comes out with three views, the planner's own latent where there can be one."""
    if template.picture:
        length = 2 * template.view
        plan = {"overlap": 0.0}
    else:
        shared = math.ceil(OVERLAP * round(template.view / template.scale)) * template.scale
        length = 3 * template.view - 2 * shared
        plan = {"overlap": OVERLAP, "length": length, "height": template.across if template.unit == "pixels" else 0}
    prompt = template.prompt(found, 2 * template.view)
    prompt = graphs.with_safa(prompt, not template.picture, view=template.view, unit=template.unit, **plan)
    (file,) = _files(server, prompt)
    if template.unit == "pixels":
        with Image.open(file) as picture:
            return picture.size, (length, template.across)
    sound = soundfile.info(file)
    return (round(sound.duration, 1),), (round(length, 1),)


def _local(prompt):
    """A prompt without what a run of a part has no share of: noise that samplers draw on their way, and means."""
    prompt = graphs.without(prompt, AVERAGING)
    for node in prompt.values():
        if node["inputs"].get("sampler_name") in NOISY:
            node["inputs"]["sampler_name"] = "euler"
    return prompt


def _separate(server, template, prompt, joint):
    """The difference of a joint latent to the host's own runs of each view, side by side."""
    canvas = joint.shape[template.axis]
    views = []
    for start in (0, canvas // 2):
        noised = graphs.with_noise_of(prompt, canvas=canvas, start=start, axis=template.axis)
        views.append(_latent(server, noised))
    return _difference(joint, torch.cat(views, template.axis))


def _files(server, prompt):
    result = server.run(prompt)
    if result.error:
        error = result.error
        raise Failed(f"{error['node_type']}: {error['exception_message']}\n{''.join(error['traceback'][-3:])}")
    return server.files(result)


def _latent(server, prompt):
    """The latent of a prompt's last sampler."""
    output = graphs.nodes_of(prompt, *OUTPUTS)[0]
    prompt = graphs.with_latent_saved(prompt, "latent")
    del prompt[output]
    file = [path for path in _files(server, prompt) if path.suffix == ".latent"][0]
    return safetensors.torch.load_file(file)["latent_tensor"]


def _difference(made, expected):
    """The largest difference relative to the largest value."""
    if made.shape != expected.shape or not torch.isfinite(made).all():
        return math.inf
    return float((made - expected).abs().max() / expected.abs().max())
