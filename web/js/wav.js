// The chunks of a WAV file that the pack writes: format, loop points, and the workflow in its comment.

const text = (bytes, at, length) => new TextDecoder().decode(bytes.subarray(at, at + length))

// {rate, frames, loop: [first, last + 1] in samples or null, comment or null} of a RIFF file; null for another file.
export function readWav(buffer) {
    const bytes = new Uint8Array(buffer)
    const view = new DataView(buffer)
    if (bytes.length < 12 || text(bytes, 0, 4) !== "RIFF" || text(bytes, 8, 4) !== "WAVE") return null
    const found = {rate: 0, frames: 0, loop: null, comment: null}
    let width = 1
    for (let at = 12; at + 8 <= bytes.length;) {
        const name = text(bytes, at, 4)
        const size = view.getUint32(at + 4, true)
        const data = at + 8
        if (data + size > bytes.length) break
        if (name === "fmt ") {
            found.rate = view.getUint32(data + 4, true)
            width = view.getUint16(data + 12, true)
        }
        if (name === "data") found.frames = Math.floor(size / width)
        if (name === "smpl" && size >= 60 && view.getUint32(data + 28, true)) {
            found.loop = [view.getUint32(data + 44, true), view.getUint32(data + 48, true) + 1]
        }
        if (name === "LIST" && text(bytes, data, 4) === "INFO") found.comment = comment(bytes, view, data + 4, data + size)
        at = data + size + size % 2
    }
    return found
}

function comment(bytes, view, from, to) {
    for (let at = from; at + 8 <= to;) {
        const size = view.getUint32(at + 4, true)
        if (text(bytes, at, 4) === "ICMT") return text(bytes, at + 8, size).replace(/\0+$/, "")
        at += 8 + size + size % 2
    }
    return null
}

// Samples per second of a WAV or FLAC file; null for another.
export function rateOf(buffer) {
    const wav = readWav(buffer)
    if (wav) return wav.rate
    const bytes = new Uint8Array(buffer, 0, Math.min(buffer.byteLength, 42))
    if (text(bytes, 0, 4) !== "fLaC") return null
    return bytes[18] << 12 | bytes[19] << 4 | bytes[20] >> 4 // 20 bits of STREAMINFO
}

// {workflow, prompt} of a WAV file that Save Loop wrote; null where there is none.
export async function workflowOf(file) {
    if (!/\.wav$/i.test(file.name ?? "") && !/wav/.test(file.type)) return null
    const said = readWav(await file.arrayBuffer())?.comment
    if (!said?.startsWith("{")) return null
    try {
        const {workflow, prompt} = JSON.parse(said)
        return workflow || prompt ? {workflow, prompt} : null
    } catch {
        return null // a comment of somebody else's
    }
}
