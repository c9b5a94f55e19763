"""Images, points and labels in Parquet, in the schema of the Hugging Face hub.

An image column is a struct {bytes, path} (or plain bytes) of encoded files, a label column holds integers, the names
of the classes lie in the schema's metadata, and point clouds are fixed-size lists [P][3].
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from stackelberg.data.dataset import Dataset, empty_class
from stackelberg.data.decode import decode, encode_png
from stackelberg.errors import StackelbergError
from stackelberg.files import from_json, replacing

_LABELS = ("label", "labels", "fine_label", "target", "class", "y")


def read_parquet(paths: Sequence[Path], classes: Sequence[str] | None = None) -> Dataset:
    """The examples of one or more Parquet files, in order, with class names from `classes`, the schema, or the labels.

    Raises:
        StackelbergError: a file is truncated or no Parquet, has no image or no label column, or holds no rows.
    """
    tables = [_read_table(path, None) for path in paths]
    try:
        table = pa.concat_tables(tables)
    except pa.ArrowException as error:
        raise StackelbergError(f"{paths[0].parent}: the Parquet files differ in their columns ({error})") from error
    return from_table(table, str(paths[0]), classes)


def read_classes(paths: Sequence[Path]) -> list[str]:
    """The class names over all of a set's files: from the first schema, else all labels that occur in any of them."""
    schemas = [_schema(path) for path in paths]
    column = _label_column(schemas[0], str(paths[0]))
    if names := _recorded_names(schemas[0], column):
        return names
    columns = [_read_table(path, [column]).column(0).combine_chunks() for path in paths]
    return _occurring(pa.chunked_array(columns), str(paths[0].parent))


def from_table(table: pa.Table, source: str, classes: Sequence[str] | None = None) -> Dataset:
    """The examples of an Arrow table."""
    if not len(table):
        raise StackelbergError(f"{source} holds no rows; a data set needs at least one example")
    column = _label_column(table.schema, source)
    labels = table.column(column)
    if pa.types.is_dictionary(labels.type):
        labels = labels.cast(labels.type.value_type)
    names = list(classes or _recorded_names(table.schema, column) or _occurring(labels, source))
    y = _labels(labels, names, source)
    points = [field.name for field in table.schema if _is_points(field.type)]
    if points:
        x = _points(table.column(points[0]))
    else:
        cells = table.column(_image_column(table.schema, source))
        encoded = [cell["bytes"] if isinstance(cell, dict) else cell for cell in cells.to_pylist()]
        x = decode(encoded, source)
    return Dataset(x, y, names, source)


def save_parquet(dataset: Dataset, path: Path | str) -> None:
    """Write a data set as Parquet of the same schema, images as PNG (without loss), class names in the metadata.

    Raises:
        StackelbergError: the file cannot be written; what was there before still stands.
    """
    table = _table(dataset.to("cpu"))
    with replacing(path) as scratch:
        pq.write_table(table, scratch, row_group_size=5000, compression=_compression(table))


@contextmanager
def writing_parquet(path: Path | str) -> Iterator[Callable[[Dataset], None]]:
    """Inside, every data set that is put is appended as row groups; the file appears whole at the end, or not at all.

    All must be of one kind, with the same classes.
    """
    with replacing(path) as scratch:
        writer: pq.ParquetWriter | None = None
        try:

            def put(dataset: Dataset) -> None:
                nonlocal writer
                table = _table(dataset.to("cpu"))
                if writer is None:
                    writer = pq.ParquetWriter(scratch, table.schema, compression=_compression(table))
                writer.write_table(table, row_group_size=5000)

            yield put
        finally:
            if writer is not None:
                writer.close()


def _table(here: Dataset) -> pa.Table:
    """The examples as an Arrow table in the hub's schema."""
    if here.text:
        raise StackelbergError(f"{here.name} holds texts, a Parquet file here keeps images or points; pass these")
    features: dict[str, dict] = {"label": {"names": here.classes, "_type": "ClassLabel"}}
    if here.x.dtype == torch.uint8:
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        column = pa.array([{"bytes": encode_png(pixels), "path": None} for pixels in here.x], kind)
        name, features = "image", {"image": {"_type": "Image"}, **features}
    else:
        count = here.x.shape[1]
        flat = pa.array(here.x.contiguous().numpy().ravel())
        column = pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(flat, 3), count)
        name = "points"
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.table({name: column, "label": pa.array(here.y.numpy())}).replace_schema_metadata(metadata)


def _compression(table: pa.Table) -> str:
    """Images are compressed already."""
    return "none" if "image" in table.schema.names else "snappy"


def count_rows(paths: Sequence[Path]) -> int:
    """How many examples the files hold, from their footers alone."""
    return sum(_opened(path).metadata.num_rows for path in paths)


