// What is connected before a node: its planner, and the file that its model is loaded from.

const LOADERS = {ckpt_name: "checkpoints", unet_name: "diffusion_models", model_name: "audio_models"}
const MOST = 200 // nodes that are looked at

export function widgetOf(node, name) {
    return node.widgets?.find(widget => widget.name === name)
}

export function isLinked(node, name) {
    return node.inputs?.some(input => input.name === name && input.link != null) ?? false
}

function origin(node, slot) {
    return node.inputs?.[slot]?.link == null ? null : node.getInputNode?.(slot) ?? null
}

// {folder, name} of the file that the model of an input comes from, through what patches it; null where it is not known.
export function modelFile(node, inputName = "model") {
    let slot = node.inputs?.findIndex(input => input.name === inputName) ?? -1
    for (let i = 0; i < MOST && slot >= 0; i++) {
        node = origin(node, slot)
        if (!node) return null
        for (const [name, folder] of Object.entries(LOADERS)) {
            const widget = widgetOf(node, name)
            if (widget && !isLinked(node, name)) return {folder, name: String(widget.value)}
        }
        slot = node.inputs?.findIndex(input => input.link != null && ["MODEL", "*"].includes(input.type)) ?? -1
    }
    return null
}

// The nearest node of this type before a node, through all that is connected; null where there is none.
export function nearest(node, type) {
    const seen = new Set([node])
    for (const reached of seen) { // a set is walked in the order in which it grows
        if (reached !== node && reached.type === type) return reached
        if (seen.size > MOST) return null
        for (const slot of reached.inputs?.keys() ?? []) {
            const before = origin(reached, slot)
            if (before) seen.add(before)
        }
    }
    return null
}
