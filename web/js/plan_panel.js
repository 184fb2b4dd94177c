// The plan on the Subview Planner, drawn while one types or drags.

import {Panel, child, colour, sharp} from "./panel.js"
import {brief, describe, planOf, typed} from "./planned.js"
import {factsFor} from "./facts.js"

export const VIEWS = ["#4a78c2", "#6d5bb8"] // nodes/palette.py
export const MIDDLE = "#3f8f6b"
export const OVERLAP = "#d98e32"
export const SEAM = "#c85a8a"
const HEIGHT = 168
const DRAWN = 600 // more views are thinner than a line: the share of their overlaps alone is drawn
const GAP = 3

export class PlanPanel extends Panel {
    constructor(node) {
        super(node, "safa_plan", HEIGHT)
        this.lines = child(this.element, "div", "safa-lines")
        this.canvas = child(this.element, "canvas", "safa-canvas")
    }

    key() {
        return JSON.stringify([typed(this.node), factsFor(this.node)])
    }

    draw() {
        const planned = planOf(typed(this.node), factsFor(this.node))
        const sentence = planned.problem ?? planned.wait
        const lines = sentence ? [sentence] : describe(planned)
        this.lines.replaceChildren(...lines.map(line => Object.assign(document.createElement("div"), {textContent: line})))
        this.lines.classList.toggle("safa-problem", Boolean(planned.problem))
        const {context, width, height} = sharp(this.canvas)
        if (planned.plan && height > 0) drawPlan(context, planned, width, height, colour("--input-text", this.element))
    }
}

// Views in lanes, below them what one view covers and what several share, and a ruler.
export function drawPlan(context, {plan, unit, scale}, width, height, ink) {
    const ruler = 16
    const cover = Math.min(12, height / 5)
    const room = height - ruler - cover - 2 * GAP
    const x = column => column / plan.length * width
    if (plan.count <= DRAWN) drawViews(context, plan, x, room)
    context.fillStyle = MIDDLE
    context.fillRect(0, room + GAP, width, cover)
    context.fillStyle = OVERLAP
    if (plan.count > DRAWN) context.fillRect(0, room + GAP, width, cover * plan.overlaps[0] / plan.view)
    else for (const [from, to] of overlapsOf(plan)) context.fillRect(x(from), room + GAP, Math.max(1, x(to) - x(from)), cover)
    if (plan.loop) {
        context.fillStyle = SEAM
        context.fillRect(0, 0, 2, room + GAP + cover)
        context.fillRect(width - 2, 0, 2, room + GAP + cover)
    }
    drawRuler(context, plan.length * scale, unit, width, height, ink)
}

function drawViews(context, plan, x, room) {
    const {starts, view, length, count} = plan
    const lanes = Math.min(count, Math.max(2, Math.ceil(view / (count > 1 ? starts[1] - starts[0] : view))))
    const bar = Math.max(2, room / lanes - GAP)
    context.font = "11px sans-serif"
    context.textAlign = "center"
    context.textBaseline = "middle"
    starts.forEach((start, i) => {
        const y = i % lanes * (room / lanes)
        for (const [from, to] of pieces(start, start + view, length)) {
            context.fillStyle = VIEWS[i % 2]
            context.fillRect(x(from) + 0.5, y, Math.max(1, x(to) - x(from) - 1), bar)
            if (bar < 11 || x(to) - x(from) < 16) continue
            context.fillStyle = "#fff"
            context.fillText(String(i + 1), (x(from) + x(to)) / 2, y + bar / 2)
        }
    })
}

// A stretch of columns on the canvas: two where it runs over the end of a ring.
function pieces(from, to, length) {
    return to <= length ? [[from, to]] : [[from, length], [0, to - length]]
}

// The columns that neighbours share, as stretches on the canvas.
export function overlapsOf({starts, count, view, length, loop}) {
    const found = []
    for (let i = 0; i < starts.length; i++) {
        const next = i + 1 < starts.length ? starts[i + 1] : loop && count === starts.length ? starts[0] + length : null
        if (next === null || next >= starts[i] + view) continue
        const from = next % length
        found.push(...pieces(from, from + starts[i] + view - next, length))
    }
    return found
}

function drawRuler(context, end, unit, width, height, ink) {
    const name = {pixels: " px", seconds: " s", latent: ""}[unit]
    context.fillStyle = ink
    context.font = "10px sans-serif"
    context.textBaseline = "bottom"
    const parts = width > 260 ? 4 : 2
    for (let i = 0; i <= parts; i++) {
        context.textAlign = i === 0 ? "left" : i === parts ? "right" : "center"
        context.fillText(brief(end * i / parts) + (i === parts ? name : ""), width * i / parts, height)
    }
}
