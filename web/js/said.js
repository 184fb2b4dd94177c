// What nodes said, for each open workflow: it stays through a tab switch, a reload and a run from the cache.
//
// The host sends results by the node's number alone; which workflow a prompt belongs to is known here from the moment it
// is queued. Nothing of this is written into the workflow, so that a run adds no step to its undo.

import {api} from "../../../scripts/api.js"
import {app} from "../../../scripts/app.js"

const STORED = "ComfyUI-SaFa.said" // in sessionStorage: this browser tab alone, over a reload
const PROMPTS = 200 // whose workflow is remembered

const stored = JSON.parse(sessionStorage.getItem(STORED) ?? '{"said": {}, "owners": []}')
const workflows = new Map() // the page's object of an open workflow -> {node's number: what it said}
const owners = new Map() // prompt -> the workflow that queued it
const early = new Map() // prompt -> what came before the answer to its queueing

const opened = () => app.extensionManager?.workflow?.openWorkflows ?? []
const active = () => app.extensionManager?.workflow?.activeWorkflow

// What the nodes of an open workflow said; taken over from before a reload when it is asked for first.
function saidIn(workflow) {
    if (!workflows.has(workflow)) {
        workflows.set(workflow, stored.said[workflow.path] ?? {})
        delete stored.said[workflow.path]
    }
    return workflows.get(workflow)
}

function store() {
    for (const workflow of workflows.keys()) if (!opened().includes(workflow)) workflows.delete(workflow)
    const said = {...stored.said}
    for (const [workflow, nodes] of workflows) said[workflow.path] = nodes
    const paths = [...owners].map(([prompt, workflow]) => [prompt, workflow.path]).slice(-PROMPTS)
    try {
        sessionStorage.setItem(STORED, JSON.stringify({said, owners: paths}))
    } catch (error) { // the browser's room is full: only a reload would miss it
        console.warn("ComfyUI-SaFa: what nodes said will not outlive a reload", error)
    }
}

function ownerOf(prompt) {
    if (owners.has(prompt)) return owners.get(prompt)
    const path = stored.owners.find(([known]) => known === prompt)?.[1]
    return opened().find(workflow => workflow.path === path)
}

function note(prompt, node, words) {
    const workflow = ownerOf(prompt)
    if (!workflow) {
        if (early.size >= PROMPTS) early.delete(early.keys().next().value)
        early.set(prompt, [...(early.get(prompt) ?? []), [node, words]])
        return
    }
    const nodes = saidIn(workflow)
    nodes[node] = {...nodes[node], ...words}
    store()
}

// The number of a node as prompts count it, with those of the subgraphs around it: "4:7".
function numberOf(node) {
    const graph = node.graph
    if (!graph || graph.isRootGraph !== false) return String(node.id)
    const outer = [app.rootGraph ?? app.graph, ...app.graph.subgraphs.values()]
        .flatMap(graph => graph.nodes).find(other => other.subgraph === graph)
    return outer ? `${numberOf(outer)}:${node.id}` : String(node.id)
}

// What a node of the open workflow said: the pack's own entries of its `ui`, safa_text, safa_plan, ...
export function saidBy(node) {
    const workflow = active()
    return (workflow && node.graph && saidIn(workflow)[numberOf(node)]) || {}
}

// The numbers of nodes in the open workflow that said something.
export function speakers() {
    const workflow = active()
    return workflow ? Object.keys(saidIn(workflow)) : []
}

function rememberOwners() {
    const queue = api.queuePrompt
    api.queuePrompt = async function (...args) {
        const workflow = active()
        const answer = await queue.apply(this, args)
        if (answer?.prompt_id && workflow) {
            owners.set(answer.prompt_id, workflow)
            if (owners.size > PROMPTS) owners.delete(owners.keys().next().value)
            for (const [node, words] of early.get(answer.prompt_id) ?? []) note(answer.prompt_id, node, words)
            early.delete(answer.prompt_id)
        }
        return answer
    }
}

// The pack's own entries of a node's `ui`. The host's picture is taken away where a panel draws it.
function wordsOf(output) {
    const words = Object.fromEntries(Object.entries(output ?? {}).filter(([key]) => key.startsWith("safa_")))
    if (words.safa_plan || words.safa_audio) delete output.images
    return words
}

// What the server says passes here before the host's own listeners, whose order is their own.
export function listen() {
    rememberOwners()
    const told = new Set()
    api.addEventListener("safa_text", ({detail}) => {
        told.add(detail.text)
        note(detail.prompt_id, String(detail.node), {safa_text: [detail.text]})
    })
    const dispatch = api.dispatchCustomEvent
    api.dispatchCustomEvent = function (type, detail) {
        if (type === "progress_text" && told.delete(detail.text)) return true
        if (type === "executed") {
            const words = wordsOf(detail.output)
            if (Object.keys(words).length) note(detail.prompt_id, String(detail.display_node ?? detail.node), words)
        }
        return dispatch.apply(this, arguments)
    }
}
