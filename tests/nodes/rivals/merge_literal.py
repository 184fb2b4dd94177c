"""Merge-Attend-Diffuse written out: dictionaries of columns, attention by hand, on what a sampling shows."""

from types import SimpleNamespace

import torch

from safa_pack.tests.nodes.host_calls import difference


class Record:
    """What some modules put out, and others get, at every call of the model.

    outputs, inputs: {name: module}. `calls` holds for each call of the model its x, what tells its prompts apart, the
    state that was cut into views, and `seen`: {name: tensor}.
    """

    def __init__(self, model, outputs, inputs):
        self.model, self.outputs, self.inputs, self.calls, self.handles = model.clone(), outputs, inputs, [], []
        self.model.add_wrapper_with_key("calc_cond_batch", "record", self._batch)
        self.model.add_wrapper_with_key("apply_model", "record", self._apply)

    def _batch(self, executor, model, conds, x, *args):
        self.state = x.clone()
        return executor(model, conds, x, *args)

    def _apply(self, executor, x, t, c_concat, c_crossattn, control, options, **kwargs):
        told = (c_crossattn if c_crossattn is not None else kwargs["y"]).flatten(1)[:, :8].tolist()
        self.calls.append(SimpleNamespace(x=x.clone(), told=told, state=self.state, seen={}))
        return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)

    def __enter__(self):
        for name, module in self.outputs.items():
            self.handles.append(module.register_forward_hook(lambda m, i, out, name=name: self._note(name, out)))
        for name, module in self.inputs.items():
            self.handles.append(module.register_forward_pre_hook(lambda m, i, name=name: self._note(name, i[0])))
        return self

    def _note(self, name, tensor):
        self.calls[-1].seen[name] = tensor.clone()

    def __exit__(self, *error):
        for handle in self.handles:
            handle.remove()


def canvases_in(call, canvas, batch):
    """The rows of each prompt's and item's views in a model call, found by what is in them; and all other rows."""
    found = {}
    for i in range(len(canvas.plan)):
        windows = call.state.index_select(canvas.axis, canvas.plan.indices(i))
        for row, (x, told) in enumerate(zip(call.x, call.told, strict=True)):
            for item in range(batch):
                if torch.equal(x, windows[item]):
                    found.setdefault((tuple(told), item), {})[i] = row
    rows = [[own[i] for i in range(len(canvas.plan))] for own in found.values()]
    return rows, sorted(set(range(len(call.x))) - {row for own in rows for row in own})


def attention(q, k, v, heads):
    """softmax(q k^T / sqrt(d)) v: q [n, C], k and v [m, C]."""
    out = []
    for a, b, c in zip(q.chunk(heads, 1), k.chunk(heads, 1), v.chunk(heads, 1), strict=True):
        out.append(torch.softmax(a @ b.T / a.shape[1] ** 0.5, dim=1) @ c)
    return torch.cat(out, 1)


class Literal:
    """Merge-Attend on the views of one prompt by dictionaries whose keys are (row, column) of the canvas."""

    def __init__(self, canvas, tokens):
        axis, plan = canvas.axis - 2, canvas.plan
        rows, factor = next((canvas.rows // f, f) for f in (1, 2, 4) if plan.view * canvas.rows // f**2 == tokens)
        grid = (rows, plan.view // factor) if axis else (plan.view // factor, rows)
        self.keys = []
        for start in plan.starts:
            assert start % factor == 0
            places = [[n // grid[1], n % grid[1]] for n in range(tokens)]
            for place in places:
                place[axis] = (place[axis] + start // factor) % (plan.length // factor)
            self.keys.append([tuple(place) for place in places])

    def mean(self, views):
        seen = {}
        for keys, tokens in zip(self.keys, views, strict=True):
            for key, token in zip(keys, tokens, strict=True):
                seen.setdefault(key, []).append(token)
        return {key: sum(tokens) / len(tokens) for key, tokens in seen.items()}

    def crop(self, mean, i):
        return torch.stack([mean[key] for key in self.keys[i]])

    def self_attention(self, q, k, v, heads):
        """Each view's [n, C] -> each view's output."""
        places, merged = list(self.mean(q)), [torch.stack(list(self.mean(t).values())) for t in (q, k, v)]
        out = dict(zip(places, attention(*merged, heads), strict=True))
        return [self.crop(out, i) for i in range(len(q))]

    def cross_attention(self, q, k, v, heads):
        mean = self.mean(q)
        return [attention(self.crop(mean, i), k[i], v[i], heads) for i in range(len(q))]

    def joint_attention(self, q, k, v, heads, text):
        """The text's tokens come first; each view's own meet the keys of the canvas."""
        canvas, out = [self.mean([t[text:] for t in part]) for part in (q, k, v)], []
        for i in range(len(q)):
            queries = torch.cat([q[i][:text], self.crop(canvas[0], i)])
            keys = torch.cat([k[i][:text], torch.stack(list(canvas[1].values()))])
            values = torch.cat([v[i][:text], torch.stack(list(canvas[2].values()))])
            out.append(attention(queries, keys, values, heads))
        return out


def check(call, canvas, merges, got, after, qkv, heads, method, **more):
    """A layer's output `got` of all rows against the literal method where it merges, else plain attention.

    after: the output projection. qkv: projected, [rows, n, C]. Returns the rows of no canvas.
    """
    batch, (q, k, v) = 2, (t.double() for t in qkv)
    canvases, others = canvases_in(call, canvas, batch)
    assert len(canvases) == 2 * batch and len(call.x) == 2 * batch * len(canvas.plan) + len(others)
    expected = torch.stack([attention(*qkv, heads) for qkv in zip(q, k, v, strict=True)])
    if merges:
        plain = expected.clone()
        for rows in canvases:
            literal = Literal(canvas, q.shape[1] - more.get("text", 0))
            expected[rows] = torch.stack(getattr(literal, method)(q[rows], k[rows], v[rows], heads, **more))
        assert (plain - expected).abs().max() > 1e-3
    assert difference(got, after(expected.float())) <= 1e-5
    return others


def rms(x, weight):
    """RMSNorm within heads."""
    heads = x.unflatten(2, (-1, len(weight)))
    return (heads / (heads.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * weight).flatten(2)
