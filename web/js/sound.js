// A sound from the server, played without a gap: decoded at its own rate, so that no resampling touches its ends.

import {api} from "../../../scripts/api.js"
import {rateOf, readWav} from "./wav.js"
import {say} from "./words.js"

const VOLUME = "ComfyUI-SaFa.volume" // in localStorage
export const LONGEST = 2 ** 28 // bytes of a file that is decoded as a whole
const contexts = new Map() // one for each rate; the browser resamples what it puts out, which has no ends

export function fileUrl({filename, subfolder, type}) {
    return api.apiURL(`/view?${new URLSearchParams({filename, subfolder: subfolder ?? "", type})}`)
}

// {buffer, loop: [from, to] in samples or null where the file has no loop points} or {problem: a sentence}.
export async function loadSound(file) {
    const answer = await fetch(fileUrl(file))
    if (!answer.ok) return {problem: say("The sound is no longer there; run again.")}
    if (+answer.headers.get("content-length") > LONGEST) return {problem: say("Too long to be held here; play the saved file.")}
    const bytes = await answer.arrayBuffer()
    const rate = rateOf(bytes)
    if (!rate) return {problem: say("Neither WAV nor FLAC; play the saved file.")}
    const loop = readWav(bytes)?.loop ?? null
    try {
        return {buffer: await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes), loop}
    } catch (error) {
        return {problem: `The browser cannot decode it (${error.message}).`}
    }
}

export function contextOf(rate) {
    if (!contexts.has(rate)) contexts.set(rate, new AudioContext({sampleRate: rate}))
    return contexts.get(rate)
}

// A source that plays a buffer; where `loop` is [from, to] in samples, round and round between them.
export function sourceOf(context, buffer, loop) {
    const source = context.createBufferSource()
    source.buffer = buffer
    source.loop = Boolean(loop)
    if (loop) {
        source.loopStart = loop[0] / buffer.sampleRate
        source.loopEnd = loop[1] / buffer.sampleRate
    }
    return source
}

// Where playing stands, in seconds of the sound, `elapsed` seconds after it began at `from`.
export function placeAfter(from, elapsed, loop, rate, seconds) {
    const place = from + elapsed
    if (!loop) return Math.min(place, seconds)
    const [start, end] = loop.map(samples => samples / rate)
    return place < end ? place : start + (place - start) % (end - start)
}

export function volume() {
    const kept = Number(localStorage.getItem(VOLUME) ?? 0.8)
    return kept >= 0 && kept <= 1 ? kept : 0.8
}

export function keepVolume(value) {
    localStorage.setItem(VOLUME, String(value))
}
