"""How is a data set read that does not fit into memory?  In parts, from Parquet; any other source is loaded."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from stackelberg.data.dataset import Dataset
from stackelberg.data.parquet import count_rows, stream_parquet
from stackelberg.data.sources import load, parquet_parts
from stackelberg.errors import StackelbergError


@dataclass(frozen=True)
class Stream:
    """A split of a source, to be read in parts.

    Attributes:
        source: as `load` takes it.
        split: "train" or "test".
        rows: examples in memory at a time, at most.

    Raises:
        StackelbergError: as `load`.
    """

    source: str | os.PathLike[str]
    split: str = "train"
    rows: int = 1000

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise StackelbergError(f"rows must be at least 1, got {self.rows}")

    @property
    def whole(self) -> bool:
        """Whether the source is no Parquet, so that all of it is loaded."""
        return parquet_parts(self.source, self.split) is None

    def __len__(self) -> int:
        parts = parquet_parts(self.source, self.split)
        return len(load(self.source, self.split)) if parts is None else count_rows(parts[0])

    def __iter__(self) -> Iterator[Dataset]:
        parts = parquet_parts(self.source, self.split)
        name = os.fspath(self.source)
        if parts is not None:
            for part in stream_parquet(*parts, self.rows):
                yield replace(part, name=name)
            return
        whole = load(self.source, self.split)
        for start in range(0, len(whole), self.rows):
            yield whole.take(range(start, min(start + self.rows, len(whole))))

    def sample(self, n: int, seed: int = 0) -> Dataset:
        """`n` random examples in the original order, all where there are fewer; only they are decoded."""
        parts, count = parquet_parts(self.source, self.split), len(self)
        if n < 1:
            raise StackelbergError(f"the number of examples to take from {self.source} must be >= 1, got {n}")
        chosen = np.sort(np.random.default_rng(seed).permutation(count)[:n])
        if parts is None:
            return load(self.source, self.split).take(chosen.tolist())
        found = list(stream_parquet(*parts, self.rows, chosen.tolist()))
        x, y = torch.cat([part.x for part in found]), torch.cat([part.y for part in found])
        return Dataset(x, y, parts[1], os.fspath(self.source))
