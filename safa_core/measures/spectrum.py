"""Fig. 2(b) of the paper for any canvas: what overlaps lack against middles, and steps at the views' borders."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..plan import ViewPlan

FLOOR = 1e-12  # amplitude
LEAST = 6  # places across a region: three frequencies, so that there is a top third
REACH = 8  # columns on either side that the step at a border is compared with


def planes(latent: torch.Tensor, axis: int) -> torch.Tensor:
    """A latent [B, C, ...] with long axis `axis` as pictures [N, C, rows, length], on the CPU.

    Each frame of a video is a picture, those of one batch item in a row. 1-D latents have one row.
    Fewer than LEAST rows hold no spectrum of their own and count as channels.
    """
    canvas = latent.to("cpu", torch.promote_types(latent.dtype, torch.float32)).movedim(axis, -1)
    rows = canvas.shape[-2] if canvas.ndim > 3 else 1
    canvas = canvas.reshape(*canvas.shape[:2], -1, rows, canvas.shape[-1]).movedim(2, 1).flatten(0, 1)
    return canvas if rows >= LEAST else canvas.flatten(1, 2).unsqueeze(2)


def overlap_regions(plan: ViewPlan) -> list[tuple[int, int]]:
    """(first column, width) of what each view shares with the next one (Eq. 2)."""
    following = list(plan.starts[1:])
    if plan.loop:
        following.append(plan.starts[0])
    return [(start, shared) for start, shared in zip(following, plan.overlaps, strict=True) if shared]


def middle_regions(plan: ViewPlan) -> list[tuple[int, int]]:
    """(first column, width) of what one view alone covers (Eq. 3).

    At overlaps above one half a loop has none, and an open canvas its two ends only.
    """
    alone = plan.coverage == 1
    regions = []
    for i, start in enumerate(plan.starts):
        columns = torch.nonzero(alone[plan.indices(i)]).flatten()
        if len(columns):
            regions.append(((start + int(columns[0])) % plan.length, len(columns)))
    return regions


def narrowest_region(plan: ViewPlan) -> int:
    """Columns of the narrowest overlap or middle, for regions of equal width."""
    return min(width for _, width in overlap_regions(plan) + middle_regions(plan))


def compared_width(plan: ViewPlan) -> int:
    """Columns of the compared regions; where the middles have less than LEAST, of the overlaps alone; 0 for none."""
    overlaps = [width for _, width in overlap_regions(plan)]
    if not overlaps or min(overlaps) < LEAST:
        return 0
    narrowest = narrowest_region(plan)
    return narrowest if narrowest >= LEAST else min(overlaps)


def centred(regions: list[tuple[int, int]], width: int, length: int) -> list[int]:
    """First columns of pieces of `width` columns in the middle of each region, around the ring."""
    return [(start + (size - width) // 2) % length for start, size in regions]


def cut(canvas: torch.Tensor, starts: list[int], width: int) -> torch.Tensor:
    """Pieces of a canvas [B, C, F, L], around the ring: [B, len(starts), C, F, width]."""
    columns = (torch.tensor(starts).unsqueeze(1) + torch.arange(width)) % canvas.shape[-1]
    return canvas[..., columns.flatten()].unflatten(-1, columns.shape).movedim(-2, 1)


def radial_spectrum(pieces: torch.Tensor) -> torch.Tensor:
    """Log-amplitude in dB over radial frequency: [N, C, F, T] -> [N, bins], float64.

    A 2-D FFT of every channel under a Hann window (a cut piece does not join its ends), 20 log10 of the amplitude,
    averaged over rings of equal frequency and then over channels. Bin k holds the frequencies from k / bins to
    (k + 1) / bins of Nyquist, in latent cells, Nyquist itself in the last; the bins are as wide as the shorter side
    resolves, a side of one place aside. What lies beyond Nyquist's circle is left out.
    """
    height, width = pieces.shape[-2:]
    amplitude = torch.fft.fft2(pieces.double() * torch.outer(_hann(height), _hann(width))).abs()
    decibel = 20 * torch.log10(amplitude.clamp_min(FLOOR)).flatten(-2)
    bins = min(n for n in (height, width) if n > 1) // 2
    vertical = torch.fft.fftfreq(height, dtype=torch.float64)
    horizontal = torch.fft.fftfreq(width, dtype=torch.float64)
    radius = torch.hypot(*torch.meshgrid(vertical, horizontal, indexing="ij")).flatten()
    inside = torch.nonzero(radius <= 0.5).flatten()
    # 49 * (1 / 49) is 0.9999999999999999: a float's rounding must not move a frequency to the bin below
    ring = (radius[inside] * 2 * bins + 1e-9).long().clamp_max(bins - 1)
    total = decibel.new_zeros(*decibel.shape[:-1], bins).index_add_(-1, ring, decibel[..., inside])
    return (total / torch.bincount(ring, minlength=bins)).mean(1)


def _hann(places: int) -> torch.Tensor:
    """A Hann window [places] without its two zeros."""
    return torch.hann_window(places + 2, periodic=False, dtype=torch.float64)[1:-1]


def region_spectra(canvas: torch.Tensor, plan: ViewPlan, width: int) -> dict[str, torch.Tensor]:
    """Spectra of the regions' centres, `width` columns each, of a canvas [N, C, F, length]: [N, bins] dB by kind.

    "overlap" and "middle", each where the plan has regions as wide as that; averaged over the regions of a kind.
    """
    spectra = {}
    for kind, regions in (("overlap", overlap_regions(plan)), ("middle", middle_regions(plan))):
        if regions and min(size for _, size in regions) >= width:
            pieces = cut(canvas, centred(regions, width, plan.length), width)
            spectra[kind] = radial_spectrum(pieces.flatten(0, 1)).unflatten(0, pieces.shape[:2]).mean(1)
    return spectra


def relative(spectrum: torch.Tensor) -> torch.Tensor:
    """Curves [..., bins] relative to their lowest frequency, as Fig. 2(b) draws them."""
    return spectrum - spectrum[..., :1]


def top_third(bins: int) -> slice:
    """The frequencies from two thirds of Nyquist on."""
    return slice(-(-2 * bins // 3), bins)


def high_frequency_deficit(reference: torch.Tensor, spectrum: torch.Tensor) -> torch.Tensor:
    """How far `spectrum` lies below `reference`, in dB, on average over the top third: [..., bins] -> [...]."""
    return (reference - spectrum)[..., top_third(spectrum.shape[-1])].mean(-1)


def view_borders(plan: ViewPlan) -> list[int]:
    """Columns where a view begins or the one before has just ended, ascending.

    Column 0 is none of them: there an open canvas begins, and a loop closes.
    """
    ends = {start % plan.length for start in plan.starts} | {(s + plan.view) % plan.length for s in plan.starts}
    return sorted(ends - {0})


@dataclass(frozen=True)
class Seams:
    """Steps at the views' borders relative to those beside them: 1 is no seam, whatever the latent's scale.

    score: of all borders but a loop's end, None without any. columns: the first column after each of these borders,
    scores: the score of each. closing: of a loop's end, where it meets its start; None on an open canvas.
    """

    score: float | None
    columns: tuple[int, ...]
    scores: tuple[float, ...]
    closing: float | None


def seams(canvas: torch.Tensor, plan: ViewPlan) -> Seams:
    """Find steps at the views' borders of a canvas [N, C, F, length].

    A step is the mean absolute difference of neighbouring columns. Each border's is divided by the mean of those up
    to REACH columns away that are no borders, so that neither loud passages nor the calmer inside of an average
    count; `score` is the mean step at all borders over the mean step beside them. Borders without such neighbours
    (views that begin at every column) are left out.
    """
    steps = torch.cat([canvas[..., :1] - canvas[..., -1:], canvas.diff(dim=-1)], -1).abs().double().mean((0, 1, 2))
    borders = [0, *view_borders(plan)] if plan.loop else view_borders(plan)
    places = torch.tensor(borders, dtype=torch.int64)
    calm = torch.ones(plan.length, dtype=torch.bool)
    calm[places] = False
    around = places.unsqueeze(1) + torch.arange(-REACH, REACH + 1)
    column = around % plan.length
    # no step leads into the first column of an open canvas
    counted = calm[column] if plan.loop else calm[column] & (around > 0) & (around < plan.length)
    known = counted.any(1)
    places, column, counted = places[known], column[known], counted[known]
    beside = (steps[column] * counted).sum(1) / counted.sum(1)
    at = steps[places]
    scores = _ratio(at, beside)
    inner = places > 0
    return Seams(
        score=float(_ratio(at[inner].mean(), beside[inner].mean())) if inner.any() else None,
        columns=tuple(places[inner].tolist()),
        scores=tuple(scores[inner].tolist()),
        closing=float(scores[0]) if plan.loop and not inner.all() else None,
    )


def _ratio(step: torch.Tensor, beside: torch.Tensor) -> torch.Tensor:
    """step / beside; 1 where nothing moves at all."""
    return torch.where((step == 0) & (beside == 0), 1.0, step / beside)


@dataclass(frozen=True)
class Measured:
    """Spectra and seams of the canvases of a batch.

    width: columns of the compared regions, 0 without spectra. overlap, middle: spectra [B, bins] in dB, None where
    there is no such region or one is too narrow. seams: of the whole batch.
    """

    width: int
    overlap: torch.Tensor | None
    middle: torch.Tensor | None
    seams: Seams

    def deficit(self, reference: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """High-frequency deficit of the overlaps in dB, [B] each, against the middles or `reference` [bins].

        "relative": of the curves as Fig. 2(b) draws them. "absolute": of the levels, so that lost variance counts.
        """
        against = self.middle if reference is None else reference
        return {
            "relative": high_frequency_deficit(relative(against), relative(self.overlap)),
            "absolute": high_frequency_deficit(against, self.overlap),
        }


def measure(latent: torch.Tensor, plan: ViewPlan, axis: int) -> Measured:
    """Spectra and seams of a latent [B, C, ...] whose long axis `axis` is as long as the plan."""
    canvas = planes(latent, axis)
    width = compared_width(plan)
    if not width:
        return Measured(0, None, None, seams(canvas, plan))
    spectra = {
        kind: spectrum.unflatten(0, (latent.shape[0], -1)).mean(1)
        for kind, spectrum in region_spectra(canvas, plan, width).items()
    }
    return Measured(width, spectra["overlap"], spectra.get("middle"), seams(canvas, plan))


def centre_spectrum(latent: torch.Tensor, axis: int, width: int) -> torch.Tensor:
    """Spectrum [bins] in dB of the central `width` columns of a latent [B, C, ...], averaged over its batch."""
    canvas = planes(latent, axis)
    first = (canvas.shape[-1] - width) // 2
    return radial_spectrum(canvas[..., first : first + width]).mean(0)
