"""Summary lines become docs/pocket_eval.md, docs/pocket_eval.jsonl and docs/pocket_spectrum.png."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import torch

from . import sweeps
from .methods import METHODS
from .protocol import Protocol
from .verdict import arm, is_sweep, verdicts

NAME, PICTURE, SWEEPS = "pocket_eval", "pocket_spectrum.png", "pocket_sweeps.png"
QUALITY = (
    ("recognised", "accuracy", "{:.1%}"),
    ("all windows", "accuracy_all", "{:.1%}"),
    ("FD", "fd_text", "{}"),
    ("FD / average", "fd_ratio", "{:.2f}"),
    ("FD∞", "fd_limit", "{:.3g}"),
    ("KD", "kd", "{:.3g}"),
    ("KL", "kl", "{:.3f}"),
    ("similarity", "similarity", "{:.4f}"),
    ("of views", "similarity_views", "{:.4f}"),
    ("within", "within", "{:.3f}"),
    ("between", "between", "{:.3f}"),
    ("windows evaluated", "evaluations", "{:.0f}"),
    ("CPU s per canvas", "seconds", "{:.1f}"),
)
EXPLAINED = """\
- **recognised**: windows of native length, centred on overlaps (single windows: all of them), whose class the
  classifier names; **all windows** adds the views themselves.
