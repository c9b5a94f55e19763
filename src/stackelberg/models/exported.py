"""A network exported with torch.export, from a .pt2 file that cannot do anything but compute.

`torch.export.load` trusts its file: it unpickles records, evaluates symbolic sizes with Python's `eval`, compiles guard
strings, and calls any function below `torch` that the graph names. So the archive is taken apart first: raw weights and
the graph as JSON are kept, pickles and compiled code refused, every name and every operator checked against a list of
what is allowed, and only a new archive of what passed is handed to torch.
"""

import ast
import io
import json
import logging
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stackelberg.errors import StackelbergError
from stackelberg.files import from_json

_MODEL = "models/model.json"
_CONFIGS = {
    "data/weights/model_weights_config.json": re.compile(r"weight_\d+"),
    "data/constants/model_constants_config.json": re.compile(r"tensor_\d+"),
}
_PAYLOAD = re.compile(r"data/(weights/weight|constants/tensor)_\d+")
_PLAIN = ("archive_format", "archive_version", "byteorder", ".data/version", ".data/serialization_id")
_NAME = re.compile(r"[\w.+@-]*", re.ASCII)
_OPERATOR = re.compile(r"torch\.ops\.aten\.([A-Za-z]\w*|_[A-Za-z]\w*|__(?:and|or|xor)__)\.(\w+)", re.ASCII)
_FORBIDDEN = {"from_file", "save"}  # the two that touch files
_FUNCTION = re.compile(
    r"_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|pow|neg|eq|ne|lt|le|gt|ge)|math\.(ceil|floor|trunc)"
    r"|torch\.sym_(int|float|max|min|not|ite|sum)|torch\.ops\.higher_order\.wrap_with_set_grad_enabled"
)
_SYMBOL = re.compile(r"[a-z]{1,4}\d+|-?\d+(\.\d+)?(e[+-]?\d+)?", re.ASCII)  # s77; Float writes its number as a string
_SYMBOLIC = {  # how sympy writes sizes, and torch's functions of them
    "Symbol", "Integer", "Rational", "Float", "Add", "Mul", "Pow", "Max", "Min", "Mod", "Abs", "Not", "And", "Or",
    "Equality", "Unequality", "LessThan", "StrictLessThan", "GreaterThan", "StrictGreaterThan", "FloorDiv", "PythonMod",
    "CleanDiv", "CeilDiv", "CeilToInt", "FloorToInt", "TruncToInt", "IntTrueDiv", "ModularIndexing", "PowByNatural",
    "Where",
}  # fmt: skip
_ARITHMETIC = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.operator, ast.unaryop, ast.cmpop, ast.expr_context,
    ast.keyword,
)  # fmt: skip


class Frozen(nn.Module):
    """An exported program as a module: it was exported in one mode, and changing the mode changes nothing."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program
        self.training = False

    def train(self, mode: bool = True) -> "Frozen":
        self.training = mode
        return self

    def forward(self, x: Tensor) -> Any:
        return self.program(x)


def load_exported(path: Path, device: torch.device) -> Frozen:
    """The network of a .pt2 file, for any batch size, in evaluation mode, all its tensors on `device`.

    Raises:
        StackelbergError: the file is damaged, holds anything but a graph of plain operators and raw weights, or was
            exported in training mode, for several inputs, or for one batch size.
    """
    try:
        records = _records(path)
        program = _object(records[_MODEL])
    except (OSError, zipfile.BadZipFile, ValueError, KeyError) as error:
        if isinstance(error, StackelbergError):
            raise
        raise StackelbergError(
            f"{path} is truncated or no program of torch.export.save ({error}); export it again"
        ) from error
    checked = _checked_program(program, path, device)
    try:
        with _silent():
            network = torch.export.load(_archive(records, checked, path, device)).module()
    except Exception as error:  # torch raises whatever it stumbles upon
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StackelbergError(
            f"{path} cannot be read by torch {torch.__version__} ({reason}); export it again"
        ) from error
    return Frozen(network)


@contextmanager
def _silent() -> Iterator[None]:
    """Without torch's log, which writes the trace of an error that is then raised, too."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _records(path: Path) -> dict[str, bytes]:
    """The archive's records without their common folder; refused as soon as one could hold code."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        root = names[0].split("/")[0] + "/" if names else ""
        inner = [name.removeprefix(root) for name in names]
        if len(set(names)) < len(names) or not all(name.startswith(root) for name in names):
            raise _refused(path, "the archive names records twice or apart")
        if any(name.startswith("data/aotinductor") for name in inner):
            raise _refused(path, "it holds compiled code")
        if _MODEL not in inner:
            kind = "a pickle" if any(name.endswith(".pkl") for name in inner) else "no program named model"
            raise _refused(path, f"it holds {kind}")
        kept = [name for name in inner if _PAYLOAD.fullmatch(name) or name in (*_PLAIN, _MODEL, *_CONFIGS)]
        return {name: archive.read(root + name) for name in kept}


def _object(data: bytes) -> dict[str, Any]:
    value = from_json(data)
    if not isinstance(value, dict):
        raise ValueError("a JSON object was expected")
    return value


def _refused(path: Path, reason: str) -> StackelbergError:
    return StackelbergError(
        f"{path} is not loaded: {reason}, and loading it could run foreign code; export the network with"
        " torch.export.export and torch.export.save, with plain tensors and operators only"
    )


def _archive(records: dict[str, bytes], program: dict[str, Any], path: Path, device: torch.device) -> io.BytesIO:
    """A new archive of what was checked."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in records.items():
            if name in _CONFIGS:
                data = json.dumps(_checked_config(_object(data), _CONFIGS[name], path, device)).encode()
            elif name == _MODEL:
                data = json.dumps(program).encode()
            archive.writestr(f"model/{name}", data)
        archive.writestr("model/data/sample_inputs/model.pt", b"")
    buffer.seek(0)
    return buffer


