"""The small valid files that `fuzz.py` spoils: python benchmarks/fuzz_materials.py FOLDER"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from safetensors.torch import save_file
from torch import nn

from stackelberg import data, models
from stackelberg.cli import main

PROPERTY = """; two inputs may move
(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real)
(declare-const Y_1 Real)
(assert (>= X_0 -0.1))
(assert (<= X_0 0.2))
(assert (>= X_1 0.0))
(assert (<= X_1 1.0))
(assert (or (and (>= (* 1.0 Y_0) (+ Y_1 5.0))) (and (<= Y_0 -100.0) (>= Y_1 0.5))))
"""


def images() -> tuple[np.ndarray, np.ndarray]:
    """24 grey images [4, 4] of two classes, that differ in brightness."""
    rng = np.random.default_rng(0)
    y = np.arange(24) % 2
    return (rng.integers(0, 120, (24, 4, 4)) + 120 * y[:, None, None]).astype(np.uint8), y


def network() -> nn.Module:
    """A narrow perceptron."""
    return models.build("mlp", 2, (1, 4, 4), 4, seed=0).eval()


def write_onnx(path: Path, inputs: int) -> None:
    """A perceptron of one hidden layer, operator by operator."""
    rng = np.random.default_rng(0)
    shape: list[int | str] = ["n", inputs] if inputs == 2 else ["n", 1, 4, 4]
    constants = {"w1": rng.normal(size=(inputs, 5)), "b1": rng.normal(size=5), "w2": rng.normal(size=(5, 2))}
    flat = [] if inputs == 2 else [helper.make_node("Flatten", ["x"], ["f"])]
    nodes = [
        *flat,
        helper.make_node("Gemm", ["f" if flat else "x", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "w2"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def make(folder: Path) -> None:
    """Write them all; "done" comes last."""
    x, y = images()
    np.savez(folder / "images.npz", x_train=x, y_train=y, x_test=x[:8], y_test=y[:8])
    data.save_parquet(data.load(folder / "images.npz", "train"), folder / "train.parquet")
    net = network()
    (folder / "run").mkdir()
    models.save_weights(net, folder / "weights.safetensors")
    models.save_weights(net, folder / "run" / "best.safetensors")
    save_file(net.state_dict(), folder / "plain.safetensors")
    spec = models.spec_of(net)
    assert spec is not None
    (folder / "run" / "run.json").write_text(json.dumps({"model": spec.model_dump(mode="json"), "status": "finished"}))
    sizes = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(net, (torch.rand(2, 1, 4, 4),), dynamic_shapes=sizes), folder / "model.pt2")
    write_onnx(folder / "model.onnx", 16)
    write_onnx(folder / "pair.onnx", 2)
    (folder / "property.vnnlib").write_text(PROPERTY)
    run, npz = str(folder / "run"), str(folder / "images.npz")
    ask("certify", run, "--data", npz, "--eps", "0.01", "--n", "3", "--method", "ibp", "--out", "certify")
    (folder / "certify" / "certificate.json").rename(folder / "certificate.json")
    certificate = (folder / "certificate.json").read_text()
    assert "proved" in certificate
    ask("memorize", "--data", npz, "--claims", "2", "--out", "mem")
    (folder / "results").mkdir()
    known = Path(__file__).parents[1] / "results" / "X02.json"
    (folder / "results" / "X02.json").write_bytes(known.read_bytes())
    (folder / "done").touch()


def ask(*words: str) -> None:
    """One command of stackelberg, which must succeed."""
    sys.argv = ["stackelberg", *words]
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise RuntimeError(f"{words} failed") from ended


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    make(Path.cwd())
