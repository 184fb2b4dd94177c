// One widget of the pack's own on a node: an element that looks, ten times a second, whether what it shows has changed.
//
// Nothing has to be told: values, results, size, theme and tab may change in many ways, in either renderer.

const PAUSE = 100 // ms
const panels = new Set()
let looked = 0

function frame(now) {
    const due = now - looked >= PAUSE
    if (due) looked = now
    for (const panel of panels) {
        if (!panel.element.isConnected) continue
        if (due) panel.look()
        panel.frame()
    }
    if (panels.size) requestAnimationFrame(frame)
}

export class Panel {
    // height: in pixels, kept free on the node also before there is anything to show.
    constructor(node, name, height) {
        this.node = node
        this.height = height
        this.element = document.createElement("div")
        this.element.className = "safa-panel"
        this.element.style.minHeight = `${height}px`
        const options = {serialize: false, getMinHeight: () => this.height, margin: 6}
        this.widget = node.addDOMWidget(name, "safa_panel", this.element, options)
        this.widget.serialize = false
        this.widget.computeLayoutSize = () => ({minHeight: this.height, minWidth: 0})
        this.drawn = null
        this.makeRoom()
        const onRemoved = node.onRemoved
        node.onRemoved = (...args) => {
            panels.delete(this)
            this.removed()
            return onRemoved?.apply(node, args)
        }
        panels.add(this)
        if (panels.size === 1) requestAnimationFrame(frame)
    }

    // The page's own size of a new node was computed without this widget.
    makeRoom() {
        const [width, height] = this.node.computeSize()
        if (this.node.size[1] >= height) return
        this.node.setSize([Math.max(width, this.node.size[0]), height])
        this.node.setDirtyCanvas?.(true, true)
    }

    look() {
        const box = this.element.clientWidth + "x" + this.element.clientHeight
        const key = box + colour("--input-text", this.element) + this.key()
        if (key === this.drawn) return
        this.drawn = key
        this.draw()
    }

    // What the drawing depends on, as a string.
    key() { return "" }

    draw() {}

    // What moves by itself, at every frame of the screen.
    frame() {}

    removed() {}
}

export function colour(variable, element = document.body) {
    return getComputedStyle(element).getPropertyValue(variable).trim()
}

// A child of `parent` of this class; a tag, attributes, and what it does when it is clicked.
export function child(parent, tag, className, attributes = {}) {
    const element = document.createElement(tag)
    element.className = className
    Object.assign(element, attributes)
    parent.append(element)
    return element
}

// A canvas, empty and as sharp as the screen: its drawing context, and its size in CSS pixels.
export function sharp(canvas) {
    const width = canvas.clientWidth
    const height = canvas.clientHeight
    const dense = Math.max(1, window.devicePixelRatio) * 2 // the page magnifies nodes
    const size = [width, height].map(side => Math.max(1, Math.round(side * dense)))
    if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size
    const context = canvas.getContext("2d")
    context.setTransform(dense, 0, 0, dense, 0, 0)
    context.clearRect(0, 0, width, height)
    return {context, width, height}
}

// Text on a node: a line for each clause.
export function clauses(text) {
    return text.replaceAll("; ", "\n")
}
