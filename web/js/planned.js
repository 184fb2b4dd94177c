// The Subview Planner's own arithmetic: from what is typed on the node to a plan, with the model's facts.

import {planViews, sharedColumns} from "./plan.js"
import {saidBy} from "./said.js"
import {isLinked, widgetOf} from "./upstream.js"
import {say} from "./words.js"

const PAPER_VIEWS = {pixels: 6, seconds: 3}
const SHORT = {pixels: "px", seconds: "s", latent: "columns"}
const MOST_VIEWS = 2 ** 17 // nodes/joint/planner.py
const MOST_COLUMNS = 2 ** 22

// What is typed on a planner: {length, unit, view, overlap, loop}; where another node decides the length, `ran` is that
// of the last run in columns, 0 before any.
export function typed(node) {
    const value = name => widgetOf(node, name)?.value
    const values = {length: +value("length"), unit: value("unit"), view: +value("view"), overlap: +value("overlap"),
                    loop: Boolean(value("loop"))}
    const decided = ["latent", "length"].some(name => isLinked(node, name))
    return decided ? {...values, ran: saidBy(node).safa_plan?.[0]?.length ?? 0} : values
}

// {plan, unit, scale, notes} of what is typed, or {problem} or {wait}, a sentence each. facts: of the model, null where not known.
export function planOf(asked, facts) {
    if (facts?.problem) return facts
    if (asked.ran === 0) return {wait: say("The length comes from another node: the plan is drawn after a run.")}
    if (!facts) return guess(asked)
    const {length, view, overlap, loop, ran} = asked
    const unit = length || view ? asked.unit : "auto"
    if (!["auto", "latent", facts.unit].includes(unit)) {
        const values = {model: facts.model, its: facts.unit, unit}
        return {problem: say("{model} counts in {its}, but unit is {unit}; choose auto or latent.", values)}
    }
    const patch = facts.patch ?? 1
    const step = (unit === "latent" ? 1 : facts.scale) * patch
    const notes = []
    const columns = (value, name) => {
        const steps = stepsOf(value, step)
        const rounded = `${brief(steps * step)} ${say(SHORT[unit === "auto" ? facts.unit : unit])}`
        const apart = Math.abs(steps * step - value) > 1e-6 * value
        if (apart) notes.push(say("{name} {value} rounded to {rounded}", {name, value, rounded}))
        return steps * patch
    }
    const typedView = view ? columns(view, "view") : null
    const paper = () => paperLength(PAPER_VIEWS[facts.unit], typedView ?? facts.native_view, overlap, loop, patch)
    const whole = ran ?? (length ? columns(length, "length") : paper())
    const window = typedView ?? Math.min(facts.native_view, whole)
    if (whole < window) {
        const [canvas, one] = [whole, window].map(size => measure(size, facts.scale, facts.unit))
        const sentence = "{canvas} is less than one view, {view}: ask for more, or set a smaller view."
        return {problem: say(sentence, {canvas, view: one})}
    }
    const plan = planInPatches(whole, window, overlap, loop, patch)
    if (plan.count > MOST_VIEWS || plan.count * window > MOST_COLUMNS) {
        const sentence = "About {views} views are more than can be planned: choose a smaller length or overlap."
        return {problem: say(sentence, {views: plan.count})}
    }
    return drawn(plan, facts.unit, facts.scale, notes)
}

// Where nothing is known of the model: as if a view had so many columns, of which hundredths are whole numbers.
const GUESSED = 1000

function guess({length, unit, view, overlap, loop, ran}) {
    if (!view || !(length || ran)) return {wait: say("The model is not known before a run: type length and view to see a plan.")}
    const plan = planViews(Math.max(GUESSED, Math.round((ran || length) / view * GUESSED)), GUESSED, overlap, loop)
    const notes = [say("The model is not known before a run: drawn without whole columns")]
    return drawn(plan, unit === "auto" ? "latent" : unit, view / GUESSED, notes)
}

function drawn(plan, unit, scale, notes) {
    return typeof plan === "string" ? {problem: plan} : {plan, unit, scale, notes}
}

// `planViews` with views that begin with a patch.
export function planInPatches(length, view, overlap, loop, patch = 1) {
    const plan = planViews(Math.floor(length / patch), Math.floor(view / patch), overlap, loop)
    if (patch === 1 || typeof plan === "string") return plan
    const times = columns => columns * patch
    return {...plan, starts: plan.starts.map(times), overlaps: plan.overlaps.map(times), view: plan.view * patch, length: plan.length * patch}
}

// Columns that so many views cover at exactly this overlap: the planner's length where none is typed.
function paperLength(views, view, overlap, loop, patch) {
    const window = Math.floor(view / patch)
    const shared = sharedColumns(window, overlap)
    return patch * Math.max(window, views * (window - shared) + (loop ? 0 : shared))
}

// The whole number of steps nearest to a length, at least one; of two equally near, the even one, as in Python.
export function stepsOf(value, step) {
    const quotient = value / step
    const below = Math.floor(quotient)
    const even = below % 2 === 0 ? below : below + 1
    return Math.max(1, quotient - below === 0.5 ? even : Math.round(quotient))
}

export function brief(value) {
    return String(+value.toPrecision(5))
}

export function measure(columns, scale, unit) {
    return `${brief(columns * scale)} ${say(SHORT[unit])}`
}

// The plan in two lines, and what is to be told of it.
export function describe({plan, unit, scale, notes}) {
    const {count, view, length, loop, overlaps} = plan
    const [least, most] = overlaps.map(shared => (100 * shared / view).toFixed(1))
    const values = {
        views: count,
        view: measure(view, scale, unit),
        length: measure(length, scale, unit),
        overlap: most === least ? least : `${least}–${most}`,
        rival: planViews(length, view, 0.8, loop).count,
    }
    const s = count > 1 ? "s" : ""
    return [
        say(`{views} view${s} of {view} on {length}`, values) + (loop ? say(", loop") : ""),
        say(`overlap {overlap} %; {views} window${s} per step, MultiDiffusion {rival}`, values),
        ...notes,
    ]
}