def stream_parquet(
    paths: Sequence[Path], classes: Sequence[str], rows: int, chosen: Sequence[int] | None = None
) -> Iterator[Dataset]:
    """The examples in order, at most `rows` in memory at a time; with `chosen`, ascending places, those only.

    Images of one set have one number of channels: where the first ones are in colour, later grey ones become so.

    Raises:
        StackelbergError: as `read_parquet`, or the first images are grey and later ones are not.
    """
    start, channels = 0, 0
    wanted = None if chosen is None else np.asarray(chosen)
    for path in paths:
        for record in _opened(path).iter_batches(rows):
            table = pa.Table.from_batches([record])
            if wanted is not None:
                here = wanted[(wanted >= start) & (wanted < start + len(table))] - start
                start, table = start + len(table), table.take(pa.array(here))
                if not len(table):
                    continue
            part = from_table(table, str(path), classes)
            channels = channels or part.x.shape[1]
            if part.x.dim() == 4 and part.x.shape[1] != channels:
                if part.x.shape[1] > channels:
                    raise StackelbergError(f"{path}: the first images are grey and later ones in colour; convert them")
                part = replace(part, x=part.x.expand(-1, channels, -1, -1).contiguous())
            yield part


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise _broken(path, error) from error


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise _broken(path, error) from error


def _read_table(path: Path, columns: list[str] | None) -> pa.Table:
    try:
        return pq.ParquetFile(path).read(columns)
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise _broken(path, error) from error


def _broken(path: Path, error: Exception) -> StackelbergError:
    reason = " ".join(str(error).split())
    return StackelbergError(f"{path} is truncated or no Parquet file ({reason}); fetch or write it again")


def _described(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)


def _label_column(schema: pa.Schema, source: str) -> str:
    """The column named like a label, else the only one of integers or strings."""
    for name in _LABELS:
        if name in schema.names:
            _refuse_no_label(schema, name, source)
            return name
    fits = [field.name for field in schema if pa.types.is_integer(field.type)]
    fits = fits or [field.name for field in schema if pa.types.is_string(field.type)]
    if len(fits) == 1 and schema.names.count(fits[0]) == 1:
        return fits[0]
    raise StackelbergError(
        f"{source} has no clear label column (it has {_described(schema)}); name the column of class numbers 'label'"
    )


def _refuse_no_label(schema: pa.Schema, name: str, source: str) -> None:
    kind = schema.field(name).type if schema.names.count(name) == 1 else None
    kind = kind.value_type if kind is not None and pa.types.is_dictionary(kind) else kind
    if kind is None or not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise StackelbergError(
            f"{source}: the label column {name!r} is {kind or 'there twice'}, needed are class numbers or names; it has"
            f" {_described(schema)}"
        )


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_points(kind: pa.DataType) -> bool:
    return pa.types.is_fixed_size_list(kind) and pa.types.is_fixed_size_list(kind.value_type)


def _image_column(schema: pa.Schema, source: str) -> str:
    """The only column of encoded images, or of several the one named image or img."""
    fits = [field.name for field in schema if _is_image(field.type)]
    named = [name for name in ("image", "img") if name in fits]
    chosen = (named or fits)[0] if len(fits) == 1 or named else ""
    if schema.names.count(chosen) == 1:
        return chosen
    raise StackelbergError(
        f"{source} is no image set: it has the columns {_described(schema)}, needed is one column 'image' of type"
        " struct<bytes, path> with encoded images"
    )


def _recorded_names(schema: pa.Schema, column: str) -> list[str] | None:
    """The class names that the schema's metadata records for a label column, or None."""
    try:
        info = from_json((schema.metadata or {})[b"huggingface"])
        names = info["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return [str(name) for name in names] if names and isinstance(names, list) else None


def _occurring(labels: pa.ChunkedArray, source: str) -> list[str]:
    """Names for unnamed classes: the sorted strings, or 0..max, refused where a number in between never occurs."""
    values = labels.unique().to_pylist()
    if any(isinstance(value, str) for value in values):
        return sorted(str(value) for value in values if value is not None)
    known = sorted(value for value in values if value is not None and value >= 0)
    for expected, value in enumerate(known):
        if value != expected:
            raise empty_class(source, str(expected), expected)
    return [str(label) for label in known]


def _labels(labels: pa.ChunkedArray, names: list[str], source: str) -> torch.Tensor:
    if labels.null_count:
        index = labels.is_null().to_pylist().index(True)
        raise StackelbergError(f"{source}: example {index} has no label; give it one or remove it")
    if pa.types.is_string(labels.type) or pa.types.is_large_string(labels.type):
        places = {name: label for label, name in enumerate(names)}
        values = labels.to_pylist()
        strange = [index for index, value in enumerate(values) if value not in places]
        if strange:
            raise StackelbergError(
                f"{source}: the label of example {strange[0]} is {values[strange[0]]!r}, allowed are {', '.join(names)}"
            )
        return torch.tensor([places[value] for value in values])
    return torch.from_numpy(labels.to_numpy().astype(np.int64))


def _points(column: pa.ChunkedArray) -> torch.Tensor:
    """[N, P, 3] float32 from fixed-size lists of any float type."""
    clouds = column.combine_chunks()
    flat = clouds.flatten().flatten().to_numpy().astype(np.float32)
    return torch.from_numpy(flat.reshape(len(clouds), -1, clouds.type.value_type.list_size))
