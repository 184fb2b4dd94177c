// The spectrogram of a decoded sound as a picture: time to the right, pitch upwards (mel), brighter is louder.

const COLUMNS = 900
const ROWS = 96
const FFT = 2048
const DEPTH = 75 // dB from the loudest to black
const STOPS = [[10, 10, 18], [58, 28, 92], [150, 46, 90], [224, 98, 52], [250, 190, 80], [255, 246, 214]]

// An offscreen canvas of COLUMNS x ROWS pixels.
export function spectrogram(buffer) {
    const levels = decibels(mono(buffer), buffer.sampleRate)
    const canvas = new OffscreenCanvas(COLUMNS, ROWS)
    const context = canvas.getContext("2d")
    const image = context.createImageData(COLUMNS, ROWS)
    const loudest = levels.reduce((most, level) => Math.max(most, level), -Infinity)
    for (let i = 0; i < levels.length; i++) {
        const share = Math.max(0, Math.min(1, 1 + (levels[i] - loudest) / DEPTH))
        image.data.set(loudest > -Infinity ? colourOf(share) : STOPS[0], 4 * i)
        image.data[4 * i + 3] = 255
    }
    context.putImageData(image, 0, 0)
    return canvas
}

function mono(buffer) {
    const sound = new Float32Array(buffer.length)
    for (let c = 0; c < buffer.numberOfChannels; c++) {
        const channel = buffer.getChannelData(c)
        for (let i = 0; i < sound.length; i++) sound[i] += channel[i]
    }
    return sound
}

function colourOf(share) {
    const place = share * (STOPS.length - 1)
    const i = Math.min(STOPS.length - 2, Math.floor(place))
    return STOPS[i].map((value, c) => value + (STOPS[i + 1][c] - value) * (place - i))
}

// [row from the top, column] flattened, in dB; a row is a band of equal width in mel.
function decibels(sound, rate) {
    const toMel = hz => 2595 * Math.log10(1 + hz / 700)
    const toBin = mel => 700 * (10 ** (mel / 2595) - 1) * FFT / rate
    const edges = Array.from({length: ROWS + 1}, (_, r) => toBin(toMel(rate / 2) * r / ROWS))
    const levels = new Float32Array(ROWS * COLUMNS)
    const real = new Float64Array(FFT)
    const imaginary = new Float64Array(FFT)
    for (let column = 0; column < COLUMNS; column++) {
        const first = Math.round((column + 0.5) * sound.length / COLUMNS) - FFT / 2
        for (let i = 0; i < FFT; i++) {
            real[i] = (sound[first + i] ?? 0) * (0.5 - 0.5 * Math.cos(2 * Math.PI * i / FFT))
            imaginary[i] = 0
        }
        transform(real, imaginary)
        for (let row = 0; row < ROWS; row++) {
            const from = Math.floor(edges[row])
            const to = Math.max(from + 1, Math.ceil(edges[row + 1]))
            let power = 0
            for (let bin = from; bin < to; bin++) power += real[bin] ** 2 + imaginary[bin] ** 2
            levels[(ROWS - 1 - row) * COLUMNS + column] = 10 * Math.log10(power / (to - from))
        }
    }
    return levels
}

// The discrete Fourier transform in place, radix 2 (Cooley and Tukey, 1965).
export function transform(real, imaginary) {
    const n = real.length
    for (let i = 1, j = 0; i < n; i++) {
        let bit = n >> 1
        for (; j & bit; bit >>= 1) j ^= bit
        j ^= bit
        if (i >= j) continue
        ;[real[i], real[j]] = [real[j], real[i]]
        ;[imaginary[i], imaginary[j]] = [imaginary[j], imaginary[i]]
    }
    for (let size = 2; size <= n; size *= 2) {
        const half = size / 2
        for (let k = 0; k < half; k++) {
            const c = Math.cos(2 * Math.PI * k / size)
            const s = -Math.sin(2 * Math.PI * k / size)
            for (let i = k; i < n; i += size) {
                const j = i + half
                const a = real[j] * c - imaginary[j] * s
                const b = real[j] * s + imaginary[j] * c
                real[j] = real[i] - a
                imaginary[j] = imaginary[i] - b
                real[i] += a
                imaginary[i] += b
            }
        }
    }
}
