"""Linear bounds beside those of the public reference implementation, auto_LiRPA: the same network, images and box.

    PYTHONPATH=<auto_LiRPA> python benchmarks/certify_vs_peers.py RUN DATA RADIUS COUNT [NAME]

prints and writes, per method, the least lower bounds of z_y - z_k, their mean, and seconds of processor time on one
thread. CROWN and alpha-CROWN bound every image, with the peer's default number of steps (20), and nothing stops early.
Ours pay for the float network's rounding, the peer's do not.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stackelberg import data, models
from stackelberg.certify.ascent import Search
from stackelberg.certify.boxing import boxed
from stackelberg.certify.graph import graph_of
from stackelberg.certify.linear import DEEP, differences, searched
from stackelberg.certify.region import Region
from stackelberg.files import write_text

RESULT = Path(__file__).parent / "results" / "certify_vs_peers.json"
STEPS = 20


def ours(model: nn.Module, low: Tensor, high: Tensor, goal: Tensor, optimise: bool) -> Tensor:
    """Our lower bounds [B, K - 1]."""
    graph = graph_of(model, tuple(low.shape[1:]))
    region = Region(low.double(), high.double())
    search = Search(STEPS, stop=False) if optimise else None
    with torch.no_grad():
        boxes = boxed(graph, region, DEEP)
        return searched(graph, region, boxes, goal, goal.new_zeros(goal.shape[:2]), search, DEEP)[0]


def theirs(model: nn.Module, low: Tensor, high: Tensor, goal: Tensor, optimise: bool) -> Tensor:
    """The peer's lower bounds [B, K - 1]."""
    from auto_LiRPA import (  # pyright: ignore[reportMissingImports]
        BoundedModule,
        BoundedTensor,
        PerturbationLpNorm,
    )

    options = {"optimize_bound_args": {"iteration": STEPS}}
    net = BoundedModule(model, low, bound_opts=options, device=low.device)
    box = BoundedTensor((low + high) / 2, PerturbationLpNorm(norm=float("inf"), x_L=low, x_U=high))
    method = "CROWN-Optimized" if optimise else "CROWN"
    return net.compute_bounds(x=(box,), C=goal.float(), method=method, bound_upper=False)[0].detach().double()


TOOLS: dict[str, Callable[[nn.Module, Tensor, Tensor, Tensor, bool], Tensor]] = {
    "stackelberg": ours,
    "auto_LiRPA": theirs,
}


def compared(run: str, source: str, radius: float, count: int) -> dict[str, Any]:
    """Bounds and seconds of each tool and method."""
    model = models.load(run).eval().requires_grad_(False)
    x, _ = data.load(source, "test").batch(torch.arange(count))
    y = model(x).argmax(1)
    low, high = (x - radius).clamp(0, 1), (x + radius).clamp(0, 1)
    goal = differences(y, model(x[:1]).shape[1])
    found: dict[str, Any] = {}
    bound: dict[str, Tensor] = {}
    for method, optimise in (("CROWN", False), ("alpha-CROWN", True)):
        for tool, prove in TOOLS.items():
            begun = time.process_time()
            bound[tool] = prove(model, low, high, goal, optimise)
            found[f"{tool} {method}"] = {
                "seconds": round(time.process_time() - begun, 2),
                "mean": round(float(bound[tool].mean()), 4),
                "least": [round(v, 4) for v in bound[tool].amin(1).tolist()],
            }
        ahead = bound["stackelberg"] - bound["auto_LiRPA"]
        found[f"ahead, {method}"] = {
            "mean": round(float(ahead.mean()), 5),
            "least": round(float(ahead.amin()), 5),
            "share_at_least_equal": round(float((ahead > -1e-3).double().mean()), 3),
        }
    return {"run": Path(run).name, "radius": radius, "images": count, "threads": torch.get_num_threads()} | found


def main() -> None:
    run, source, radius, count = sys.argv[1:5]
    torch.set_num_threads(1)
    result = compared(run, source, float(radius), int(count))
    print(json.dumps(result, indent=1))
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    known[sys.argv[5] if len(sys.argv) > 5 else f"{result['run']} {radius}"] = result
    write_text(RESULT, json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
