"""How is compiled work shared among threads?  By Python threads, as many as torch has leave to take.

Not by numba's own parallel loops: their OpenMP pool is torch's, too, and sets its size for all that follows.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def in_threads(work: Callable[[int], T], count: int) -> Iterator[T]:
    """work(0), ..., work(count - 1), in this order; `work` should spend its time without the interpreter's lock."""
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        yield from pool.map(work, range(count))


def in_groups(work: Callable[[int, int], None], count: int, size: int) -> None:
    """work(first, last) for every `size` of the items 0..count-1."""
    for _ in in_threads(lambda k: work(k * size, min((k + 1) * size, count)), -(-count // size)):
        pass
