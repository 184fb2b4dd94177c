"""Algorithm 1 written out column by column from the paper, for overlaps below one half. Slow, and on purpose."""

import torch


def eq9(n, w):
    """v_m of Eq. 9 as integers, i from 1."""
    return [int(0.5 * (1 - (-1) ** ((i - 1) // w))) for i in range(1, n + 1)]


def literal_algorithm_1(step, canvas, reference, starts, view, steps, loop, w, guided=0, w_refer=1, by_rows=False):
    """J_0 and X^0_0. canvas [B, C, rows, L], reference [B, C, rows, view]; step(window, k, i) is the model's step.

    i is the view's number from 0, the reference's is len(starts). by_rows is the axis of the reference swap.
    """
    length, n = canvas.shape[-1], len(starts)
    columns = [[(s + p) % length for p in range(view)] for s in starts]
    pairs = [(i, (i + 1) % n) for i in range(n if loop else n - 1)]
    overlap = {}
    for i, j in pairs:
        gap = (starts[j] - starts[i]) % length
        overlap[i, j] = [columns[i][p] for p in range(gap, view)] if n > 1 else []
    for k in range(steps):
        x = [step(canvas[..., columns[i]], k, i) for i in range(n)]
        x0 = step(reference, k, n) if reference is not None else None
        new = torch.full_like(canvas, float("nan"))
        for i in range(n):
            shared = {c for pair, cs in overlap.items() if i in pair for c in cs}
            middle = [p for p in range(view) if columns[i][p] not in shared]
            for p in middle:
                new[..., columns[i][p]] = x[i][..., p]
            if k < guided:
                _follow(new, x0, [columns[i][p] for p in middle], middle, w_refer, by_rows)
        for (i, j), shared in overlap.items():
            v = eq9(len(shared), w)
            for m, c in enumerate(shared):
                right, left = x[i][..., columns[i].index(c)], x[j][..., columns[j].index(c)]
                new[..., c] = left if v[m] else right
        canvas, reference = new, x0
    return canvas, reference


def _follow(new, x0, canvas_columns, reference_columns, w, by_rows):
    rows = new.shape[-2]
    v = eq9(rows if by_rows else len(canvas_columns), w)
    for m, (c, p) in enumerate(zip(canvas_columns, reference_columns, strict=True)):
        for r in range(rows):
            if v[r] if by_rows else v[m]:
                new[..., r, c] = x0[..., r, p]
