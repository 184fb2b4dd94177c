// The picture of Loop VAE Decode: a ring that is dragged or scrolled round without an end, a 2:1 picture as a sphere.

import {Panel, child, clauses} from "./panel.js"
import {saidBy} from "./said.js"
import {fileUrl} from "./sound.js"
import {say} from "./words.js"

const HEIGHT = 216
const SPHERE = new URL("../lib/pannellum/pannellum.mjs", import.meta.url) // no .js: the host would load it with the page
const STYLE = new URL("../lib/pannellum/pannellum.css", import.meta.url)
const STEP = 40 // pixels of an arrow key

export class RingViewer extends Panel {
    constructor(node) {
        super(node, "safa_ring", HEIGHT)
        this.offset = 0
        this.clip = 0
        this.url = ""
        this.round = false
        this.screen = child(this.element, "div", "safa-screen safa-ring", {tabIndex: 0, title: say("Drag, or click and scroll")})
        this.screen.dataset.captureWheel = true // the page zooms by the wheel elsewhere
        this.wait = child(this.screen, "div", "safa-wait", {textContent: say("The picture is shown here after a run.")})
        this.listen()
        const row = child(this.element, "div", "safa-controls")
        this.sphere = this.button(row, say("Sphere"), say("Look around in a 2:1 picture"), () => (this.round = !this.round))
        this.button(row, say("Full screen"), say("Escape ends it"), () => this.screen.requestFullscreen())
        this.next = this.button(row, "1 / 1", say("The next picture of the batch"), () => (this.clip += 1))
        this.text = child(this.element, "div", "safa-lines")
    }

    button(row, text, title, onclick) {
        return child(row, "button", "", {type: "button", textContent: text, title, onclick})
    }

    listen() {
        const screen = this.screen
        screen.addEventListener("pointerdown", event => {
            if (!this.viewer) screen.setPointerCapture(event.pointerId)
        })
        screen.addEventListener("pointermove", event => {
            if (!screen.hasPointerCapture(event.pointerId)) return
            const zoom = screen.getBoundingClientRect().width / (screen.offsetWidth || 1)
            this.move((this.across ? event.movementX : event.movementY) / zoom)
        })
        screen.addEventListener("wheel", event => {
            if (event.ctrlKey || event.metaKey || !screen.contains(document.activeElement)) return // the page's own zoom
            event.preventDefault()
            event.stopPropagation()
            if (!this.viewer) this.move(-(event.deltaX || event.deltaY))
        }, {passive: false})
        screen.addEventListener("keydown", event => {
            const steps = {ArrowLeft: STEP, ArrowUp: STEP, ArrowRight: -STEP, ArrowDown: -STEP}
            if (!(event.key in steps) || this.viewer) return
            this.move(steps[event.key])
            event.preventDefault()
            event.stopPropagation()
        })
    }

    get ring() { return saidBy(this.node).safa_ring?.[0] }

    get across() { return this.ring?.axis !== "height" }

    key() {
        return JSON.stringify([this.ring, saidBy(this.node).safa_text, this.clip, this.round, this.size])
    }

    draw() {
        const ring = this.ring
        const text = saidBy(this.node).safa_text?.[0] ?? ""
        this.text.textContent = clauses(text)
        this.text.title = text
        const images = ring?.images ?? []
        const url = images.length ? fileUrl(images[this.clip % images.length]) : ""
        this.next.hidden = images.length < 2
        this.next.textContent = `${1 + this.clip % (images.length || 1)} / ${images.length}`
        if (url !== this.url) this.load(url)
        const [width, height] = this.size ?? [0, 1]
        this.sphere.hidden = !(ring?.loop && this.across && Math.abs(width / height - 2) < 0.02)
        this.sphere.ariaPressed = this.round
        if (this.round && !this.sphere.hidden) this.openSphere()
        else this.closeSphere()
        this.place()
    }

    async load(url) {
        this.url = url
        this.size = null
        this.offset = 0
        this.closeSphere()
        this.wait.textContent = url ? "" : say("The picture is shown here after a run.")
        if (!url) return void (this.screen.style.backgroundImage = "")
        const image = new Image()
        image.src = url
        try {
            await image.decode()
        } catch {
            if (url === this.url) this.wait.textContent = say("The picture is no longer there; run again.")
            return
        }
        if (url !== this.url) return
        this.screen.style.backgroundImage = `url("${url}")`
        this.size = [image.naturalWidth, image.naturalHeight]
    }

    // How long the picture is on the screen, in pixels along its ring.
    get turn() {
        const [width, height] = this.size
        return this.across ? this.screen.clientHeight * width / height : this.screen.clientWidth * height / width
    }

    move(pixels) {
        if (!this.size) return
        this.offset += pixels
        this.place()
    }

    place() {
        if (!this.size) return
        const {style, clientWidth, clientHeight} = this.screen
        const room = this.across ? clientWidth : clientHeight
        if (this.ring.loop) this.offset %= this.turn
        else this.offset = Math.min(0, Math.max(room - this.turn, this.offset))
        style.backgroundRepeat = !this.ring.loop ? "no-repeat" : this.across ? "repeat-x" : "repeat-y"
        style.backgroundSize = this.across ? "auto 100%" : "100% auto"
        style.backgroundPosition = this.across ? `${this.offset}px 0` : `0 ${this.offset}px`
    }

    async openSphere() {
        if (this.viewer) return
        const holder = (this.viewer = child(this.screen, "div", "safa-sphere"))
        if (!document.querySelector(`link[href="${STYLE}"]`)) child(document.head, "link", "", {rel: "stylesheet", href: STYLE})
        await import(SPHERE)
        if (this.viewer !== holder) return
        const view = {type: "equirectangular", panorama: this.url, autoLoad: true, showFullscreenCtrl: false, hfov: 90}
        this.pannellum = window.pannellum.viewer(holder, view)
        this.pannellum.on("error", () => {
            this.round = false
            this.wait.textContent = say("This browser draws no sphere (WebGL is off).")
        })
    }

    closeSphere() {
        this.pannellum?.destroy()
        this.pannellum = null
        this.viewer?.remove()
        this.viewer = null
    }

    removed() { this.closeSphere() }
}
