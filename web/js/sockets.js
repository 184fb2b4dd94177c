// A colour for each of the pack's sockets and its links, in either renderer and any theme.

export const COLOURS = {SAFA_PLAN: "#d98e32", SAFA_JOIN: "#4a90d9", SAFA_GUIDE: "#a06bd6", SAFA_STEPS: "#3fa37a"}
const SCORE = "#d6558f" // of a FLOAT, which has no colour of its own

// The host sets the colour of every type that a theme does not know to nothing, whenever a theme is chosen.
function keep(colours, type) {
    Object.defineProperty(colours, type, {get: () => COLOURS[type], set() {}, enumerable: true, configurable: true})
}

export function colourSockets(app, LGraphCanvas) {
    for (const type of Object.keys(COLOURS)) {
        keep(LGraphCanvas.link_type_colors, type)
        keep(app.canvas.default_connection_color_byType, type)
    }
    const rules = Object.entries(COLOURS).map(([type, value]) => `--color-datatype-${type}: ${value};`)
    const style = document.createElement("style")
    style.textContent = `:root { ${rules.join(" ")} }`
    document.head.append(style)
}

export function colourScore(node) {
    for (const output of node.outputs ?? []) {
        if (output.name !== "score") continue
        output.color_on = SCORE
        output.color_off = SCORE
    }
}
