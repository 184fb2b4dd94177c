"""Workflows as the web page saves them (UI format), and the prompts (API format) that it would send for them."""

from .subgraphs import BYPASSED, MUTED, flatten

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR"}
DYNAMIC = "COMFY_DYNAMICCOMBO_V3"
NOT_SENT = {"Note", "MarkdownNote", "Reroute", "PrimitiveNode"}


def ui_to_api(workflow: dict, object_info: dict) -> dict:
    """The API prompt that the web page would send for a workflow saved in UI format.

    object_info: the server's answer of that name, nodes by type. Raises ValueError for a node it lacks.
    """
    graph = _Graph(flatten(workflow))
    prompt = {}
    for node in graph.nodes.values():
        if node["type"] in NOT_SENT or node.get("mode", 0) in (MUTED, BYPASSED):
            continue
        if node["type"] not in object_info:
            raise ValueError(f"Expected a node that the server has, got {node['type']} (node {node['id']}).")
        inputs = {name: value for name, value, _ in _widgets(node, object_info[node["type"]])}
        for socket in node.get("inputs", []):
            if "value" in socket:
                inputs[socket["name"]] = socket["value"]
            if socket.get("link") is not None:
                inputs.pop(socket["name"], None)
                source = graph.source(socket["link"])
                if source is not None:
                    inputs[socket["name"]] = source
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def set_widget(node: dict, info: dict, name: str, value) -> None:
    """Change one widget of a node in UI format, which stores the values by position; `info` describes its type."""
    places = {known: place for known, _, place in _widgets(node, info) if place is not None}
    if name not in places:
        raise ValueError(f"Expected {node['type']} to store its widget {name!r}, got {', '.join(map(str, places))}.")
    node["widgets_values"][places[name]] = value


class _Graph:
    """Nodes by id, and where links come from."""

    def __init__(self, workflow):
        self.nodes = {node["id"]: node for node in workflow["nodes"]}
        self.origins = {link: (node, slot) for link, node, slot in workflow["links"]}

    def source(self, link):
        """What the prompt holds for a link; None if it comes from a muted or open end."""
        origin, slot = self.origins[link]
        node = self.nodes[origin]
        if node.get("mode", 0) == MUTED:
            return None
        if node["type"] == "PrimitiveNode":
            return node["widgets_values"][0]
        if node["type"] != "Reroute" and node.get("mode", 0) != BYPASSED:
            return [str(origin), slot]
        link = self._passed_through(node, slot)
        return None if link is None else self.source(link)

    def _passed_through(self, node, slot):
        """The link behind an output of a reroute or a bypassed node: same slot first, then the first of its type."""
        inputs = node.get("inputs", [])
        if node["type"] == "Reroute":
            return inputs[0]["link"]
        kind = node["outputs"][slot]["type"]
        fitting = [candidate for candidate in inputs[slot : slot + 1] + inputs if candidate["type"] == kind]
        return fitting[0]["link"] if fitting else None


def _widgets(node, info):
    """(input name, value, its place in widgets_values or None) of a node's widgets."""
    stored = node.get("widgets_values") or []
    specs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    if isinstance(stored, dict):
        return [(name, stored[name], name) for name in specs if name in stored]
    return list(_by_position(specs, enumerate(stored), prefix=""))


def _by_position(specs, values, prefix):
    for name, spec in specs.items():
        kind, options = spec[0], (spec[1] if len(spec) > 1 else {})
        choices = options.get("options", []) if isinstance(kind, str) else kind
        is_widget = kind in (*WIDGETS, DYNAMIC) if isinstance(kind, str) else True
        if not is_widget or options.get("forceInput"):
            continue
        place, value = next(values, (None, None))
        if place is None:  # saved before the node had this input
            first = choices[0] if choices else None
            value = options.get("default", first["key"] if kind == DYNAMIC else first)
        yield prefix + name, value, place
        seed = kind == "INT" and name in ("seed", "noise_seed")
        if options.get("control_after_generate", seed):
            next(values, None)
        if kind == DYNAMIC:
            chosen = next(choice["inputs"] for choice in choices if choice["key"] == value)
            nested = {**chosen.get("required", {}), **chosen.get("optional", {})}
            yield from _by_position(nested, values, f"{prefix}{name}.")
