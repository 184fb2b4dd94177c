"""The benchmark of the overhead: what its instruments count, its table, and a small run beside another checkout."""

import json

import pytest
import torch

from safa_pack.benchmarks import overhead
from safa_pack.benchmarks.instruments.torch_calls import FarDevice, LiveBytes, Operations

pytestmark = pytest.mark.tools


def test_operations_are_counted_while_they_are_due():
    due = [True]
    counter = Operations(lambda: due[0])
    with torch.no_grad(), counter:
        torch.ones(3) + 1
        due[0] = False
        torch.ones(3) + 1
    assert counter.count == 2


def test_bytes_alive_are_those_of_storages_that_something_holds():
    with LiveBytes() as alive:
        held = torch.zeros(100)
        held.view(10, 10)[2:].t()  # views have no bytes of their own
        assert (alive.live, alive.peak) == (400, 400)
        torch.zeros(50)
        assert (alive.live, alive.peak) == (400, 600)
        held.add_(1)
        del held
        assert (alive.live, alive.peak) == (0, 600)


@pytest.mark.parametrize(
    ("use", "way"),
    [
        (lambda far: float(far.sum()), "from"),
        (lambda far: bool(far.any()), "from"),
        (lambda far: far.tolist(), "from"),
        (lambda far: far.cpu(), "from"),
        (lambda far: far.nonzero(), "from"),
        (lambda far: far[far > 1], "from"),
        (lambda far: torch.tensor([1.0, 2.0], device=far.device), "to"),
        (lambda far: torch.ones(2).to(far), "to"),
        (lambda far: far[torch.tensor([1, 0])], "to"),
    ],
)
def test_a_value_read_and_a_copy_are_waits_for_the_device(use, way):
    device = FarDevice()
    with torch.no_grad(), device.there():
        far = torch.arange(1.0, 3.0, device="cuda")
        assert far.is_cuda and not device.waits["from"] and not device.waits["to"]
        use(far)
    assert [device.waits[name].total() for name in ("from", "to")] == [way == "from", way == "to"]
    assert all(__file__ in place for place in device.waits[way])


def test_work_on_the_device_and_copies_that_go_on_by_themselves_are_no_waits():
    device = FarDevice()
    with torch.no_grad(), device.there():
        far = torch.ones(4, device="cuda")
        far[1:] *= 2
        index = torch.arange(2, device="cuda")
        far.index_select(0, index)
        near = torch.empty_like(far, device="cpu", pin_memory=True).copy_(far, non_blocking=True)
    assert near.tolist() == [1, 2, 2, 2]
    assert not device.waits["from"] and not device.waits["to"]


def test_tensors_on_two_devices_do_not_mix():
    device = FarDevice()
    with torch.no_grad(), device.there(), pytest.raises(RuntimeError, match=r"expected all tensors on cuda:0, got"):
        torch.ones(4, device="cuda") + torch.ones(4)


@pytest.mark.parametrize(("name", "millions"), [("SD1.5", 860), ("SDXL", 2567), ("SD3.5 medium", 2243)])
def test_models_of_real_sizes_have_as_many_weights_as_the_published_ones(name, millions):
    from safa_pack.benchmarks.instruments.real_sizes import network

    weights = network(name, "meta").diffusion_model.parameters()
    assert round(sum(w.numel() for w in weights) / 1e6) == millions


@pytest.fixture
def in_this_process(monkeypatch):
    """The sections' processes, run in this one; the checkouts and sections that they were started for."""
    started = []

    def run_apart(name, _, section, __, pack):
        started.append((section, pack))
        return {"figures": overhead.SECTIONS[section](), "machine": "a machine"}

    monkeypatch.setattr(overhead, "run_apart", run_apart)
    return started


def test_a_run_beside_another_checkout_takes_turns_and_prints_both(in_this_process, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(overhead, "VIEWS", (3, 40))
    monkeypatch.setattr(overhead, "MINUTES", (2, 4))
    path = tmp_path / "it.json"
    words = ["--only", "times", "memory", "shares", "--rounds", "2", "--json", str(path)]
    overhead.main([*words, "--against", str(tmp_path)])
    ours = str(overhead.ROOT)
    assert in_this_process[:4] == [("times", str(tmp_path)), ("times", ours)] * 2
    assert in_this_process[4:6] == [("memory", str(tmp_path)), ("memory", ours)]
    heading, _, *lines = capsys.readouterr().out.splitlines()
    assert heading.endswith("; a machine")
    assert lines[0] == "| figure | against | here | ratio | goal |"
    rows = {cells[0].removeprefix("| "): cells[1:] for cells in (line.split(" | ") for line in lines[2:])}
    assert {"3 views: µs per step", "40 views, 16 at once: µs per view and step"} <= rows.keys()
    assert rows["growth of the peak over the latent's, the host alone"][2].startswith("1.000")
    assert set(json.loads(path.read_text(encoding="utf-8"))) == {ours, str(tmp_path)}
    for figures in json.loads(path.read_text(encoding="utf-8")).values():
        assert all(value > 0 for value in figures.values())


def test_no_view_adds_operations_and_hardly_anything_waits_for_a_gpu(in_this_process, capsys):
    overhead.main(["--only", "counts"])
    rows = dict(line.split(" | ")[:2] for line in capsys.readouterr().out.splitlines()[4:])
    figures = {name.removeprefix("| "): float(value) for name, value in rows.items()}
    goals = {name: goal for name, goal in overhead.GOALS.items() if name in figures}
    assert len(goals) == 6
    assert {name: figures[name] for name, goal in goals.items() if figures[name] > goal} == {}
