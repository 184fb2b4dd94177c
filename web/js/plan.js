// Where the views lie: `safa_core.plan.plan_views`, in the page. Numbers are latent columns.

const MOST = 4096 // views that are listed; a plan of more is only counted

// A plan {starts, count, view, length, loop, overlaps}; a sentence where the numbers are out of range.
export function planViews(length, view, overlap, loop) {
    if (view < 1) return `expected a view of at least 1 latent column, got ${view}`
    if (length < view) return `expected a length of at least one view (${view} latent columns), got ${length}`
    if (!(overlap >= 0 && overlap < 1)) return `expected an overlap from 0 to below 1, got ${overlap}`
    const step = view - sharedColumns(view, overlap)
    const count = loop ? Math.ceil(length / step) : Math.ceil((length - view + step) / step)
    const last = loop ? length : length - view
    const parts = loop ? count : Math.max(1, count - 1)
    const starts = Array.from({length: Math.min(count, MOST)}, (_, i) => Math.floor(i * last / parts))
    return {starts, count, view, length, loop, overlaps: overlapsOf(count, view, last, parts, loop)}
}

// The least columns that neighbours share; a float's rounding must not cost a column (0.07 * 100).
export function sharedColumns(view, overlap) {
    return Math.min(Math.ceil(overlap * view - 1e-6), view - 1)
}

// [least, most] columns that neighbours share; [0, 0] for a single view that shares none.
function overlapsOf(count, view, last, parts, loop) {
    if (count < 2 && !loop) return [0, 0]
    const step = last / parts
    return [view - Math.ceil(step), view - Math.floor(step)]
}
