"""Plans for hypothesis: those that `plan_views` makes, and uneven ones that a script may build by hand."""

from itertools import accumulate

from hypothesis import strategies as st

from safa_pack.safa_core import ViewPlan, plan_views

PER_MILLE = st.sampled_from([0, 1, 100, 200, 250, 333, 500, 501, 667, 800, 900, 990, 999]) | st.integers(0, 999)


@st.composite
def requests(draw, longest_view=24):
    """What somebody may ask `plan_views` for: (length, view, overlap in thousandths, loop)."""
    view = draw(st.integers(1, longest_view))
    length = view + draw(st.integers(0, 4 * view))
    return length, view, draw(PER_MILLE), draw(st.booleans())


def even_plans():
    """Plans of `plan_views`."""
    return requests().map(lambda r: plan_views(r[0], r[1], r[2] / 1000, r[3]))


@st.composite
def uneven_plans(draw):
    """ViewPlans with any steps between views that leave no gap."""
    view, loop = draw(st.integers(1, 12)), draw(st.booleans())
    steps = draw(st.lists(st.integers(1, view), min_size=1, max_size=8))
    if not loop:
        starts = tuple(accumulate(steps, initial=0))
        return ViewPlan(starts, view, starts[-1] + view)
    while sum(steps) < view:
        steps.append(draw(st.integers(1, view)))
    first = draw(st.integers(0, steps[-1] - 1))
    return ViewPlan(tuple(accumulate(steps[:-1], initial=first)), view, sum(steps), loop=True)


def plans():
    """Both kinds."""
    return even_plans() | uneven_plans()


def shown(plan):
    """For each canvas column the places [(view, its own column)] that show it, earliest view first, by counting."""
    places = [[] for _ in range(plan.length)]
    for p in reversed(range(plan.view)):
        for i, start in enumerate(plan.starts):
            places[(start + p) % plan.length].append((i, p))
    return places
