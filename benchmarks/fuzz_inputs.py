"""How is a valid file spoiled?  By a seeded generator, for `fuzz.py`.

As bytes (bits, cuts, repeats, splices), which meets parsers; or taken apart, spoiled inside and put together again with
right lengths and checksums, which meets the checks behind the parsers.
"""

import contextlib
import io
import json
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

Rng = np.random.Generator
NUMBERS = (0, 1, -1, 2, 7, 255, 2**31 - 1, 2**31, -(2**31), 2**32, 2**62, 2**63, -(2**63), 2**64, 10**30, 1e308, -0.5)
VALUES: tuple[Any, ...] = (
    None, True, False, *NUMBERS, float("nan"), float("inf"), "", "x", "x" * 3000, "\u0000", "\u2028é\n", "nan", "-1",
    "../../x", [], {}, [[]], [None], [1, 2], [-1], {"a": 1}, [2**63], "torch.ops.aten.relu.default",
)  # fmt: skip
"""What is put in the place of a value of JSON."""


def spoiled_bytes(rng: Rng, data: bytes, other: bytes = b"") -> bytes:
    """`data` after one to four accidents."""
    for _ in range(min(int(rng.geometric(0.6)), 4)):
        data = _accident(rng, bytearray(data), other)
    return data


def _accident(rng: Rng, data: bytearray, other: bytes) -> bytes:  # noqa: C901  # a list of accidents
    size = len(data)
    at = int(rng.integers(size + 1))
    end = min(size, at + int(rng.geometric(0.05)))
    match int(rng.integers(10)):
        case 0:  # bits
            for place in rng.integers(size, size=int(rng.integers(1, 6))) if size else ():
                data[place] ^= 1 << int(rng.integers(8))
        case 1:  # bytes
            for place in rng.integers(size, size=int(rng.integers(1, 6))) if size else ():
                data[place] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFE, 0xFF, 0x20, 0x2D]))
        case 2:  # the end is lost
            del data[at:]
        case 3:  # the beginning is lost
            del data[:at]
        case 4:  # a part is lost
            del data[at:end]
        case 5:  # a part comes twice
            data[at:at] = data[at:end]
        case 6:  # noise comes in
            data[at:at] = rng.bytes(int(rng.integers(1, 40)))
        case 7:  # a number of four or eight bytes becomes another
            wide = int(rng.choice([4, 8]))
            number = int(rng.choice(np.array([0, 1, 2**16, 2**31 - 1, 2**32 - 1], np.int64)))
            data[at : at + wide] = number.to_bytes(8, "little" if rng.random() < 0.5 else "big")[:wide]
        case 8:  # zeros
            data[at:end] = bytes(end - at)
        case _:  # another file goes on where this one stops
            data[at:] = other[int(rng.integers(len(other) + 1)) :]
    return bytes(data)


def spoiled_json(rng: Rng, text: bytes) -> bytes:
    """A document with one to three values replaced, lost, doubled, renamed or nested; or its text spoiled."""
    if rng.random() < 0.3:
        return spoiled_bytes(rng, text, b'{"a": [1, 2.5e400, "b"]}')
    if rng.random() < 0.03:
        deep = int(rng.choice([50, 2000, 100_000]))
        return rng.choice([b"[", b'{"a":']) * deep
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # it has been spoiled before
        return spoiled_bytes(rng, text, b"[]")
    for _ in range(int(rng.integers(1, 4))):
        value = _spoiled_value(rng, value)
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _spoiled_value(rng: Rng, value: Any) -> Any:
    """The tree with a random node changed; deeper nodes are as likely as shallow ones."""
    if isinstance(value, dict | list) and value and rng.random() < 0.85:
        copied = dict(value) if isinstance(value, dict) else list(value)
        key = list(value)[int(rng.integers(len(value)))] if isinstance(value, dict) else int(rng.integers(len(value)))
        match int(rng.integers(14)):
            case 0:
                del copied[key]
            case 1 if isinstance(copied, list):
                copied.append(copied[key])
            case 1 if isinstance(copied, dict):
                copied["zz" if rng.random() < 0.5 else f"{key}_"] = copied.pop(key)
            case 2:
                copied[key] = [copied[key]]
            case _:
                copied[key] = _spoiled_value(rng, copied[key])
        return copied
    if isinstance(value, str) and value and rng.random() < 0.3:
        return spoiled_bytes(rng, value.encode()).decode("utf-8", "replace")
    return VALUES[int(rng.integers(len(VALUES)))]


