// The player of Save Loop, Mel Decode and Roll by Half: a loop without a gap over its spectrogram.

import {Panel, child, clauses, sharp} from "./panel.js"
import {OVERLAP, SEAM, VIEWS, overlapsOf} from "./plan_panel.js"
import {planInPatches} from "./planned.js"
import {saidBy} from "./said.js"
import {contextOf, keepVolume, loadSound, placeAfter, sourceOf, volume} from "./sound.js"
import {spectrogram} from "./spectrogram.js"
import {nearest, widgetOf} from "./upstream.js"
import {say} from "./words.js"

const HEIGHT = 216
const BEFORE = 2 // seconds before the seam from which "seam" plays
let playing = null // the one player that is heard

export class LoopPlayer extends Panel {
    constructor(node) {
        super(node, "safa_player", HEIGHT)
        this.shown = {views: true, overlaps: true}
        this.clip = 0
        this.file = ""
        this.place = 0
        this.buildScreen()
        this.buildControls()
        this.text = child(this.element, "div", "safa-lines")
        this.hideHost(true) // the new renderer looks once, when the node is made
        this.enable()
    }

    buildScreen() {
        this.screen = child(this.element, "div", "safa-screen", {tabIndex: 0, title: say("Click to go there; space plays")})
        this.picture = child(this.screen, "canvas", "")
        this.line = child(this.screen, "canvas", "")
        this.wait = child(this.screen, "div", "safa-wait")
        this.screen.addEventListener("pointerdown", event => {
            const box = this.screen.getBoundingClientRect()
            if (this.sound?.buffer) this.go((event.clientX - box.left) / box.width * this.sound.buffer.duration)
        })
        this.screen.addEventListener("keydown", event => {
            const steps = {ArrowLeft: -1, ArrowRight: 1}
            if (event.key === " ") this.toggle()
            else if (event.key in steps) this.go(this.place + steps[event.key])
            else return
            event.preventDefault()
            event.stopPropagation()
        })
    }

    buildControls() {
        const row = child(this.element, "div", "safa-controls")
        this.play = this.button(row, "▶", say("Play or pause"), () => this.toggle())
        this.again = this.button(row, "⟳", say("Play it round and round"), () => this.setLoop(!this.looped))
        this.time = child(row, "span", "safa-time")
        this.level = child(row, "input", "", {type: "range", min: 0, max: 1, step: 0.01, value: volume(), title: say("Volume")})
        this.level.addEventListener("input", () => {
            keepVolume(this.level.value)
            if (this.gain) this.gain.gain.value = +this.level.value
        })
        const marks = child(this.element, "div", "safa-controls")
        this.atSeam = this.button(marks, say("Seam"), say("Play from {seconds} seconds before the seam", {seconds: BEFORE}), () => this.hearSeam())
        for (const [name, text] of [["views", "Views"], ["overlaps", "Overlaps"]]) {
            const button = this.button(marks, say(text), say(`Show the plan's ${name}`), () => {
                this.shown[name] = !this.shown[name]
                button.ariaPressed = this.shown[name]
            })
            button.ariaPressed = true
        }
        this.next = this.button(marks, "1 / 1", say("The next clip of the batch"), () => (this.clip += 1))
    }

    button(row, text, title, onclick) {
        return child(row, "button", "", {type: "button", textContent: text, title, onclick})
    }

    get plan() {
        const planner = nearest(this.node, "SaFaSubviewPlanner")
        return planner ? saidBy(planner).safa_plan?.[0] : undefined
    }

    get rolled() {
        return this.node.type === "SaFaRollHalf" || nearest(this.node, "SaFaRollHalf") !== null
    }

    key() {
        const {safa_audio: files, safa_text: text} = saidBy(this.node)
        return JSON.stringify([files, text, this.clip, this.shown, this.plan, this.rolled, this.looped, this.file, !!this.sound])
    }

    frame() {
        if (this.source) this.drawLine()
    }

    draw() {
        const {safa_audio: files, safa_text: text} = saidBy(this.node)
        this.text.textContent = clauses(text?.[0] ?? "")
        this.text.title = text?.[0] ?? ""
        const file = files?.length ? files[this.clip % files.length] : null
        this.next.hidden = !(files?.length > 1)
        this.next.textContent = `${1 + this.clip % (files?.length || 1)} / ${files?.length}`
        if (JSON.stringify(file) !== this.file) this.load(file)
        this.drawPicture()
        this.drawLine()
    }

    async load(file) {
        const asked = (this.file = JSON.stringify(file))
        this.stop()
        this.sound = null
        this.place = 0
        this.enable()
        if (!file) return
        const sound = await loadSound(file)
        if (asked !== this.file) return // another came meanwhile
        this.sound = sound
        if (sound.buffer) this.image = spectrogram(sound.buffer)
        this.looped = Boolean(sound.loop || (this.node.type !== "SaFaSaveLoop" && this.plan?.loop))
        this.hideHost(Boolean(sound.buffer))
        this.enable()
    }

    // The host's own player is there for what cannot be played here.
    hideHost(hidden) {
        const host = widgetOf(this.node, "audioUI")
        if (host) host.hidden = host.options.hidden = hidden
        this.node.setDirtyCanvas?.(true, true)
    }

