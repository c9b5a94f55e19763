"""Linear bounds beside those of the public reference implementation, auto_LiRPA: the same network, images and box.

    PYTHONPATH=<auto_LiRPA> python benchmarks/certify_vs_peers.py run RUN DATA RADIUS COUNT [NAME]
    PYTHONPATH=<auto_LiRPA> python benchmarks/certify_vs_peers.py kind KIND RADIUS COUNT

prints and writes, per method, the least lower bounds of z_y - z_k, their mean, and seconds of processor time on one
thread. A KIND of `KINDS` is a small network trained here on the digits. CROWN and alpha-CROWN bound every image, with
the peer's default number of steps (20), and nothing stops early. Ours pay for the float network's rounding, the peer's
do not; the line "unrounded" is ours without that charge, to compare the relaxations alone.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stackelberg import data, games, models
from stackelberg.certify.ascent import Search
from stackelberg.certify.boxing import boxed
from stackelberg.certify.graph import GRAPHS, Graph, graph_of, recorded
from stackelberg.certify.linear import DEEP, differences, searched
from stackelberg.certify.reading import traced
from stackelberg.certify.region import Region, without_rounding
from stackelberg.files import write_text

RESULT = Path(__file__).parent / "results" / "certify_vs_peers.json"
STEPS = 20


class Block(nn.Module):
    """A residual sum after a convolution, with a shorter way beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


def chain(activation: type[nn.Module]) -> nn.Module:
    """Three layers of 32."""
    layers = [nn.Flatten(), nn.Linear(64, 32), activation(), nn.Linear(32, 32), activation(), nn.Linear(32, 10)]
    return nn.Sequential(*layers)


KINDS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: chain(nn.ReLU),
    "sigmoid": lambda: chain(nn.Sigmoid),
    "tanh": lambda: chain(nn.Tanh),
    "small-cnn": lambda: models.build("small-cnn", 10, (1, 8, 8), 4, seed=0),
    "residual": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), Block(), Block(), nn.Flatten(), nn.Linear(64, 10)
    ),
    "max-pool": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 10)
    ),
}


def ours(model: nn.Module, low: Tensor, high: Tensor, goal: Tensor, optimise: bool) -> Tensor:
    """Our lower bounds [B, K - 1]."""
    return searched_for(graph_of(model, tuple(low.shape[1:])), low, high, goal, optimise)


def unrounded(model: nn.Module, low: Tensor, high: Tensor, goal: Tensor, optimise: bool) -> Tensor:
    """Ours for a network that computes in real numbers."""
    with without_rounding(torch.float64), torch.no_grad():
        return searched_for(recorded(traced(model, GRAPHS.name), tuple(low.shape[1:])), low, high, goal, optimise)


def searched_for(graph: Graph, low: Tensor, high: Tensor, goal: Tensor, optimise: bool) -> Tensor:
    """By CROWN, or with optimised slopes."""
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
    "unrounded": unrounded,
    "auto_LiRPA": theirs,
}


def trained(kind: str) -> nn.Module:
    """A network of `KINDS`."""
    torch.manual_seed(0)
    train = data.load("digits", "train")
    found = games.solve(games.Standard(), KINDS[kind](), train, 10, learning_rate=0.002, progress=False, device="cpu")
    return found.best


def compared(model: nn.Module, source: str, radius: float, count: int) -> dict[str, Any]:
    """Bounds and seconds of each tool and method."""
    model = model.eval().requires_grad_(False)
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
        for tool in ("stackelberg", "unrounded"):
            ahead = bound[tool] - bound["auto_LiRPA"]
            found[f"{tool} ahead, {method}"] = {
                "mean": round(float(ahead.mean()), 5),
                "least": round(float(ahead.amin()), 5),
                "share_at_least_equal": round(float((ahead > -1e-3).double().mean()), 3),
            }
    return {"radius": radius, "images": count, "threads": torch.get_num_threads()} | found


def main() -> None:
    torch.set_num_threads(1)
    what, *asked = sys.argv[1:]
    if what == "kind":
        name, source, (radius, count) = f"digits {asked[0]} {float(asked[1]):g}", "digits", asked[1:]
        model = trained(asked[0])
    else:
        run, source, radius, count = asked[:4]
        name = asked[4] if len(asked) > 4 else f"{Path(run).name} {float(radius):g}"
        model = models.load(run)
    result = compared(model, source, float(radius), int(count))
    print(json.dumps(result, indent=1))
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    known[name] = result
    write_text(RESULT, json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
