"""ONNX files: what is rebuilt equals onnxruntime and has gradients and proofs; what is not runs as a black box."""

import builtins
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from onnx_files import export, node, write
from stackelberg import models
from stackelberg.certify import interval
from stackelberg.errors import StackelbergError
from stackelberg.models import onnx_file
from stackelberg.threat import Ball

WIDTHS = {"mlp": 16, "lenet5": 6, "small-cnn": 4, "vit": 16, "wrn-28-10": 1}
RNG = np.random.default_rng(0)


def array(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def integers(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def truth(path: Path, x: torch.Tensor, inner: tuple[int, ...]) -> torch.Tensor:
    """onnxruntime's own answers, one example after the other."""
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    rows = [np.asarray(session.run(None, {name: one.numpy().reshape(inner)})[0]).reshape(-1) for one in x]
    return torch.from_numpy(np.stack(rows))


def assert_rebuilt(path: Path, x: torch.Tensor, inner: tuple[int, ...]) -> models.Onnx:
    """The file is rebuilt for any number of examples, answers as onnxruntime does, and has a gradient."""
    model = models.load(path)
    assert isinstance(model, models.Onnx)
    wanted = truth(path, x, inner)
    point = x.clone().requires_grad_()
    answer = model(point)
    torch.testing.assert_close(answer.detach(), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    (gradient,) = torch.autograd.grad(answer.sum(), point)
    assert gradient.abs().sum() > 0
    return model


@pytest.mark.parametrize("name", models.IMAGE_NAMES)
def test_every_network_comes_back_from_its_file(name: str, tmp_path: Path) -> None:
    net = models.build(name, 7, (1, 8, 8), WIDTHS.get(name, 2), [0.5], [0.2], seed=0).eval()
    path = export(net, tmp_path / "net.onnx", (1, 8, 8), free=name < "m", dynamo=False)
    x = torch.rand(3, 1, 8, 8)
    model = assert_rebuilt(path, x, (1, 1, 8, 8))
    torch.testing.assert_close(model(x), net(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("free", [True, False])
def test_files_of_the_newer_exporter(free: bool, tmp_path: Path) -> None:
    net = models.build("small-cnn", 7, (3, 8, 8), 4, seed=0).eval()
    x = torch.rand(5, 3, 8, 8)
    model = assert_rebuilt(export(net, tmp_path / "net.onnx", (3, 8, 8), free), x, (1, 3, 8, 8))
    torch.testing.assert_close(model(x), net(x), rtol=1e-4, atol=1e-5)


def test_bounds_go_through_a_rebuilt_network(tmp_path: Path) -> None:
    net = models.build("small-cnn", 5, (1, 8, 8), 4, [0.3], [0.4], seed=0).eval()
    model = models.load(export(net, tmp_path / "net.onnx", (1, 8, 8), free=False, dynamo=False))
    x = torch.rand(6, 1, 8, 8)
    y = net(x).argmax(1)
    ours, theirs = (interval(each, x, y, Ball("linf", 1e-4)) for each in (model, net))
    torch.testing.assert_close(ours.margin, theirs.margin, rtol=1e-3, atol=1e-4)
    assert ours.certified.any()


def test_flat_digits_as_columns_and_as_rows(tmp_path: Path) -> None:
    """Fully connected networks as they are found: x [1, 784, 1] or [1, 784], weights on either side, bias apart."""
    w1, b1, w2, b2 = array(8, 784), array(8, 1), array(10, 8), array(10, 1)
    columns = [
        node("MatMul", "w1 x", "h"), node("Add", "h b1", "a"), node("Relu", "a", "r"), node("MatMul", "w2 r", "z"),
        node("Add", "z b2"),
    ]  # fmt: skip
    weights = {"w1": w1, "b1": b1, "w2": w2, "b2": b2}
    x = torch.rand(4, 1, 28, 28)
    one = assert_rebuilt(write(tmp_path / "a.onnx", columns, (1, 784, 1), weights, (1, 10, 1)), x, (1, 784, 1))
    none = assert_rebuilt(write(tmp_path / "b.onnx", columns, (784, 1), weights, (10, 1)), x, (784, 1))
    rows = [
        node("Flatten", "x", "f"), node("Gemm", "f w1 b1", "h", transB=1), node("Relu", "h", "r"),
        node("MatMul", "r w2", "z"), node("Add", "z b2"),
    ]  # fmt: skip
    weights = {"w1": w1, "b1": b1[:, 0], "w2": w2.T, "b2": b2[:, 0]}
    two = assert_rebuilt(write(tmp_path / "c.onnx", rows, (1, 1, 28, 28), weights), x, (1, 1, 28, 28))
    for model in (one, none, two):
        linear = [part for part in model.modules() if isinstance(part, nn.Linear)]
        assert [part.bias is not None for part in linear] == [True, True]
    torch.testing.assert_close(one(x), two(x), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(one(x), none(x), rtol=1e-5, atol=1e-5)


def test_an_aircraft_network(tmp_path: Path) -> None:
    """ACAS Xu's form: five numbers [1, 1, 1, 5], a mean subtracted, Flatten, MatMul and Add."""
    nodes = [
        node("Sub", "x mean", "s"), node("Flatten", "s", "f"), node("MatMul", "f w1", "m"), node("Add", "m b1", "a"),
        node("Relu", "a", "r"), node("MatMul", "r w2", "n"), node("Add", "n b2"),
    ]  # fmt: skip
    constants = {
        "mean": array(1, 1, 1, 5), "w1": array(5, 12), "b1": array(12), "w2": array(12, 5), "b2": array(5),
    }  # fmt: skip
    path = write(tmp_path / "acas.onnx", nodes, (1, 1, 1, 5), constants)
    model = assert_rebuilt(path, torch.rand(6, 1, 1, 5), (1, 1, 1, 5))
    assert model.inner == (1, 1, 5)


def image_chain(*nodes: tuple[str, str, dict[str, Any]]) -> list:
    """Operators one after the other from x to out; {} stands for the one before."""
    names = ["x", *(f"t{place}" for place in range(len(nodes) - 1)), "out"]
    return [
        node(op, inputs.format(names[place]), names[place + 1], **options)
        for place, (op, inputs, options) in enumerate(nodes)
    ]


IMAGE = (1, 3, 8, 8)
FLAT: tuple[str, str, dict[str, Any]] = ("Flatten", "{}", {})
CHAINS: dict[str, tuple[list, tuple[int, ...]]] = {
    "pads of different sides": (image_chain(("Conv", "{} k", {"pads": [0, 1, 2, 1]}), FLAT), IMAGE),
    "same padding": (image_chain(("Conv", "{} k", {"auto_pad": "SAME_LOWER", "strides": [2, 2]}), FLAT), IMAGE),
    "pooling": (
        image_chain(
            ("MaxPool", "{}", {"kernel_shape": [3, 3], "pads": [0, 0, 1, 1], "strides": [2, 2]}),
            ("AveragePool", "{}", {"kernel_shape": [2, 2], "ceil_mode": 1}),
            FLAT,
        ),
        IMAGE,
    ),
    "channels last": (
        image_chain(
            ("Transpose", "{}", {"perm": [0, 3, 1, 2]}),
            ("Conv", "{} k", {}),
            ("LeakyRelu", "{}", {"alpha": 0.2}),
            ("GlobalAveragePool", "{}", {}),
            ("Squeeze", "{} ends", {}),
        ),
        (1, 8, 8, 3),
    ),
    "a mean over places": (
        image_chain(
            ("Clip", "{} low high", {}), ("ReduceMean", "{}", {"axes": [2, 3], "keepdims": 0}), ("Softmax", "{}", {})
        ),
        IMAGE,
    ),
    "scales and shifts": (
        image_chain(
            ("Sub", "{} m", {}),
            ("Div", "{} s", {}),
            ("Mul", "half {}", {}),
            ("Sigmoid", "{}", {}),
            ("Sub", "half {}", {}),
            FLAT,
        ),
        IMAGE,
    ),
    "a fixed reshape": (
        image_chain(
            ("Reshape", "{} to", {}),
            ("Tanh", "{}", {}),
            ("Transpose", "{}", {"perm": [0, 2, 1]}),
            ("Slice", "{} zero two one", {}),
            FLAT,
        ),
        IMAGE,
    ),
    "without a batch": (
        image_chain(
            ("Transpose", "{}", {"perm": [2, 0, 1]}),
            ("Unsqueeze", "{} zero", {}),
            ("Conv", "{} k8", {}),
            ("Pad", "{} frame", {}),
            ("Reshape", "{} row", {}),
        ),
        (4, 8, 8),
    ),
    "gathered and joined": (
        image_chain(
            ("Gather", "{} pick", {"axis": 1}),
            ("Concat", "{} extra", {"axis": 1}),
            ("Gather", "{} last", {"axis": 2}),
            FLAT,
        ),
        IMAGE,
    ),
    "a product of activations": (
        image_chain(("Relu", "{}", {}), ("MatMul", "{} x", {}), ("Abs", "{}", {}), ("ReduceSum", "{} one", {}), FLAT),
        IMAGE,
    ),
}

CONSTANTS = {
    "k": array(4, 3, 3, 3), "ends": integers(2, 3), "low": np.float32(0.2), "high": np.float32(0.6),
    "m": array(3, 1, 1), "s": abs(array(1, 3, 1, 1)) + 0.5, "half": np.float32(0.5), "to": integers(1, 6, 32),
    "zero": integers(0), "two": integers(9), "one": integers(1), "k8": array(4, 8, 2, 2), "row": integers(1, -1),
    "frame": integers(0, 0, 1, 0, 0, 0, 1, 2), "pick": integers(2, 0), "extra": array(1, 1, 8, 8), "last": np.int64(-1),
}  # fmt: skip


@pytest.mark.parametrize("chain", CHAINS)
def test_operators(chain: str, tmp_path: Path) -> None:
    nodes, shape = CHAINS[chain]
    used = {name for each in nodes for name in each.input}
    constants = {name: value for name, value in CONSTANTS.items() if name in used}
    path = write(tmp_path / "net.onnx", nodes, shape, constants, (1, "k"), opset=13)
    inner = shape[1:] if shape[0] == 1 else shape
    images = (inner[2], inner[0], inner[1]) if chain == "channels last" else inner
    x = torch.rand(3, *images)
    model = models.load(path)
    assert isinstance(model, models.Onnx)
    wanted = truth(path, x.permute(0, 2, 3, 1).contiguous() if chain == "channels last" else x, shape)
    torch.testing.assert_close(model(x), wanted, rtol=1e-4, atol=1e-5)


def test_a_compressed_file(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", [node("Gemm", "x w")], (1, 6), {"w": array(6, 3)})
    (tmp_path / "net.onnx.gz").write_bytes(gzip.compress(path.read_bytes()))
    x = torch.rand(2, 6)
    assert torch.equal(models.load(tmp_path / "net.onnx.gz")(x), models.load(path)(x))


def odd(path: Path, batch: int | str, rows: int = 1) -> Path:
    """A linear map after an operator that has no rule; with `rows` for exactly so many examples."""
    nodes = [node("Softsign", "x", "h"), node("CumSum", "h axis", "c"), node("Gemm", "c w", "g")]
    nodes.append(node("Reshape", "g to"))
    to = integers(-1 if isinstance(batch, str) else rows, 3)
    constants = {"axis": np.int64(1), "w": array(6, 3), "to": to}
    return write(path, nodes, (batch, 6), constants)


@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_what_cannot_be_rebuilt_is_a_black_box_for_any_number(batch: int | str, tmp_path: Path) -> None:
    path = odd(tmp_path / "net.onnx", batch, batch if isinstance(batch, int) else 1)
    reason = "it was made for 4 examples" if batch == 4 else "the operator CumSum"
    with pytest.warns(UserWarning, match=rf"cannot be rebuilt from torch's modules \({reason}"):
        model = models.load(path)
    assert isinstance(model, models.BlackBox)
    x = torch.rand(6, 6)
    weight = onnx_file.read(path).model.graph.initializer[1]
    by_hand = (x / (1 + x)).cumsum(1) @ torch.frombuffer(bytearray(weight.raw_data), dtype=torch.float32).view(6, 3)
    torch.testing.assert_close(model(x), by_hand, rtol=1e-4, atol=1e-5)
    assert not model(x.requires_grad_()).requires_grad


def test_a_file_that_gives_labels_alone(tmp_path: Path) -> None:
    nodes = [node("Gemm", "x w", "z"), node("ArgMax", "z", axis=1, keepdims=0)]
    weight = array(6, 3)
    path = write(tmp_path / "net.onnx", nodes, ("n", 6), {"w": weight}, ("n",), answer=TensorProto.INT64)
    with pytest.warns(UserWarning, match="black box"):
        model = models.load(path)
    assert isinstance(model, models.BlackBox)
    assert model.labels
    x = torch.rand(5, 6)
    scores = models.network(model, x, 3)(x)
    assert torch.equal(scores.argmax(1), (x @ torch.from_numpy(weight)).argmax(1))
    assert sorted(scores.unique().tolist()) == [-1.0, 1.0]


def test_loading_leaves_the_global_generator(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", [node("Gemm", "x w")], (1, 6), {"w": array(6, 3)})
    before = torch.random.get_rng_state()
    models.load(path)
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"onnx")
    with pytest.raises(StackelbergError, match=r"broken\.onnx is truncated or no ONNX network"):
        models.load(tmp_path / "broken.onnx")
    path = write(tmp_path / "two.onnx", [node("Gemm", "x w")], (1, 6), {"w": array(6, 3)})
    graph = helper.make_graph(
        [node("Add", "x y")],
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in "xy"],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3])],
    )
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )
    with pytest.raises(StackelbergError, match=r"takes 2 inputs \(x, y\), one tensor of images is needed"):
        models.load(path)


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "net.onnx", [node("Gemm", "x w")], (1, 6), {"w": array(6, 3)})
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "onnxruntime":
            raise ImportError("No module named 'onnxruntime'", name="onnxruntime")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(StackelbergError, match=r"needs the package onnxruntime.*pip install 'stackelberg\[onnx\]'"):
        models.load(path)
