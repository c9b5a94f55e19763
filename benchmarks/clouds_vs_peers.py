"""How fast are Chamfer distances and nearest neighbours?  Against scikit-learn's trees, POT's matrix and a plain loop.

One process, one thread, the same clouds; processor seconds, the median of several rounds, all side by side:

    python benchmarks/clouds_vs_peers.py --out benchmarks/results/clouds_vs_peers.json
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import ot
import torch
from sklearn.neighbors import NearestNeighbors

from stackelberg.threat.clouds import chamfer, neighbours

K = 20


def loop_chamfer(a: np.ndarray, b: np.ndarray) -> float:
    """Point by point, each against all of the other cloud at once."""
    there = [((b - point) ** 2).sum(1).min() for point in a]
    back = [((a - point) ** 2).sum(1).min() for point in b]
    return float(np.mean(there) + np.mean(back)) / 2


def tree_chamfer(a: np.ndarray, b: np.ndarray) -> float:
    there = NearestNeighbors(n_neighbors=1).fit(b).kneighbors(a)[0]
    back = NearestNeighbors(n_neighbors=1).fit(a).kneighbors(b)[0]
    return float((there**2).mean() + (back**2).mean()) / 2


def pot_chamfer(a: np.ndarray, b: np.ndarray) -> float:
    apart = np.asarray(ot.dist(a, b))
    return float(apart.min(1).mean() + apart.min(0).mean()) / 2


def loop_neighbours(a: np.ndarray) -> np.ndarray:
    return np.stack([((a - point) ** 2).sum(1).argsort()[:K] for point in a])


def tree_neighbours(a: np.ndarray) -> np.ndarray:
    return NearestNeighbors(n_neighbors=K).fit(a).kneighbors(a, return_distance=False)


def seconds(run: Callable[[], object], rounds: int) -> float:
    run()
    taken = []
    for _ in range(rounds):
        begun = time.process_time()
        run()
        taken.append(time.process_time() - begun)
    return statistics.median(taken)


def measured(points: int, count: int, rounds: int) -> dict[str, object]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, points, 3, generator=generator)
    x = x / x.norm(dim=2, keepdim=True)  # points of a surface, as those of a scan
    z = x + 0.02 * torch.randn(x.shape, generator=generator)
    a, b = x.double().numpy(), z.double().numpy()
    pairs = list(zip(a, b, strict=True))
    runs: dict[str, dict[str, Callable[[], object]]] = {
        "chamfer": {
            "ours": lambda: chamfer(x, z),
            "scikit-learn": lambda: [tree_chamfer(*pair) for pair in pairs],
            "pot": lambda: [pot_chamfer(*pair) for pair in pairs],
            "loop": lambda: [loop_chamfer(*pair) for pair in pairs],
        },
        "neighbours": {
            "ours": lambda: neighbours(x, K),
            "scikit-learn": lambda: [tree_neighbours(cloud) for cloud in a],
            "loop": lambda: [loop_neighbours(cloud) for cloud in a],
        },
    }
    off = max(abs(float(ours) - tree_chamfer(*pair)) for ours, pair in zip(chamfer(x, z), pairs, strict=True))
    found: dict[str, object] = {"points": points, "clouds": count, "chamfer_off_by": off}
    for what, each in runs.items():
        taken = {name: seconds(run, rounds) / count for name, run in each.items()}
        found[what] = {
            "milliseconds_a_cloud": {name: round(1000 * value, 3) for name, value in taken.items()},
            "times_ours": {name: round(value / taken["ours"], 2) for name, value in taken.items() if name != "ours"},
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/clouds_vs_peers.json"))
    parser.add_argument("--points", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--clouds", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    record = {
        "what": f"Chamfer distance of pairs, and the {K} nearest neighbours, of clouds on a sphere; processor time",
        "rows": [measured(points, asked.clouds, asked.rounds) for points in asked.points],
        "torch": torch.__version__,
        "pot": ot.__version__,
        "platform": platform.platform(terse=True),
        "rounds": asked.rounds,
    }
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