- **FD**: Fréchet distance on the classifier's penultimate features between those windows and equally many single
  windows of the same prompts, ± its standard error (jackknife over canvases); the line "single windows" compares two
  independent sets of them: the floor. **FD∞**: the same, extrapolated to infinitely many canvases (Chong and Forsyth,
  2020): windows of one canvas are alike, so fewer of them tell something new, which lifts FD. **KD**: kernel distance
  (KID's); the sets share their prompts, which puts it below 0. **KL**: of class posteriors, against a single window of
  the same prompt.
- **similarity**: mean cosine of the features of windows of one canvas that share no column; **of views**: of its
  views, which overlap.
- **within**: root-mean-square distance between the latents of the views of one canvas; **between**: between first
  views of one class from different seeds.
- **windows evaluated**: calls of the UNet on one window for one canvas, guided and unguided counted apart."""


def machine() -> str:
    """Processor, threads and torch."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    model = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
    return (
        f"{model or platform.machine()} ({platform.system()}), {torch.get_num_threads()} of {os.cpu_count()} cores, "
        f"torch {torch.__version__}"
    )


def write(folder: Path, lines: list[dict], protocols: list[Protocol], facts: dict) -> list[Path]:
    """All files; the picture of the sweeps only where there are some.

    facts: {"command", "machine", "classifier", "autocast" or None, "minutes"}.
    """
    page, raw, picture = folder / f"{NAME}.md", folder / f"{NAME}.jsonl", folder / PICTURE
    raw.write_text("".join(json.dumps(_rounded(line)) + "\n" for line in [{"facts": facts}, *lines]), encoding="utf-8")
    plain = [line for line in lines if not is_sweep(line)]
    draw(picture, plain, [p for p in protocols if not any(arm.swaps for arm in p.arms)])
    page.write_text(markdown(lines, protocols, facts), encoding="utf-8")
    swept = sweeps.draw(folder / SWEEPS, lines)
    return [page, raw, picture, *swept]


def _rounded(value):
    """Six significant digits: what comes after them changes with the number of threads."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list) else value


def markdown(lines: list[dict], protocols: list[Protocol], facts: dict) -> str:
    """The page."""
    known = facts["classifier"]
    text = [
        "# The pocket model, measured",
        "",
        f"Made by `{facts['command']}` on {facts['machine']}, in {facts['minutes']:.0f} minutes of generation.",
        "",
        f"The classifier saw real synthetic clips only; it recognises {known['held_out']:.1%} of {known['clips']} "
        f"held-out clips.{_autocast(facts['autocast'])}",
        "",
        EXPLAINED,
    ]
    for protocol in protocols:
        own = [line for line in lines if line["protocol"] == protocol.name]
        text += ["", f"## {protocol.title}", ""]
        text += _protocol(protocol, own) if own else ["No round was finished."]
    return "\n".join(text) + "\n"


def _autocast(found: dict | None) -> str:
    if found is None:
        return ""
    before, after = found["accuracy"]
    return (
        f" The UNet ran under bfloat16 autocast: float32 takes {found['ratio']:.1f} times its processor time; on one "
        f"window per class its latents differ by {found['difference']:.1%} of their spread (RMS), "
        f"{found['agree']:.0%} of the windows are given the same class, and {after:.0%} instead of {before:.0%} are "
        "recognised."
    )


def _protocol(protocol: Protocol, lines: list[dict]) -> list[str]:
    made, real = lines[:-1], lines[-1]
    single = made[0]
    text = [
        f"{protocol.steps} DDIM steps, eta {protocol.eta:g}, guidance {protocol.guidance:g}, rate {protocol.rate:g}, "
        f"swap interval {protocol.interval}; seeds: {single['seeds']}, windows per line: {single['windows']}.",
        "",
        *table(["", *(title for title, _, _ in QUALITY)], [_quality(line, made) for line in made]),
        "",
        f"Real held-out clips: {real['accuracy']:.1%} recognised, {real['vae_accuracy']:.1%} after the model's VAE "
        f"({real['clips']} clips); FD of the two {real['fd_vae']:.3g}, FD of single windows to real clips "
        f"{real['fd_single']:.3g} ({real['singles']} windows).",
        "",
        *table(["asked", "found", "reached"], [_verdict(v) for v in verdicts(made)]),
        "",
        "What this Fréchet distance sees of changes that are put into single windows on purpose:",
        "",
        *table(["change", "FD"], [[line["change"], f"{line['fd']:.3g}"] for line in real["controls"]]),
        "",
        f"High-frequency deficit of overlaps (top third of the frequencies, regions of {single['spectrum']['width']} "
        "columns), dB ± standard error: against the middles of the same canvases, relative to the lowest frequency as "
        "in Fig. 2(b) and absolute; and against the middles of single windows (for single windows: their own borders).",
        "",
        *table(
            ["", "relative", "absolute", "relative to single", "absolute to single"], [_deficits(line) for line in made]
        ),
    ]
    return text + _steps(made)


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]


def method_name(line: dict) -> str:
    title = METHODS[line["method"]].title
    swept = "".join(f", {name} {line[name]:g}" for name in ("rate", "interval") if name in line)
    return title if line["method"] == "single" else f"{title}, {line['overlap']:g}, {line['columns']} columns{swept}"


def _quality(line: dict, lines: list[dict]) -> list[str]:
    average = arm(lines, "average") or arm(lines, "average", 0.8)
    ratio = line["fd"] / average["fd"] if average else None
    values = dict(line, fd_ratio=ratio, fd_text=f"{line['fd']:.3g} ± {line['fd_error']:.2g}")
    return [
        method_name(line),
        *("–" if values.get(key) is None else form.format(values[key]) for _, key, form in QUALITY),
    ]


def _verdict(verdict) -> list[str]:
    return [verdict.asked, verdict.found, {True: "yes", False: "no", None: "–"}[verdict.reached]]


def _deficits(line: dict) -> list[str]:
    return [method_name(line)] + [
        _decibel(line["spectrum"].get(against), kind)
        for against in ("own", "single")
        for kind in ("relative", "absolute")
    ]


def _decibel(found: dict | None, kind: str) -> str:
    if found is None:
        return "–"
    error = found[f"{kind}_error"]
    return f"{found[kind]:+.2f}" + ("" if error is None else f" ± {error:.2f}")


def _steps(lines: list[dict]) -> list[str]:
    steps = sorted({int(k) for line in lines for k in line["spectrum"]["steps"]})
    if not steps:
        return []
    rows = []
    for line in lines:
        found = {int(k): part for k, part in line["spectrum"]["steps"].items()} | {"end": line["spectrum"].get("own")}
        if len(found) > 1:
            rows.append([method_name(line), *(_decibel(found.get(k), "absolute") for k in [*steps, "end"])])
    return [
        "",
        "The absolute deficit against the same canvases' middles before some steps, and at the end:",
        "",
        *table(["step", *map(str, steps), "end"], rows),
    ]


def draw(path: Path, lines: list[dict], protocols: list[Protocol]) -> None:
    """Fig. 2(b) by protocol: relative curves of overlaps, and what they lose against their canvases' middles."""
    from matplotlib.figure import Figure

    shown = [p for p in protocols if any(line["protocol"] == p.name for line in lines)]
    figure = Figure(figsize=(11, 3.8 * max(1, len(shown))), layout="constrained")
    axes = figure.subplots(max(1, len(shown)), 2, squeeze=False)
    for (curves, losses), protocol in zip(axes, shown, strict=False):
        for line in lines:
            if line["protocol"] == protocol.name and "spectrum" in line and "middle" in line["spectrum"]["curves"]:
                _curves(curves, losses, line)
        curves.set(title=protocol.title, ylabel="log amplitude, relative (dB)", xlabel="frequency (π)")
        losses.set(title="overlap minus middle", ylabel="log amplitude (dB)", xlabel="frequency (π)")
        losses.axhline(0, color="0.6", linewidth=0.8)
        for axis in (curves, losses):
            axis.grid(alpha=0.25)
            axis.legend(fontsize=7)
    figure.savefig(path, dpi=110)


def _curves(curves, losses, line: dict) -> None:
    overlap, middle = (torch.tensor(line["spectrum"]["curves"][name]) for name in ("overlap", "middle"))
    frequency = (torch.arange(len(overlap)) + 0.5) / len(overlap)  # the middle of each bin
    if line["method"] == "single":
        label, style = "single windows, borders", {"color": "0.5", "linestyle": ":"}
        curves.plot(frequency, middle - middle[0], color="black", label="single windows, middles")
    else:
        label, style = method_name(line), {}
    curves.plot(frequency, overlap - overlap[0], label=label, **style)
    losses.plot(frequency, overlap - middle, label=label, **style)
