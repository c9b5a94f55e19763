"""stackelberg audit model.onnx: gradients where the graph is rebuilt, answers alone where it is not, and bad files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from onnx_files import export, node, write
from stackelberg import models
from stackelberg.report import Report

pytestmark = pytest.mark.usefixtures("brief_searches")
Command = Callable[..., Any]
FAST = ("--data", "digits", "--eps", "0.05", "--n", 30, "--effort", "fast")
EASY = ("--data", "digits", "--eps", "0.25", "--n", 6, "--effort", "fast")  # all fall after few questions


def layers(run: Path) -> list[torch.nn.Linear]:
    """The linear layers of the run's network, in order."""
    return [module for module in models.load(run).modules() if isinstance(module, torch.nn.Linear)]


def unbuildable(run: Path, path: Path, labels: bool = False) -> Path:
    """The run's network through an operator that has no rule, which changes nothing: a sum over one number each."""
    constants: dict[str, Any] = {"axis": np.int64(2), "rows": np.array([0, 64, 1]), "flat": np.array([0, 64])}
    nodes = [node("Reshape", "x rows", "r"), node("CumSum", "r axis", "c"), node("Reshape", "c flat", "h0")]
    every = layers(run)
    for number, layer in enumerate(every):
        constants |= {f"w{number}": layer.weight.detach().numpy(), f"b{number}": layer.bias.detach().numpy()}
        last = number == len(every) - 1
        to = "z" if last else f"g{number}"
        nodes.append(node("Gemm", f"h{number} w{number} b{number}", to, transB=1))
        nodes += [] if last else [node("Relu", to, f"h{number + 1}")]
    if labels:
        nodes.append(node("ArgMax", "z", axis=1, keepdims=0))
        return write(path, nodes, ("n", 1, 8, 8), constants, ("n",), answer=onnx.TensorProto.INT64)
    nodes.append(node("Identity", "z"))
    return write(path, nodes, ("n", 1, 8, 8), constants, ("n", 10))


def test_a_rebuilt_graph_gets_the_bracket_of_the_network_it_came_from(
    stackelberg: Command, run: Path, tmp_path: Path
) -> None:
    path = export(models.load(run).eval(), tmp_path / "net.onnx", (1, 8, 8), dynamo=False)
    for source, out in ((run, "run"), (path, "onnx")):
        answer = stackelberg("audit", source, *FAST, "--out", tmp_path / out, "--json")
        assert answer.status == 0, answer.err
        assert "black box" not in answer.err
    ours, theirs = (Report.from_json(tmp_path / out / "report.json") for out in ("run", "onnx"))
    assert theirs.clean == ours.clean
    assert theirs.robust == ours.robust
    assert 0 < theirs.robust.lower.value <= theirs.robust.upper.value < theirs.clean.value
    assert "no-gradient" not in {caveat.code for caveat in theirs.warnings}


@pytest.mark.parametrize("labels", [False, True], ids=["scores", "labels"])
def test_what_cannot_be_rebuilt_is_attacked_by_its_answers(
    stackelberg: Command, run: Path, tmp_path: Path, labels: bool
) -> None:
    path = unbuildable(run, tmp_path / "odd.onnx", labels)
    answer = stackelberg("audit", path, *EASY, "--out", tmp_path / "a", "--json")
    assert answer.status == 0, answer.err
    assert "the operator CumSum" in answer.err
    told = json.loads(answer.out)
    assert "no-gradient" in told["warnings"]
    assert told["robust_accuracy"]["upper"]["value"] < told["clean_accuracy"]["value"]
    assert told["robust_accuracy"]["lower"]["value"] == 0
    own = json.loads(stackelberg("audit", run, *EASY, "--out", tmp_path / "own", "--json").out)
    assert told["clean_accuracy"] == own["clean_accuracy"]


def test_files_that_are_no_networks_are_refused(stackelberg: Command, run: Path, tmp_path: Path) -> None:
    path = export(models.load(run).eval(), tmp_path / "net.onnx", (1, 8, 8), dynamo=False)
    (tmp_path / "torn.onnx").write_bytes(path.read_bytes()[:200])
    wide = write(tmp_path / "wide.onnx", [node("Flatten", "x")], ("n", 1, 8, 8), {}, ("n", 64))
    other = export(
        models.build("mlp", 10, (1, 28, 28), 4, seed=0).eval(), tmp_path / "other.onnx", (1, 28, 28), dynamo=False
    )
    refusals = {
        tmp_path / "torn.onnx": "torn.onnx is truncated or no ONNX network",
        tmp_path / "none.onnx": "none.onnx",
        wide: "the network's output has the shape [4, 64], needed is [4, 10]",
        other: "the network cannot take images of shape [1, 8, 8]",
    }
    for source, sentence in refusals.items():
        answer = stackelberg("audit", source, *FAST, "--out", tmp_path / "audit")
        assert (answer.status, answer.out) == (2, ""), source
        assert sentence in answer.line
        assert not (tmp_path / "audit").exists()


def test_a_function_of_the_users_own_that_takes_arrays(
    stackelberg: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "served.py").write_text(
        "import torch\nfrom stackelberg import models\n\n"
        f"net = models.load({str(run)!r}).eval()\n\n\n"
        "def served():\n    return models.BlackBox(lambda x: net(torch.from_numpy(x)).detach().numpy(), arrays=True)\n"
    )
    monkeypatch.chdir(tmp_path)
    answer = stackelberg("audit", "served:served", *EASY, "--json")
    assert answer.status == 0, answer.err
    told = json.loads(answer.out)
    assert "no-gradient" in told["warnings"]
    assert told["robust_accuracy"]["upper"]["value"] < told["clean_accuracy"]["value"]
