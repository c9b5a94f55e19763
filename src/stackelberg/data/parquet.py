"""Parquet of the Hugging Face schema: an image column struct {bytes, path} and an integer label column."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from stackelberg.data.dataset import Dataset
from stackelberg.data.decode import decode
from stackelberg.errors import StackelbergError


def read_parquet(path: Path, classes: list[str] | None = None) -> Dataset:
    """The images and labels of a Parquet file.

    Raises:
        StackelbergError: the file is no Parquet or truncated, or has no image or label column.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise StackelbergError(f"{path} is not a whole Parquet file ({error}); fetch or write it again") from error
    return from_table(table, str(path), classes)


def from_table(table: pa.Table, source: str, classes: list[str] | None) -> Dataset:
    """The images (or points) and labels of an Arrow table."""
    labels = torch.from_numpy(table["label"].to_numpy().astype("int64"))
    names = classes or [str(k) for k in range(int(labels.max()) + 1)]
    if "points" in table.column_names:
        points = table["points"].combine_chunks()
        flat = points.flatten().flatten().to_numpy().astype("float32")
        return Dataset(torch.from_numpy(flat.reshape(len(table), -1, 3)), labels, names, source)
    column = next(name for name in table.column_names if pa.types.is_struct(table[name].type))
    encoded = table[column].combine_chunks().field("bytes").to_pylist()
    return Dataset(decode(encoded, source), labels, names, source)