    enable() {
        const ready = Boolean(this.sound?.buffer)
        for (const button of [this.play, this.again, this.atSeam]) button.disabled = !ready
        this.wait.textContent = ready ? "" : this.sound?.problem ?? say("The sound plays here after a run.")
        this.again.ariaPressed = Boolean(this.looped)
    }

    // [from, to] of the loop in samples.
    get loop() {
        return this.looped ? this.sound.loop ?? [0, this.sound.buffer.length] : null
    }

    setLoop(looped) {
        this.looped = looped
        this.again.ariaPressed = looped
        if (this.source) this.go(this.place)
    }

    toggle() {
        if (this.source) this.stop()
        else this.start(this.place >= this.sound?.buffer?.duration ? 0 : this.place)
    }

    hearSeam() {
        const {duration} = this.sound.buffer
        const seam = this.rolled ? duration / 2 : duration
        if (!this.rolled) this.setLoop(true)
        this.start(Math.max(0, seam - BEFORE))
    }

    go(place) {
        this.place = Math.max(0, Math.min(place, this.sound.buffer.duration))
        if (this.source) this.start(this.place)
        this.drawLine()
    }

    start(from) {
        if (!this.sound?.buffer) return
        playing?.stop()
        const {buffer} = this.sound
        const context = contextOf(buffer.sampleRate)
        context.resume()
        this.gain = new GainNode(context, {gain: +this.level.value})
        this.source = sourceOf(context, buffer, this.loop)
        this.source.connect(this.gain).connect(context.destination)
        this.source.onended = event => event.target === this.source && this.stop()
        this.source.start(0, from)
        this.from = from
        this.began = context.currentTime
        this.play.textContent = "❚❚"
        playing = this
    }

    stop() {
        const source = this.source
        this.source = null
        source?.stop()
        this.play.textContent = "▶"
        if (playing === this) playing = null
    }

    removed() { this.stop() }

    drawPicture() {
        const {context, width, height} = sharp(this.picture)
        if (!this.sound?.buffer) return
        context.drawImage(this.image, 0, 0, width, height)
        drawMarks(context, this.marks(), this.shown, width, height)
    }

    // The plan over the sound: [[from, to] of each view], [[from, to] of each overlap] and seams, as shares of the width.
    marks() {
        const facts = this.plan
        const {duration} = this.sound.buffer
        const seconds = facts?.unit === "seconds" ? facts.length * facts.scale : duration
        const times = Math.round(duration / seconds)
        const fits = facts && times > 0 && Math.abs(duration - times * seconds) < 0.02 * seconds
        const plan = fits ? planInPatches(facts.length, facts.view, facts.overlap, facts.loop, facts.patch) : null
        return marksOf(plan, fits ? times : 1, this.rolled, this.looped)
    }

    drawLine() {
        const {context, width, height} = sharp(this.line)
        const buffer = this.sound?.buffer
        if (!buffer) return void (this.time.textContent = "")
        if (this.source) {
            const elapsed = contextOf(buffer.sampleRate).currentTime - this.began
            this.place = placeAfter(this.from, elapsed, this.loop, buffer.sampleRate, buffer.duration)
        }
        context.fillStyle = "#fff"
        context.fillRect(this.place / buffer.duration * width - 0.75, 0, 1.5, height)
        this.time.textContent = `${clock(this.place)} / ${clock(buffer.duration)}`
    }
}

// plan: of one clip, or null. times: that it is repeated. rolled: its seam lies in the middle.
export function marksOf(plan, times, rolled, looped) {
    const marks = {views: [], overlaps: [], seams: []}
    for (let k = 0; k < times; k++) {
        const at = column => (k + column / (plan?.length ?? 1)) / times
        const half = rolled && plan ? Math.floor(plan.length / 2) : 0
        const moved = stretches => stretches.map(([from, to]) => {
            const start = (from + half) % plan.length
            return [at(start), at(start + to - from)]
        })
        if (plan?.count > 1) {
            marks.views.push(...moved(plan.starts.map(start => [start, start + plan.view])))
            marks.overlaps.push(...moved(overlapsOf(plan)))
        }
        if (rolled) marks.seams.push((k + 0.5) / times)
        else if (looped || plan?.loop) marks.seams.push(k / times, (k + 1) / times)
    }
    return marks
}

function drawMarks(context, {views, overlaps, seams}, shown, width, height) {
    const strip = (from, to, y, tall) => {
        for (const shift of [0, -1]) context.fillRect((from + shift) * width, y, Math.max(1, (to - from) * width), tall)
    }
    context.fillStyle = OVERLAP + "55"
    if (shown.overlaps) for (const [from, to] of overlaps) strip(from, to, 0, height)
    if (shown.views) {
        views.forEach(([from, to], i) => {
            context.fillStyle = VIEWS[i % 2]
            strip(from, to - 2 / width, 1 + 5 * (i % 2), 4)
        })
    }
    context.fillStyle = SEAM
    for (const seam of seams) context.fillRect(Math.min(width - 2, Math.max(0, seam * width - 1)), 0, 2, height)
}

function clock(seconds) {
    const whole = Math.floor(seconds)
    return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`
}
