"""How much faster is the exact separation bound here than scipy's distances?

scipy computes all distances of some points to all others, in blocks, and the least between different classes is taken;
that is timed on a part of the points and scaled to all of them, half for each pair being needed once. Ours is timed
whole, with the table of every two classes. Both in one process, processor seconds, all threads together.

    python benchmarks/separation_vs_scipy.py [--sets mnist fashion_mnist cifar10] [--norms linf l2 l1] [--part 600]
"""

import argparse
import json
import os
import platform
import time
from datetime import UTC, datetime
from typing import Any

import numba
import numpy as np
import scipy
import torch
from scipy.spatial.distance import cdist

from stackelberg import __version__
from stackelberg.data import load
from stackelberg.files import write_text
from stackelberg.memorize import separation

METRICS: dict[str, Any] = {"linf": "chebyshev", "l2": "sqeuclidean", "l1": "cityblock"}
BLOCK = 100


def by_scipy(x: np.ndarray, y: np.ndarray, norm: str, part: int) -> tuple[float, float]:
    """(processor seconds for `part` points against all, the least distance found there in grey levels)."""
    begun, least = time.process_time(), np.inf
    for start in range(0, part, BLOCK):
        apart = cdist(x[start : start + BLOCK], x, METRICS[norm])
        least = min(least, apart[y[start : start + BLOCK, None] != y].min())
    return time.process_time() - begun, float(least)


def measure(source: str, norm: str, part: int) -> dict[str, Any]:
    """One row of the table."""
    train = load(source, "train")
    x, y = train.x.flatten(1).numpy().astype(np.float64), train.y.numpy()
    separation(train.x[:500], train.y[:500], norm)  # compiled before the clock runs
    spent, least = by_scipy(x, y, norm, part)
    whole = spent * len(x) / part / 2
    begun, wall = time.process_time(), time.perf_counter()
    found = separation(train.x, train.y, norm)
    ours, waited = time.process_time() - begun, time.perf_counter() - wall
    assert found.levels is not None
    assert found.levels <= least
    return {
        "set": source, "norm": norm, "points": len(x), "part": part, "levels": found.levels, "pair": found.pair,
        "scipy_part_seconds": spent, "scipy_scaled_seconds": whole, "our_seconds": ours, "our_wall_seconds": waited,
        "times_faster": whole / ours,
    }  # fmt: skip


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sets", nargs="+", default=["mnist", "fashion_mnist", "cifar10"])
    parser.add_argument("--norms", nargs="+", default=list(METRICS))
    parser.add_argument("--part", type=int, default=600)
    parser.add_argument("--out", default="benchmarks/results/separation_vs_scipy.json")
    arguments = parser.parse_args()
    rows = []
    for source in arguments.sets:
        for norm in arguments.norms:
            row = measure(source, norm, arguments.part)
            rows.append(row)
            print(
                f"{source:>14} {norm:>5} {row['levels']:>7} levels: scipy {row['scipy_scaled_seconds']:>7.1f} s (scaled"
                f" from {arguments.part} points), ours {row['our_seconds']:>5.2f} s, x {row['times_faster']:.0f}",
                flush=True,
            )
    conditions = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"), "stackelberg": __version__,
        "scipy": scipy.__version__, "numpy": np.__version__, "numba": numba.__version__,
        "machine": platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
    }  # fmt: skip
    write_text(arguments.out, json.dumps({"conditions": conditions, "rows": rows}, indent=1) + "\n")
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
