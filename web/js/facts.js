// What is known of a model: from the planner's last run, and before it from the file that is chosen in its loader.

import {api} from "../../../scripts/api.js"
import {saidBy} from "./said.js"
import {modelFile} from "./upstream.js"

const asked = new Map() // "folder/name" -> facts, null while or where they are not known
const AGAIN = 10000 // ms until a file that was not known is asked for again: it may be there by then

// {model, unit, scale, native_view, patch} as `nodes.joint.file_facts.for_page`, {problem: a sentence}, or null.
export function factsFor(planner) {
    const file = modelFile(planner)
    return (file && ofFile(file)) ?? saidBy(planner).safa_plan?.[0] ?? null
}

function ofFile({folder, name}) {
    const key = `${folder}/${name}`
    if (!asked.has(key)) {
        asked.set(key, null)
        const query = new URLSearchParams({folder, name})
        api.fetchApi(`/safa/model_facts?${query}`)
            .then(answer => answer.json())
            .then(facts => asked.set(key, facts))
            .catch(() => {}) // no server for a moment
            .finally(() => asked.get(key) || setTimeout(() => asked.delete(key), AGAIN))
    }
    return asked.get(key)
}
