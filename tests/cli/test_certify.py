"""stackelberg certify: claims about examples in a file, answers about properties in the competition's words."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from onnx_files import export, node, write
from stackelberg import data, models
from stackelberg.certify.checking import read_certificate
from stackelberg.certify.document import Robustness, Smoothing, example_digest, unpacked
from stackelberg.models import fingerprint
from stackelberg.threat import Ball

Command = Callable[..., Any]


@pytest.mark.parametrize("method", ["ibp", "crown", "alpha-crown", "complete", "dual", "milp", "zonotope", "lipschitz"])
def test_every_method_writes_its_claims(stackelberg: Command, run: Path, tmp_path: Path, method: str) -> None:
    radius = {"ibp": "0.01", "lipschitz": "0.003"}.get(method, "0.04")
    answer = stackelberg(
        "certify", run, "--data", "digits", "--eps", radius, "--n", 4, "--method", method, "--timeout", 10,
        "--out", tmp_path,
    )  # fmt: skip
    assert answer.status == 0, answer.err
    document = read_certificate(tmp_path / "certificate.json")
    assert isinstance(document, Robustness)
    assert document.method == method
    assert len(document.claims) == 4
    assert document.digest == document.expected_digest()
    network, test = models.load(run), data.load("digits", "test")
    assert document.model.weights == fingerprint(network)
    for claim in document.claims:
        x, y = test.batch([claim.index])
        assert claim.example == example_digest(x[0])
        assert claim.label == int(y[0])
        if claim.verdict == "broken":
            assert claim.point is not None
            point = unpacked(claim.point, (1, 8, 8))
            assert point is not None
            assert Ball("linf", float(radius)).contains(point[None], x).all()
            assert int(network(point[None]).argmax(1)[0]) != claim.label
    assert document.count("proved") > 0
    assert f"proved   {document.count('proved')} of 4" in answer.out
    assert answer.out.splitlines()[-1] == str(tmp_path / "certificate.json")


def test_complete_and_milp_leave_nothing_open_and_agree(stackelberg: Command, run: Path, tmp_path: Path) -> None:
    found = {}
    for method in ("complete", "milp"):
        stackelberg(
            "certify", run, "--data", "digits", "--eps", "0.08", "--n", 5, "--method", method, "--timeout", 20,
            "--out", tmp_path / method,
        )  # fmt: skip
        document = read_certificate(tmp_path / method / "certificate.json")
        assert isinstance(document, Robustness)
        found[method] = [claim.verdict for claim in document.claims]
    assert found["complete"] == found["milp"]
    assert set(found["milp"]) == {"proved", "broken"}


def test_smoothing_is_another_kind_and_no_proof(stackelberg: Command, run: Path, tmp_path: Path) -> None:
    arguments = ("certify", run, "--data", "digits", "--eps", "0.1", "--n", 5, "--method", "smoothing")
    answer = stackelberg(*arguments, "--norm", "l2", "--sigma", "0.2", "--samples", 500, "--out", tmp_path)
    assert answer.status == 0
    assert "a statistical statement about the smoothed network, no proof" in answer.out
    document = read_certificate(tmp_path / "certificate.json")
    assert isinstance(document, Smoothing)
    assert any(claim.radius > 0.1 for claim in document.claims)
    refused = stackelberg(*arguments, "--out", tmp_path)
    assert refused.status == 2
    assert "smoothing speaks of l2 only, got the norm linf" in refused.line


def test_json_counts_the_verdicts(stackelberg: Command, run: Path, tmp_path: Path) -> None:
    answer = stackelberg(
        "certify", run, "--data", "digits", "--eps", "0.02", "--n", 4, "--method", "crown", "--out", tmp_path, "--json"
    )
    told = json.loads(answer.out)
    assert told["proved"] + told["broken"] + told["open"] == told["n"] == 4
    assert told["certificate"] == str(tmp_path / "certificate.json")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--data", "digits"), "examples need a network, --data and --eps"),
        (("--onnx", "net.onnx"), "a property needs both --onnx and --vnnlib"),
        (("somewhere", "--data", "digits", "--eps", "0.1", "--method", "crwn"), "there is no network somewhere"),
    ],
)
def test_bad_input_is_one_sentence(stackelberg: Command, arguments: tuple[str, ...], sentence: str) -> None:
    answer = stackelberg("certify", *arguments)
    assert answer.status == 2
    assert sentence in answer.line


def test_an_unknown_method_is_named(stackelberg: Command, run: Path) -> None:
    answer = stackelberg("certify", run, "--data", "digits", "--eps", "0.1", "--n", 2, "--method", "crwn")
    assert answer.status == 2
    assert "unknown method 'crwn': did you mean 'crown'?" in answer.err


def vnnlib(path: Path, inputs: int, outputs: int, low: float, high: float, unsafe: str) -> Path:
    lines = [f"(declare-const X_{i} Real)" for i in range(inputs)]
    lines += [f"(declare-const Y_{i} Real)" for i in range(outputs)]
    lines += [f"(assert (<= X_{i} {high}))\n(assert (>= X_{i} {low}))" for i in range(inputs)]
    path.write_text("\n".join([*lines, f"(assert {unsafe})"]))
    return path


def values(text: str) -> tuple[str, dict[str, float]]:
    """The verdict, and the counterexample's variables."""
    verdict, _, rest = text.partition("\n")
    return verdict, {name: float(value) for name, value in re.findall(r"\((\w_\d+) ([^()]+)\)", rest)}