def spoiled_text(rng: Rng, text: bytes) -> bytes:
    """Words lost, doubled, exchanged or replaced."""
    words = text.decode().replace("(", " ( ").replace(")", " ) ").split(" ")
    strange = [
        "(", ")", "((", "X_0", "Y_0", "X_99999999999999999999", "Z_1", "-", "1e999", "nan", "and", "or", "assert", "<=",
        ">=", "*", "+", ";", "\n", "declare-const", "10000000000000000000000", "0x1", "é", "\u0000",
    ]  # fmt: skip
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(len(words)))
        match int(rng.integers(5)):
            case 0:
                del words[at]
            case 1:
                words[at:at] = words[at : at + int(rng.integers(1, 30))]
            case 2:
                other = int(rng.integers(len(words)))
                words[at], words[other] = words[other], words[at]
            case 3:
                words[at] = str(rng.choice(strange))
            case _:
                words[at:at] = [str(rng.choice(strange))] * int(rng.choice([1, 1, 1, 60, 3000]))
        words = words or [""]
    return " ".join(words).encode()


def spoiled_zip(rng: Rng, data: bytes, inner: Callable[[Rng, str, bytes], bytes]) -> bytes:
    """An archive with a member spoiled, lost, doubled, renamed or added; checksums are right again."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    at = int(rng.integers(len(members)))
    name, content = members[at]
    match int(rng.integers(10)):
        case 0:
            del members[at]
        case 1:
            members.append((f"{name}x", content))
        case 2:
            members[at] = (name[:-1] if rng.random() < 0.5 else f"../{name}", content)
        case 3:
            members[at] = (name, rng.choice([b"", b"\x80\x05K\x01.", content + content]))
        case _:
            members[at] = (name, inner(rng, name, content))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", int(rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def spoiled_npz(rng: Rng, data: bytes) -> bytes:
    """Arrays of another type, shape or content; or a spoiled header inside a whole archive."""
    if rng.random() < 0.3:
        return spoiled_zip(rng, data, lambda rng, _, content: spoiled_bytes(rng, content, data))
    if rng.random() < 0.3:
        return spoiled_zip(rng, data, lambda rng, _, content: _spoiled_header(rng, content))
    with np.load(io.BytesIO(data)) as archive:
        arrays = dict(archive)
    for _ in range(int(rng.integers(1, 3))):
        name = str(rng.choice(list(arrays)))
        arrays[name] = _spoiled_array(rng, arrays[name])
        if rng.random() < 0.1 and len(arrays) > 1:
            del arrays[name]
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # pyright: ignore[reportArgumentType]  # arrays by name
    return buffer.getvalue()


def _spoiled_header(rng: Rng, content: bytes) -> bytes:
    """A .npy whose header announces another shape or type, of the right length."""
    size = struct.unpack("<H", content[8:10])[0]
    shape = rng.choice(
        ["(9999999999999,)", "(-1, 4)", "()", "(3, 4, 4)", "(0, 4, 4)", "(1" + ",1" * 60 + ")", "(2**40,)"]
    )
    kind = rng.choice(["<f4", "|O", "|u1", "<U9", "<M8[D]", "|V3", "<c16", "garbage", "[('a', '<f4')]", "<f2", ">i8"])
    header = f"{{'descr': '{kind}', 'fortran_order': {rng.choice(['True', 'False', '7'])}, 'shape': {shape}, }}"
    header = header.ljust(size - 1)[: max(size - 1, 1)] + "\n"
    return content[:8] + struct.pack("<H", len(header)) + header.encode("latin1") + content[10 + size :]


def _spoiled_array(rng: Rng, array: np.ndarray) -> np.ndarray:
    kinds = ["float64", "float16", "int8", "uint64", "bool", "complex64", "object", "str", "datetime64[s]"]
    match int(rng.integers(8)) if array.size and array.ndim else 5:
        case 0:
            return array.astype(str(rng.choice(kinds)))
        case 1:
            return array[: int(rng.choice([0, 1, len(array) - 1]))]
        case 2:
            return array.reshape(-1) if rng.random() < 0.5 else array[None]
        case 3:
            return np.concatenate([array, array], axis=int(rng.integers(array.ndim)))
        case 4:
            return np.moveaxis(array, 0, -1)
        case 5:
            return np.array(VALUES[int(rng.integers(2, len(NUMBERS)))])
        case _:
            changed = array.astype(np.float64) if rng.random() < 0.3 and array.dtype.kind in "iuf" else array.copy()
            flat = changed.reshape(-1)
            number = NUMBERS[int(rng.integers(len(NUMBERS)))] if rng.random() < 0.7 else float("nan")
            at, count = int(rng.integers(len(flat))), int(rng.integers(1, 4))
            with np.errstate(all="ignore"), contextlib.suppress(ValueError, TypeError, OverflowError):
                flat[at : at + count] = np.array(number).astype(flat.dtype)  # not every type holds every number
            return changed


def spoiled_parquet(rng: Rng, data: bytes) -> bytes:  # noqa: C901  # a list of accidents
    """Columns of another type, spoiled pictures, missing labels, other metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(data))
    rows = table.to_pylist()
    metadata = dict(table.schema.metadata or {})
    for _ in range(int(rng.integers(1, 3))):
        at = int(rng.integers(len(rows)))
        match int(rng.integers(8)):
            case 0 | 1 | 2:
                rows[at]["image"] = {"bytes": spoiled_bytes(rng, rows[at]["image"]["bytes"] or b""), "path": None}
            case 3:
                rows[at]["label"] = int(rng.choice([-1, 99, 2**62]))
            case 4:
                rows[at]["label" if rng.random() < 0.5 else "image"] = None
                rows[at].setdefault("image", None)
            case 5:
                metadata = {key: spoiled_json(rng, value) for key, value in metadata.items()}
            case 6:
                rows = rows[: int(rng.choice([0, 1]))] or rows[:0]
            case _:
                rows[at]["image"] = {"bytes": rng.choice([b"", b"\x89PNG", b"BM", b"GIF89a"]), "path": "x"}
        if not rows:
            break
        rows = [row | {"image": row["image"] or {"bytes": None, "path": None}} for row in rows]
    table = pa.Table.from_pylist(rows, schema=table.schema).replace_schema_metadata(metadata)
    match int(rng.integers(7)):
        case 0:
            kind = [pa.string(), pa.float64(), pa.int8(), pa.bool_(), pa.list_(pa.int64()), pa.timestamp("s")]
            column = pa.array([None] * len(table), kind[int(rng.integers(len(kind)))])
            table = table.set_column(table.schema.names.index("label"), "label", column)
        case 1:
            table = table.rename_columns([str(rng.choice(["a", "label", "image", ""])) for _ in table.schema.names])
        case 2:
            table = table.drop_columns([str(rng.choice(table.schema.names))])
        case _:
            pass
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def spoiled_safetensors(rng: Rng, data: bytes) -> bytes:
    """A header that says something else, of the right length; or other numbers."""
    size = struct.unpack("<Q", data[:8])[0]
    header, body = data[8 : 8 + size], data[8 + size :]
    match int(rng.integers(4)):
        case 0 if b"spec" in header:
            said = json.loads(header)
            said["__metadata__"]["spec"] = spoiled_json(rng, said["__metadata__"]["spec"].encode()).decode(
                "utf-8", "replace"
            )
            header = json.dumps(said).encode()
        case 1:
            numbers = np.frombuffer(body, "<f4").copy()
            numbers[int(rng.integers(len(numbers)))] = rng.choice([np.nan, np.inf, 3e38, -3e38])
            body = numbers.tobytes()
        case _:
            header = spoiled_json(rng, header)
    return struct.pack("<Q", len(header)) + header + body


