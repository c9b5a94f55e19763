"""What does an ONNX file hold?  Its graph, read once for one example: every tensor's shape and every constant's value.

An ONNX file is protocol buffers: numbers and the names of operators. Nothing in it runs but these operators, in
onnxruntime; libraries of custom operators are never loaded.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from stackelberg.errors import StackelbergError

ENDINGS = (".onnx", ".onnx.gz")
_FLOATS = {1: np.float32, 10: np.float16, 11: np.float64}  # TensorProto.DataType


class Unbuildable(Exception):
    """The graph cannot be rebuilt from torch's modules; the message says what stands in the way."""


@dataclass(frozen=True)
class Node:
    """One operator of the graph."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class Trace:
    """The graph, as it computes one example.

    Attributes:
        nodes: in the order in which they run.
        shapes: of every tensor, by its name, for one example.
        constants: value of every tensor that does not depend on the input, by its name.
        opset: version of the standard operators.
    """

    nodes: tuple[Node, ...]
    shapes: dict[str, tuple[int, ...]]
    constants: dict[str, np.ndarray]
    opset: int


@dataclass(frozen=True)
class File:
    """A readable ONNX network with one input and one output that counts.

    Attributes:
        path: where it came from.
        model: the protocol buffer.
        input: name of the images' tensor.
        output: name of the answer's tensor.
        dtype: of the input.
        shape: of the input as the file writes it; None where the file leaves a size free.
        batched: whether the first of these sizes counts examples.
    """

    path: Path
    model: Any
    input: str
    output: str
    dtype: type
    shape: tuple[int | None, ...]
    batched: bool

    @property
    def inner(self) -> tuple[int | None, ...]:
        """The shape of one example."""
        return self.shape[1:] if self.batched else self.shape

    def sizes(self, *count: int) -> tuple[int, ...]:
        """The shape of `count` examples, of one without that dimension if left out.

        Raises:
            Unbuildable: the file leaves the size of an image free.
        """
        known = [size for size in self.inner if size is not None]
        if len(known) < len(self.inner):
            raise Unbuildable("the file leaves the size of an image free")
        return (*count, *known)

    def session(self, batch: int | str | None = None, everything: bool = False) -> Any:
        """An onnxruntime session, for batches of `batch` (a name for any size), with every tensor as an output."""
        _, runtime = packages()
        model = type(self.model)()
        model.CopyFrom(self.model)
        if batch is not None and self.batched:
            _rebatch(model, self.input, batch)
        if everything:
            _expose(model)
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = torch.get_num_threads()
        if everything:  # so that no tensor is optimised away
            options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        return runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def trace(self) -> Trace:
        """Run one example and keep every tensor's shape, and the value of what does not depend on the input.

        Raises:
            Unbuildable: a size other than the number of examples is free, or onnxruntime cannot run one example.
        """
        onnx, _ = packages()
        graph = self.model.graph
        nodes = tuple(_node(onnx, proto) for proto in graph.node)
        whole = self.sizes(1) if self.batched else self.sizes()
        try:
            session = self.session(1, everything=True)
            names = [output.name for output in session.get_outputs()]
            values = session.run(names, {self.input: np.full(whole, 0.5, self.dtype)})
        except Exception as error:  # onnxruntime raises its own kinds
            raise Unbuildable(f"it was made for {self.shape[0]} examples and does not run on one") from error
        seen = {name: value for name, value in zip(names, values, strict=True) if isinstance(value, np.ndarray)}
        constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        for node in nodes:
            if node.op in ("Shape", "Size") or all(name in constants for name in node.inputs if name):
                constants.update({name: seen[name] for name in node.outputs if name in seen})
        shapes = {name: value.shape for name, value in (seen | constants).items()} | {self.input: whole}
        return Trace(nodes, shapes, constants, _opset(self.model))


def packages() -> tuple[ModuleType, ModuleType]:
    """(onnx, onnxruntime), which are an extra.

    Raises:
        StackelbergError: one of them is not installed.
    """
    try:
        import onnx
        import onnx.numpy_helper
        import onnxruntime

        onnxruntime.disable_telemetry_events()  # an audit asks nothing of a network
    except ImportError as error:
        raise StackelbergError(
            f"an ONNX network needs the package {error.name}, which is not installed: pip install 'stackelberg[onnx]'"
        ) from error
    return onnx, onnxruntime


def read(path: Path) -> File:
    """The network of an .onnx file (or .onnx.gz).

    Raises:
        StackelbergError: a package is missing; the file is damaged; it has not one input of floating-point numbers, or
            not one output that can be the answer.
    """
    onnx, _ = packages()
    try:
        model = onnx.load_from_string(gzip.decompress(path.read_bytes())) if path.suffix == ".gz" else onnx.load(path)
        onnx.checker.check_model(model)
        if model.functions:
            import onnx.inliner

            model = onnx.inliner.inline_local_functions(model)
    except Exception as error:  # protobuf, the checker and the file system each raise their own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StackelbergError(f"{path} is truncated or no ONNX network ({reason}); export it again") from error
    entry = _entry(model, path)
    kind = entry.type.tensor_type
    shape = tuple(size.dim_value if size.HasField("dim_value") else None for size in kind.shape.dim)
    exit_ = _exit(model, path)
    return File(path, model, entry.name, exit_.name, _FLOATS[kind.elem_type], shape, _is_batched(shape, _sizes(exit_)))


def _entry(model: Any, path: Path) -> Any:
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise StackelbergError(
            f"{path} takes {len(inputs)} inputs ({', '.join(value.name for value in inputs)}), one tensor of images is"
            " needed; export the part that takes the images alone"
        )
    if inputs[0].type.tensor_type.elem_type not in _FLOATS:
        raise StackelbergError(
            f"{path} takes images of another type than float (ONNX type {inputs[0].type.tensor_type.elem_type}); export"
            " it with the conversion from floats in [0, 1] as its first step"
        )
    return inputs[0]


def _exit(model: Any, path: Path) -> Any:
    """The only output; of several the only one that can hold scores [B, K]."""
    outputs = list(model.graph.output)
    if len(outputs) > 1:
        outputs = [
            value
            for value in outputs
            if value.type.tensor_type.elem_type in _FLOATS and len(value.type.tensor_type.shape.dim) == 2
        ]
    if len(outputs) != 1:
        raise StackelbergError(
            f"{path} has {len(model.graph.output)} outputs ({', '.join(value.name for value in model.graph.output)}),"
            f" {len(outputs)} of them scores of shape [batch, classes]; export it with the logits as its only output"
        )
    return outputs[0]


def _sizes(value: Any) -> tuple[int | None, ...]:
    return tuple(size.dim_value if size.HasField("dim_value") else None for size in value.type.tensor_type.shape.dim)


def _is_batched(shape: tuple[int | None, ...], answer: tuple[int | None, ...]) -> bool:
    """Whether the first size counts examples: it is free, or 1 before others, or the answer has it, too."""
    if not shape or shape[0] is None:
        return bool(shape)
    return len(shape) > 1 and (shape[0] == 1 or (len(answer) > 1 and answer[0] == shape[0]))


def _opset(model: Any) -> int:
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)


def _rebatch(model: Any, entry: str, batch: int | str) -> None:
    """Another number of examples; shapes that were written down for the old one are dropped."""
    for value in [*model.graph.input, *model.graph.output]:
        if value.name == entry:
            size = value.type.tensor_type.shape.dim[0]
            size.Clear()
            setattr(size, "dim_value" if isinstance(batch, int) else "dim_param", batch)
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]


def _expose(model: Any) -> None:
    onnx, _ = packages()
    known = {value.name for value in model.graph.output}
    for node in model.graph.node:
        for name in node.output:
            if name and name not in known:
                known.add(name)
                model.graph.output.append(onnx.ValueInfoProto(name=name))


def _node(onnx: ModuleType, proto: Any) -> Node:
    if proto.domain not in ("", "ai.onnx"):
        raise Unbuildable(f"the operator {proto.domain}.{proto.op_type}")
    options = {}
    for attribute in proto.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        options[attribute.name] = value.decode() if isinstance(value, bytes) else value
    return Node(proto.op_type, tuple(proto.input), tuple(proto.output), options)