@pytest.mark.parametrize("shape", [(1, 1, 5), (5,), (5, 1)], ids=str)
def test_a_property_of_a_file_of_any_shape(stackelberg: Command, tmp_path: Path, shape: tuple[int, ...]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(5, 10), nn.ReLU(), nn.Linear(10, 3)).eval()
    path = export(net, tmp_path / "net.onnx", shape, free=False, dynamo=False)
    corners = torch.cartesian_prod(*[torch.linspace(-1, 1, 5)] * 5).view(-1, *shape)
    with torch.no_grad():
        top = float(net(corners)[:, 0].max())
    easy = vnnlib(tmp_path / "easy.vnnlib", 5, 3, -1, 1, f"(>= Y_0 {top - 0.01})")
    answer = stackelberg("certify", "--onnx", path, "--vnnlib", easy, "--timeout", 20, "--out", tmp_path / "r.txt")
    assert answer.status == 0, answer.err
    verdict, found = values(answer.out)
    assert verdict == "sat"
    assert (tmp_path / "r.txt").read_text().strip() == answer.out.strip()
    x = torch.tensor([found[f"X_{i}"] for i in range(5)])
    assert (x.abs() <= 1).all()
    with torch.no_grad():
        y = net(x.view(1, *shape))[0]
    torch.testing.assert_close(y, torch.tensor([found[f"Y_{i}"] for i in range(3)]), atol=1e-4, rtol=1e-4)
    assert float(y[0]) >= top - 0.0101
    hard = vnnlib(tmp_path / "hard.vnnlib", 5, 3, -1, 1, f"(>= Y_0 {top + 2})")
    assert stackelberg("certify", "--onnx", path, "--vnnlib", hard, "--timeout", 20).out == "unsat\n"


def test_images_with_channels_last_keep_the_files_order(stackelberg: Command, tmp_path: Path) -> None:
    """Y_0 is X_4, the second pixel's second channel: in another order it would be another variable."""
    weight = np.zeros((12, 2), np.float32)
    weight[4, 0] = weight[11, 1] = 1
    nodes = [node("Reshape", "x shape", "flat"), node("MatMul", "flat w")]
    path = write(tmp_path / "net.onnx", nodes, (1, 2, 2, 3), {"shape": np.array([1, 12]), "w": weight}, (1, 2))
    text = (
        "".join(f"(declare-const X_{i} Real)" for i in range(12)) + "(declare-const Y_0 Real)(declare-const Y_1 Real)"
    )
    text += "".join(f"(assert (>= X_{i} 0))(assert (<= X_{i} {1 if i == 4 else 0.25}))" for i in range(12))
    for bound, verdict in ((0.9, "sat"), (1.1, "unsat")):
        (tmp_path / "p.vnnlib").write_text(f"{text}(assert (>= Y_0 {bound}))")
        out = stackelberg("certify", "--onnx", path, "--vnnlib", tmp_path / "p.vnnlib", "--timeout", 10).out
        assert values(out)[0] == verdict


def test_a_wrong_file_is_said_with_its_line(stackelberg: Command, tmp_path: Path) -> None:
    path = export(nn.Linear(2, 2), tmp_path / "net.onnx", (2,), dynamo=False)
    question = vnnlib(tmp_path / "p.vnnlib", 2, 2, 0, 1, "(< Y_0 1)")
    answer = stackelberg("certify", "--onnx", path, "--vnnlib", question)
    assert answer.status == 2
    assert f"{question}, line 9: (< ...) is no formula" in answer.line


def test_a_property_of_another_size_is_said_of_a_network_that_is_only_run(stackelberg: Command, tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", [node("Tan", "x")], (1, 2), {}, (1, 2))
    question = vnnlib(tmp_path / "p.vnnlib", 3, 2, 0, 1, "(>= Y_0 1)")
    answer = stackelberg("certify", "--onnx", path, "--vnnlib", question)
    assert answer.status == 2
    assert "the property speaks of 3 inputs X_i, the network takes 2" in answer.err.splitlines()[-1]
