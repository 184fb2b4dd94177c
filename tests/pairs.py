"""A few cases in the place of a full product, for settings whose own effect is proven elsewhere."""

from itertools import combinations, product


def pairwise(*factors):
    """Cases, one value of each factor, in which any two values of two factors meet in at least one.

    Greedy and deterministic: of the full product always the case with the most pairs that have not met yet.
    """
    choices = [tuple(range(len(factor))) for factor in map(list, factors)]
    cases = list(product(*choices))
    left = {pair for case in cases for pair in pairs_of(case)}
    cover = []
    while left:
        best = max(cases, key=lambda case: len(left & pairs_of(case)))
        left -= pairs_of(best)
        cover.append(best)
    values = [list(factor) for factor in factors]
    return [tuple(values[i][k] for i, k in enumerate(case)) for case in sorted(cover)]


def pairs_of(case):
    """{((factor, value), (factor, value)), ...} by number."""
    return set(combinations(enumerate(case), 2))
