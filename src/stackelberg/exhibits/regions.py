"""How do the memorizers look?  Their decisions in the plane beside a trained network's, and their layers drawn."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from stackelberg.files import replacing
from stackelberg.memorize import lipschitz, optimal

COLOURS = ("#ffffff", "#f2c46d", "#7fb2e5", "#a7d49b")  # no answer, then the classes
MARKS = ("o", "s", "^")
_GRID = 300


def points() -> tuple[Tensor, Tensor]:
    """18 points of three classes in the unit square, none of two classes nearer than 0.16 in linf."""
    rng = np.random.default_rng(8)
    kept: list[tuple[np.ndarray, int]] = []
    while len(kept) < 18:
        point, label = rng.uniform(0.06, 0.94, 2), len(kept) % 3
        if all(np.abs(point - other).max() >= (0.16 if own != label else 0.08) for other, own in kept):
            kept.append((point, label))
    return torch.from_numpy(np.stack([point for point, _ in kept])), torch.tensor([label for _, label in kept])


def trained(x: Tensor, y: Tensor) -> nn.Module:
    """A plain network fitted to the points without an adversary."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)).double()
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(1500):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net.requires_grad_(False)


def draw(path: Path) -> None:
    """Above: the classes over the unit square with the balls of radius lambda / 2; below: what the answer rests on."""
    x, y = points()
    memorizers, net = (optimal(x, y), lipschitz(x, y)), trained(x, y)
    ticks = torch.linspace(0, 1, _GRID, dtype=torch.float64)
    square = torch.cartesian_prod(ticks, ticks)
    lead = net(square).topk(2, 1).values
    radius = float(memorizers[0].separation.value / 2)
    columns = (
        ("optimal: right on every ball, silent between", memorizers[0].predict(square), memorizers[0].scores(square),
         "F, the code of the class or between"),
        ("Lipschitz: the nearest point decides", memorizers[1].predict(square), memorizers[1].certified(square).radius,
         "certified radius, half the lead"),
        ("trained without an adversary", net(square).argmax(1), lead[:, 0] - lead[:, 1], "lead of the best logit"),
    )  # fmt: skip
    figure = Figure(figsize=(13, 8.6), layout="constrained")
    axes = figure.subplots(2, 3)
    for column, (title, label, value, words) in enumerate(columns):
        above, below = axes[0, column], axes[1, column]
        grid = label.reshape(_GRID, _GRID).T.numpy() + 1
        above.imshow(grid, origin="lower", extent=(0, 1, 0, 1), cmap=ListedColormap(COLOURS), vmin=0, vmax=3)
        shown = below.imshow(value.reshape(_GRID, _GRID).T.numpy(), origin="lower", extent=(0, 1, 0, 1), cmap="viridis")
        figure.colorbar(shown, ax=below, shrink=0.85)
        above.set_title(title, fontsize=11)
        below.set_title(words, fontsize=11)
        for place in (above, below):
            _mark(place, x, y, radius)
    figure.suptitle(f"18 points, three classes; squares: balls of radius lambda / 2 = {radius:.3f}")
    _save(figure, path)


def _mark(axes: Axes, x: Tensor, y: Tensor, radius: float) -> None:
    for (a, b), label in zip(x.tolist(), y.tolist(), strict=True):
        box = Rectangle((a - radius, b - radius), 2 * radius, 2 * radius, fill=False, lw=0.8, ec="black")
        axes.add_patch(box)
        axes.plot(a, b, MARKS[label], ms=4.5, mfc=COLOURS[label + 1], mec="black", mew=0.8)
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[])


def draw_network(path: Path) -> None:
    """The literal optimal network of three points in the plane: units as dots, weights as lines, red where negative."""
    x, y = torch.tensor([[0.2, 0.3], [0.7, 0.4], [0.4, 0.9]], dtype=torch.float64), torch.tensor([0, 1, 2])
    memorizer = optimal(x, y, radius=0.15)
    layers = list(memorizer.network().layers())
    sizes = [layers[0].weight.shape[1], *[len(layer.bias) for layer in layers]]
    figure = Figure(figsize=(12, 5), layout="constrained")
    axes = figure.subplots()
    for number, layer in enumerate(layers):
        out, into = layer.weight.indices().numpy()
        lines = [
            ((number, _height(a, sizes[number])), (number + 1, _height(b, sizes[number + 1])))
            for b, a in zip(out, into, strict=True)
        ]
        values = layer.weight.values().numpy()
        colours = np.where(values < 0, "#c0392b", "#2c5f8a")
        widths = 0.6 + 0.5 * np.log1p(np.abs(values))
        axes.add_collection(LineCollection(lines, colors=colours.tolist(), linewidths=widths.tolist(), alpha=0.75))
    for number, size in enumerate(sizes):
        axes.plot(
            [number] * size, [_height(i, size) for i in range(size)], "o", ms=7, mfc="white", mec="black", zorder=3
        )
    names = ["x", *[f"{part}{k + 1}" for k in range(len(x)) for part in "AB"], "F"]
    axes.set_xticks(range(len(sizes)), [f"{name}\n{size}" for name, size in zip(names, sizes, strict=True)])
    axes.set(yticks=[], xlim=(-0.3, len(sizes) - 0.7))
    axes.set_title(
        f"3 points, d = 2: width {memorizer.width} = 3d + 1, depth {memorizer.depth} = 2N + 1; blue weights are"
        f" positive, red negative, the thickest {memorizer.largest_weight:.3g}"
    )
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    _save(figure, path)


def _height(unit: int, size: int) -> float:
    return (size - 1) / 2 - unit


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as scratch:
        figure.savefig(scratch, format="png", dpi=110)
