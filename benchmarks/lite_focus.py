"""What LiteFocus saves: one window as long as the sound, on a slim AudioLDM2, without and with the node.

    python run.py bench lite_focus [--seconds 80] [--width 64] [--layers 1] [--rho 0 0.1 0.3 1] [--json FILE]

The UNet is AudioLDM2's own class with its levels and kinds of attention and random weights; as published it has a width
of 256 (channels at downsampling 2) and 2 layers per block. One sampling step of each variant in turn, through the
host's sampling, so the ratio does not depend on what else the machine does. On a CPU seconds are those of the process
(--threads, one by default), which other processes do not lengthen. Columns:

rho       share of random places; "plain" is the model without the node
s/step    seconds per step, median of the rounds
ratio     plain over this, median of the rounds
keys      places that a query sees at the (first) chosen level

Above the table: what part of a plain step the self-attention layers take, with their projections, at the chosen levels
and at all; and how much of a step is left at best, with attention for nothing.
"""

import json
import math
import statistics
from pathlib import Path

from ..bootstrap import host
from .common import clock, machine, parser

PUBLISHED = (0.5, 1.0, 1.5, 2.5)  # channels of the levels, of their width at downsampling 2
ROWS, RATE = 16, 25  # of AudioLDM2's latent, which has 25 columns a second


def slim_audioldm2(width: int, layers: int):
    """The host's MODEL; heads as wide as in the published UNet."""
    import torch

    from safa_pack.nodes.audio.model import host_model
    from safa_pack.nodes.audio.parts import AudioParts, Mel
    from safa_pack.nodes.audio.unet import AudioLDM2UNet
    from safa_pack.tests import tiny_audio

    torch.manual_seed(0)
    unet = AudioLDM2UNet(
        sample_size=(256, ROWS),
        in_channels=8,
        out_channels=8,
        block_out_channels=tuple(int(share * width) for share in PUBLISHED),
        layers_per_block=layers,
        norm_num_groups=min(32, width // 4),
        down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * 3),
        up_block_types=(*["CrossAttnUpBlock2D"] * 3, "UpBlock2D"),
        cross_attention_dim=((None, 768, 1024),) * 4,
        attention_head_dim=max(1, width // 32),  # the number of heads, whatever its name
    )
    parts = AudioParts("slim", unet.eval(), None, None, tiny_audio.vae(1), None, tiny_audio.SCHEDULER, Mel())
    return host_model(parts)


def prompt():
    """Conditioning of the published widths: GPT-2's eight tokens and a few of T5."""
    import torch

    from safa_pack.nodes.audio.text import GENERATED

    return [[torch.randn(1, 8, 768), {GENERATED: torch.randn(1, 12, 1024)}]]


def step(model, columns: int) -> float:
    """Seconds of one sampling step without CFG on noise [1, 8, columns, 16]."""
    import torch

    import comfy.sample

    latent, words = torch.zeros(1, 8, columns, ROWS), prompt()
    noise = comfy.sample.prepare_noise(latent, 0)
    begin = clock()
    comfy.sample.sample(model, noise, 1, 1.0, "euler", "normal", words, words, latent, disable_pbar=True, seed=0)
    return clock() - begin


class SelfAttentionClock:
    """Seconds spent in the self-attention layers of a diffusers UNet, by downsampling."""

    def __init__(self, unet):
        from safa_pack.nodes.rivals.lite_focus import diffusers_levels

        self.seconds, self.handles = {}, []
        for name, factor in diffusers_levels(unet).items():
            layer = unet.get_submodule(name)
            self.handles.append(layer.register_forward_pre_hook(self._begin, with_kwargs=True))
            self.handles.append(layer.register_forward_hook(self._end(factor), with_kwargs=True))

    def _begin(self, layer, args, kwargs):
        self.begun = clock()

    def _end(self, factor):
        def hook(layer, args, kwargs, out):
            if kwargs.get("encoder_hidden_states") is None:
                self.seconds[factor] = self.seconds.get(factor, 0.0) + clock() - self.begun

        return hook

    def close(self):
        for handle in self.handles:
            handle.remove()


def measure(options) -> dict:
    import torch

    from safa_pack.nodes.rivals.lite_focus import SaFaLiteFocus

    torch.set_num_threads(options.threads)
    columns, plain = round(options.seconds * RATE), slim_audioldm2(options.width, options.layers)
    variants = {"plain": plain}
    for rho in options.rho:
        variants[f"{rho:g}"] = SaFaLiteFocus.execute(plain, rho, options.levels, 0).result[0]
    for model in variants.values():
        step(model, 64)
    inside = SelfAttentionClock(plain.model.diffusion_model)
    whole = step(plain, columns)
    inside.close()
    chosen = inside.seconds if options.levels == "all" else map(int, options.levels.split(","))
    seconds = {name: [] for name in variants}
    for _ in range(options.rounds):
        for name, model in variants.items():
            seconds[name].append(step(model, columns))
    first = 2 if options.levels == "all" else int(options.levels.split(",")[0])
    frames, bins = math.ceil(columns / first), math.ceil(ROWS / first)
    rows = {}
    for name, taken in seconds.items():
        rows[name] = {
            "seconds": statistics.median(taken),
            "ratio": statistics.median(p / t for p, t in zip(seconds["plain"], taken, strict=True)),
            "keys": frames * bins if name == "plain" else frames + int(float(name) * frames * bins),
        }
    return {
        "share": sum(inside.seconds[factor] for factor in chosen) / whole,
        "share of all": sum(inside.seconds.values()) / whole,
        "columns": columns,
        "parameters": sum(p.numel() for p in plain.model.diffusion_model.parameters()),
        "rows": rows,
        "machine": machine(),
    }


def report(options, found: dict) -> None:
    print(
        f"Slim AudioLDM2, width {options.width}, {options.layers} layers per block, {found['parameters'] / 1e6:.1f} M "
        f"weights, {options.seconds:g} s, latent [1, 8, {found['columns']}, {ROWS}]; {found['machine']}"
    )
    print(
        f"Self-attention at downsampling {options.levels}: {found['share']:.1%} of a plain step, at all levels "
        f"{found['share of all']:.1%}; at best {1 / (1 - found['share']):.2f}x.\n"
    )
    print("| rho | s/step | ratio | keys |\n|---|--:|--:|--:|")
    for name, row in found["rows"].items():
        print(f"| {name} | {row['seconds']:.3f} | {row['ratio']:.3f} | {row['keys']} |")


def main(argv: list[str]) -> None:
    command = parser("lite_focus", __doc__)
    command.add_argument("--seconds", type=float, default=80, help="length of the sound")
    command.add_argument("--width", type=int, default=64, help="channels at downsampling 2, a multiple of 32")
    command.add_argument("--layers", type=int, default=1, help="per block")
    command.add_argument("--rho", type=float, nargs="+", default=[0.0, 0.1, 0.3, 1.0])
    command.add_argument("--levels", default="2", help="as in the node")
    command.add_argument("--rounds", type=int, default=3)
    command.add_argument("--threads", type=int, default=1)
    command.add_argument("--json", type=Path, help="also write the figures to this file")
    options = command.parse_args(argv)
    host()
    found = measure(options)
    report(options, found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