def _checked_config(
    config: dict[str, Any], allowed: re.Pattern[str], path: Path, device: torch.device
) -> dict[str, Any]:
    """The table of weights or constants: raw tensors only."""
    for name, payload in config["config"].items():
        if payload["use_pickle"] or not allowed.fullmatch(payload["path_name"]):
            raise _refused(path, f"{name} is stored as a pickle")
    return _checked(config, path, device)


def _checked_program(program: dict[str, Any], path: Path, device: torch.device) -> dict[str, Any]:
    """The program with what only describes it (metadata, guards) left out; every string in it, and its use, checked."""
    try:
        checked = _checked({**program, "guards_code": []}, path, device)
        _usable(checked["graph_module"], path)
        return checked
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise StackelbergError(f"{path} holds a program of an unknown form ({error!r}); export it again") from error


def _checked(value: Any, path: Path, device: torch.device, key: str = "") -> Any:
    if isinstance(value, dict):
        if set(value) == {"type", "index"}:  # a device
            return {"type": device.type, "index": device.index}
        for name in value:
            _require(bool(_NAME.fullmatch(name)), f"the name {name!r}", path)
        return {
            name: {} if name in ("metadata", "treespec_namedtuple_fields") else _checked(inner, path, device, name)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_checked(inner, path, device, key) for inner in value]
    if isinstance(value, str):
        _require(_ALLOWED.get(key, _is_name)(value), f"{key} {value!r}", path)
    return value


def _require(allowed: bool, what: str, path: Path) -> None:
    if not allowed:
        raise _refused(path, f"its graph holds {what[:200]}")


def _is_name(text: str) -> bool:
    return bool(_NAME.fullmatch(text))


def _is_operator(target: str) -> bool:
    """A plain tensor operator, or arithmetic on sizes."""
    if match := _OPERATOR.fullmatch(target):
        name, overload = match.groups()
        found = getattr(getattr(torch.ops.aten, name, None), overload, None)
        return name not in _FORBIDDEN and isinstance(found, torch._ops.OpOverload)
    return bool(_FUNCTION.fullmatch(target))


def _is_size(text: str) -> bool:
    """Arithmetic on symbols and numbers, as torch writes symbolic sizes."""
    try:
        return len(text) < 2000 and all(_is_arithmetic(node) for node in ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError):
        return False


def _is_arithmetic(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _SYMBOLIC
    if isinstance(node, ast.Name):
        return node.id in _SYMBOLIC or bool(_SYMBOL.fullmatch(node.id))
    if isinstance(node, ast.Constant):
        return (
            bool(_SYMBOL.fullmatch(node.value)) if isinstance(node.value, str) else isinstance(node.value, int | float)
        )
    return isinstance(node, _ARITHMETIC)


def _is_tree(text: str) -> bool:
    """A nesting of tuples, lists and dictionaries, as torch writes it."""
    try:
        _, root = from_json(text)
        return all(kind in (None, "builtins.tuple", "builtins.list", "builtins.dict") for kind in _kinds(root))
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


def _kinds(tree: dict[str, Any]) -> Iterator[str | None]:
    yield tree["type"]
    for child in tree["children_spec"]:
        yield from _kinds(child)


def _is_any(text: str) -> bool:
    return True


_ALLOWED = {
    "target": _is_operator,
    "as_operator": _is_operator,
    "expr_str": _is_size,
    "in_spec": _is_tree,
    "out_spec": _is_tree,
    "as_string": _is_any,  # a value handed to an operator, quoted wherever torch writes it down
    "as_strings": _is_any,
}


def _usable(graph_module: dict[str, Any], path: Path) -> None:
    """One image input of any batch size, in evaluation mode."""
    signature, graph = graph_module["signature"], graph_module["graph"]
    inputs = [spec["user_input"]["arg"] for spec in signature["input_specs"] if "user_input" in spec]
    if len(inputs) != 1 or "as_tensor" not in inputs[0]:
        raise StackelbergError(f"{path} takes {len(inputs)} inputs, one tensor of images is needed; wrap the network")
    changed = any("buffer_mutation" in spec for spec in signature["output_specs"])
    if changed or any(_is_training(node) for node in graph["nodes"]):
        raise StackelbergError(
            f"{path} was exported in training mode (its batch statistics or dropout are at work): call .eval() on the"
            " network and export it again"
        )
    sizes = graph["tensor_values"][inputs[0]["as_tensor"]["name"]]["sizes"]
    if sizes and "as_int" in sizes[0]:
        raise StackelbergError(
            f"{path} was exported for batches of exactly {sizes[0]['as_int']}: export it again with"
            " dynamic_shapes=({0: torch.export.Dim('batch')},)"
        )


def _is_training(node: dict[str, Any]) -> bool:
    flags = (item["arg"] for item in node["inputs"] if item["name"] in ("training", "train"))
    return any(flag.get("as_bool") is True for flag in flags)
