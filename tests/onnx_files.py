"""ONNX files for tests: networks exported by torch, and graphs put together operator by operator."""

import contextlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn


def export(net: nn.Module, path: Path, shape: Sequence[int], free: bool = True, dynamo: bool = True) -> Path:
    """Write a network in evaluation mode to `path`, for inputs [B, *shape] of any number (`free`) or of one example."""
    x = torch.rand(2 if free else 1, *shape)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if dynamo:
            sizes = ({0: torch.export.Dim("batch")},) if free else None
            torch.onnx.export(net, (x,), path, dynamo=True, external_data=False, dynamic_shapes=sizes)
        else:
            axes = {"x": {0: "batch"}} if free else None
            torch.onnx.export(net, (x,), path, dynamo=False, input_names=["x"], dynamic_axes=axes)
    return path


def write(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str],
    constants: dict[str, np.ndarray],
    output: Sequence[int | str] | None = None,
    opset: int = 17,
    answer: int = onnx.TensorProto.FLOAT,
) -> Path:
    """Write a graph from the input "x" of `shape` to the output "out" (by default [shape[0], any])."""
    wide = (shape[0], "k") if output is None else output
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("out", answer, list(wide))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path)
    return path


def node(op: str, inputs: str, output: str = "out", **options: Any) -> onnx.NodeProto:
    """node("Gemm", "x w b", "h"): one operator."""
    return helper.make_node(op, inputs.split(" "), output.split(" "), **options)
