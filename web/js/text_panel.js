// What a node said, as a line below its widgets; nothing while it has said nothing.

import {Panel, clauses} from "./panel.js"
import {saidBy} from "./said.js"

export const SPOKEN = 52 // pixels: three lines

export class TextPanel extends Panel {
    // height: in pixels, kept free; 0 for a node on which a text is rare, which then grows.
    constructor(node, height = 0) {
        super(node, "safa_text", height)
        this.element.classList.add("safa-text")
        this.element.style.maxHeight = `${SPOKEN}px` // a longer text is scrolled
        this.least = height
    }

    key() { return saidBy(this.node).safa_text?.[0] ?? "" }

    draw() {
        const text = this.key()
        this.element.textContent = clauses(text)
        this.element.title = text
        const height = text ? Math.max(this.least, SPOKEN) : this.least
        if (height === this.height) return
        this.height = height
        this.element.style.minHeight = `${height}px`
        this.makeRoom()
    }
}
