"""Each figure that is asked for, what came out, and whether it was reached."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """asked and found in words; reached is None where nothing can be said."""

    asked: str
    found: str
    reached: bool | None


def arm(lines: list[dict], method: str, overlap: float = 0.2) -> dict | None:
    """The first line of a method at an overlap, with the protocol's own rate and interval."""
    own = (line for line in lines if line.get("method") == method and not is_sweep(line))
    return next((line for line in own if line["overlap"] == overlap), None)


def is_sweep(line: dict) -> bool:
    """Whether the line is one point of a sweep over the rate or the interval."""
    return "rate" in line or "interval" in line


def verdicts(lines: list[dict]) -> list[Verdict]:
    """For one protocol's summary lines; what its arms cannot answer is left out."""
    single, safa, swap = (arm(lines, name) for name in ("single", "safa", "swap"))
    average, triangular, mad = (arm(lines, name) for name in ("average", "triangular", "mad"))
    found = []
    if single:
        found.append(_recognised(single))
    if single and safa:
        found.append(_long_ones(single, safa))
    if safa and average and triangular:
        found.append(_order(SaFa=safa, triangular=triangular, average=average))
        found.append(_ratio(safa, average))
        found.append(_spectrum(safa, average, "own", "relative"))
        # The reference changes SaFa's own middles: single windows are the reference that all methods share.
        found.extend(_spectrum(safa, average, against, "absolute") for against in ("own", "single"))
    if average and mad:
        found.append(_order(average=average, MAD=mad))
    if safa and swap:
        found.append(_similarity(safa, swap))
        found.append(_diversity(safa, swap))
    lengths = [line for line in lines if line.get("method") == "safa" and not is_sweep(line)]
    if len(lengths) > 1:
        found.extend(_lengths(lengths, name) for name in ("accuracy", "fd"))
    return found


def _recognised(single) -> Verdict:
    value = single["accuracy"]
    return Verdict("single windows recognised >= 85 %", f"{100 * value:.1f} %", value >= 0.85)


def _long_ones(single, safa) -> Verdict:
    drop = {name: 100 * (single["accuracy"] - safa[name]) for name in ("accuracy", "accuracy_all")}
    text = f"{drop['accuracy']:.1f} points on windows centred on overlaps, {drop['accuracy_all']:.1f} on all windows"
    return Verdict("SaFa's long ones at most 3 points below", text, max(drop.values()) <= 3)


def _order(**arms) -> Verdict:
    values = [line["fd"] for line in arms.values()]
    text = " / ".join(f"{value:.4g}" for value in values)
    return Verdict(f"Fréchet distance {' < '.join(arms)}", text, values == sorted(set(values)))


def _ratio(safa, average) -> Verdict:
    ratio = safa["fd"] / average["fd"]
    text = (
        f"{ratio:.2f} (extrapolated to infinitely many canvases: {safa['fd_limit']:.2g} and {average['fd_limit']:.2g})"
    )
    return Verdict("FD(SaFa) / FD(average) <= 0.60", text, ratio <= 0.60)


def _spectrum(safa, average, against, kind) -> Verdict:
    ours, theirs = safa["spectrum"][against], average["spectrum"][against]
    middles = {"own": "own middles", "single": "single windows' middles"}[against]
    asked = f"high-frequency deficit ({kind}, against {middles}) of SaFa <= 25 % of average's"
    error = theirs[f"{kind}_error"] or 0
    text = f"{ours[kind]:.2f} dB of {theirs[kind]:.2f} ± {error:.2f} dB"
    if theirs[kind] <= 2 * error:
        return Verdict(asked, text + ": average shows no deficit beyond two standard errors", None)
    share = ours[kind] / theirs[kind]
    return Verdict(asked, f"{text}: {100 * share:.0f} %", share <= 0.25)


def _similarity(safa, swap) -> Verdict:
    text = " against ".join(f"{line['similarity']:.4f} ± {line['similarity_error']:.4f}" for line in (safa, swap))
    return Verdict(
        "intra-view similarity with the reference swap above without it", text, safa["similarity"] > swap["similarity"]
    )


def _diversity(safa, swap) -> Verdict:
    text = ", ".join(
        f"{words} {safa[name]:.3f} against {swap[name]:.3f}"
        for name, words in (("within", "between views"), ("between", "between seeds"))
        if safa[name] is not None
    )
    return Verdict("diversity kept: RMS distance of latents, with the reference swap against without it", text, None)


def _lengths(lines, name) -> Verdict:
    values = [line[name] for line in lines]
    apart = max(values) / min(values) - 1 if min(values) > 0 else float("inf")
    text = f"{' / '.join(f'{value:.3g}' for value in values)}: {100 * apart:.1f} %"
    words = {"accuracy": "accuracy", "fd": "Fréchet distance"}[name]
    return Verdict(f"{words} of all lengths within 5 %", text, apart <= 0.05)
