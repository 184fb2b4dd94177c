"""What the Fréchet distance sees: a known loss, and a known lack of diversity, put into single windows on purpose."""

from __future__ import annotations

import json

import torch

from .figures import gather, region_width, single_sets
from .metrics import frechet_distance
from .model import PocketModel
from .protocol import Protocol
from .store import Run
from .work import seams

LOSSES = (3.0, 6.0, 12.0)  # dB; averaging two independent noises loses 3


def dampen(latents: torch.Tensor, first: int, width: int, decibel: float) -> torch.Tensor:
    """Latents [N, C, F, T] whose detail, what a 3 x 3 mean leaves out, is so much weaker in `width` columns."""
    smooth = torch.nn.functional.avg_pool2d(latents, 3, 1, 1, count_include_pad=False)
    columns = slice(first, first + width)
    changed = latents.clone()
    changed[..., columns] = (smooth + (latents - smooth) * 10 ** (-decibel / 20))[..., columns]
    return changed


def controls(run: Run, protocol: Protocol, model: PocketModel, classifier, chunk: int) -> list[dict]:
    """[{"change", "fd"}]: Fréchet distances of changed single windows to the other set of them; kept in the run."""
    mades = gather(run, protocol, model, chunk)
    single = mades.get("single")
    if single is None:
        return []
    path, windows = run.folder / "controls.json", len(single.canvas)
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if kept.get("windows") != windows:
        kept = {"windows": windows, "found": _controls(single, mades, model, classifier, seams(protocol, model))}
        path.write_text(json.dumps(kept), encoding="utf-8")
    return kept["found"]


def _controls(single, mades, model: PocketModel, classifier, count: int) -> list[dict]:
    (features, _), (other, _) = single_sets(single, count)
    latents = single.canvas.unflatten(0, (-1, 2, count))[:, 1].flatten(0, 1)
    width = region_width(mades)
    whole = latents.shape[-1]
    places = [(f"{loss:g} dB of detail lost in {width} columns", width, loss) for loss in LOSSES]
    places.append((f"{LOSSES[0]:g} dB of detail lost everywhere", whole, LOSSES[0]))
    found = [{"change": "none", "fd": frechet_distance(other, features)}]
    for name, columns, loss in places:
        changed = dampen(latents, (whole - columns) // 2, columns, loss)
        found.append({"change": name, "fd": frechet_distance(classifier.judge(model.to_mel(changed))[0], features)})
    alike = other.unflatten(0, (-1, count))[:, :1].expand(-1, count, -1).flatten(0, 1)
    return [*found, {"change": f"{count} copies of one window per prompt", "fd": frechet_distance(alike, features)}]
