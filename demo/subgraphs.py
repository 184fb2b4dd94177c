"""Workflows with subgraphs, and the same workflows without: every subgraph in the place of its node."""

from __future__ import annotations

from dataclasses import dataclass, field

INPUT, OUTPUT = -10, -20  # the ids of the two ends of a subgraph's links
MUTED, BYPASSED = 2, 4


def flatten(workflow: dict) -> dict:
    """A workflow in UI format with the nodes of its subgraphs at the top, under ids such as "57:8".

    A widget that a subgraph shows has the value of the subgraph's node where that stores one, else that of the node
    inside. Subgraphs that are muted or bypassed remain as one node.
    """
    definitions = {each["id"]: each for each in workflow.get("definitions", {}).get("subgraphs", [])}
    flat = _Flat(definitions)
    flat.add(_Scope("", workflow, None, None))
    return {"nodes": flat.nodes, "links": [[link, *flat.origin(link)] for link in flat.links]}


@dataclass(frozen=True)
class _Scope:
    """One use of a graph. prefix: of its ids. node: the node that stands for it in the graph `outer`."""

    prefix: str
    graph: dict
    node: dict | None
    outer: _Scope | None
    origins: dict = field(default_factory=dict)

    def __post_init__(self):
        for link in self.graph["links"]:
            if isinstance(link, dict):
                link = [link["id"], link["origin_id"], link["origin_slot"]]
            self.origins[link[0]] = (link[1], link[2])


class _Flat:
    """Nodes and links of all scopes, under ids with their scope's prefix."""

    def __init__(self, definitions):
        self.definitions = definitions
        self.nodes, self.links, self.scopes = [], {}, {}

    def add(self, scope):
        """A scope's nodes and links, and those of the subgraphs in it."""
        for node in scope.graph["nodes"]:
            definition = self.definitions.get(node["type"])
            name = f"{scope.prefix}{node['id']}"
            if definition is None or node.get("mode", 0) in (MUTED, BYPASSED):
                self.nodes.append(self._renamed(node, name, scope))
            else:
                inner = _Scope(f"{name}:", definition, node, scope)
                self.scopes[name] = inner
                self.add(inner)
        for link in scope.origins:
            if self._outside(scope, link) is not None:
                self.links[f"{scope.prefix}{link}"] = scope, link

    def origin(self, name):
        """(node id, slot) where a link starts."""
        scope, link = self._outside(*self.links[name])
        origin, slot = scope.origins[link]
        inner = self.scopes.get(f"{scope.prefix}{origin}")
        while inner is not None:
            end = inner.graph["outputs"][slot]["linkIds"][0]
            scope, link = self._outside(inner, end)
            origin, slot = scope.origins[link]
            inner = self.scopes.get(f"{scope.prefix}{origin}")
        return f"{scope.prefix}{origin}", slot

    def _outside(self, scope, link):
        """(scope, link) where a link comes into the subgraph; None where nothing is connected outside."""
        while link in scope.origins and scope.origins[link][0] == INPUT:
            name = scope.graph["inputs"][scope.origins[link][1]]["name"]
            sockets = {socket["name"]: socket.get("link") for socket in scope.node.get("inputs", [])}
            scope, link = scope.outer, sockets.get(name)
        return None if link is None else (scope, link)

    def _renamed(self, node, name, scope):
        """A node under its new id, its sockets with the new links' names; shown widgets have their values."""
        node = dict(node, id=name, inputs=[dict(socket) for socket in node.get("inputs", [])])
        for socket in node["inputs"]:
            link = socket.get("link")
            if link is None:
                continue
            if self._outside(scope, link) is None:
                socket["link"] = None
                socket.update(_shown(scope, link))
            else:
                socket["link"] = f"{scope.prefix}{link}"
        return node


def _shown(scope, link):
    """{"value": …} of the widget that a subgraph's node shows for a link from its input, where it stores one."""
    while scope.outer is not None:
        name = scope.graph["inputs"][scope.origins[link][1]]["name"]
        shown = scope.node.get("properties", {}).get("proxyWidgets") or []
        stored = scope.node.get("widgets_values") or []
        if ["-1", name] in shown and len(stored) == len(shown):
            return {"value": stored[shown.index(["-1", name])]}
        outside = {socket["name"]: socket.get("link") for socket in scope.node.get("inputs", [])}.get(name)
        if outside is None:
            return {}
        scope, link = scope.outer, outside
    return {}