def spoiled_pt2(rng: Rng, data: bytes) -> bytes:
    """A member of the archive spoiled; JSON as JSON."""

    def inner(rng: Rng, name: str, content: bytes) -> bytes:
        return spoiled_json(rng, content) if name.endswith(".json") else spoiled_bytes(rng, content, data)

    return spoiled_zip(rng, data, inner)


def spoiled_onnx(rng: Rng, data: bytes) -> bytes:  # noqa: C901  # a list of accidents
    """Another operator, name, size, attribute or constant."""
    import onnx

    model = onnx.load_from_string(data)
    graph = model.graph
    for _ in range(int(rng.integers(1, 4))):
        if not graph.node or not graph.initializer:
            break
        node = graph.node[int(rng.integers(len(graph.node)))]
        constant = graph.initializer[int(rng.integers(len(graph.initializer)))]
        number = int(rng.choice(np.array([0, -1, 1, 3, 2**31, 2**62], np.int64)))
        match int(rng.integers(11)):
            case 0:
                ops = [
                    "Relu",
                    "Softmax",
                    "MatMul",
                    "Conv",
                    "Reshape",
                    "Loop",
                    "If",
                    "Nope",
                    "",
                    "Concat",
                    "Gemm",
                    "Cast",
                ]
                node.op_type = str(rng.choice(ops))
            case 1:
                graph.node.remove(node)
            case 2:
                graph.node.append(node)
            case 3 if node.input:
                node.input[int(rng.integers(len(node.input)))] = str(rng.choice(["x", "out", "", "w1", "nowhere"]))
            case 4:
                node.attribute.append(onnx.helper.make_attribute(str(rng.choice(["axis", "alpha", "to", "z"])), number))
            case 5 if constant.dims:
                constant.dims[int(rng.integers(len(constant.dims)))] = number
            case 6:
                constant.raw_data = spoiled_bytes(rng, constant.raw_data)
            case 7:
                constant.data_type = int(rng.integers(0, 24))
            case 8:
                graph.input[0].type.tensor_type.shape.dim[-1].dim_value = number
            case 9:
                model.opset_import[0].version = number
            case _:
                graph.output[0].name = str(rng.choice(["x", "", "h"]))
    return model.SerializeToString()
