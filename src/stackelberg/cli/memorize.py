"""`stackelberg memorize`: what is the most robust network there can be for these data?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stackelberg.cli import options
from stackelberg.cli.output import show
from stackelberg.errors import StackelbergError

if TYPE_CHECKING:
    from stackelberg.data import Dataset
    from stackelberg.memorize.compact import Compact
    from stackelberg.memorize.memorizer import Memorizer
    from stackelberg.threat import Rate


def command(
    data: options.Data,
    kind: Annotated[str, typer.Option(help="optimal, lipschitz, generalizable or compact.")] = "optimal",
    norm: Annotated[
        str | None,
        typer.Option(help="optimal: linf; lipschitz: linf, l2 or l1; generalizable: l2. If left out the first."),
    ] = None,
    radius: Annotated[
        str | None, typer.Option(help="Below half the separation; if left out 0.999 of that half, for optimal.")
    ] = None,
    n: Annotated[int | None, typer.Option("--n", min=2, help="The first so many training examples; else all.")] = None,
    medoids: Annotated[
        int | None,
        typer.Option(min=2, help="Of these only so many: in each class those nearest to the centres of its k-means."),
    ] = None,
    claims: Annotated[int, typer.Option(min=1, help="Examples in certificate.json, chosen at random.")] = 100,
    test_n: Annotated[int, typer.Option(min=0, help="Test examples asked, chosen at random.")] = 1000,
    out: Annotated[Path, typer.Option("--out", help="Directory to write to.")] = Path("memorizer"),
    onnx: Annotated[bool, typer.Option("--onnx", help="Write the literal network as memorizer.onnx, too.")] = False,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Store a training set as a network that is right on every ball of a radius below half the classes' separation.

    Writes points.safetensors, memorizer.json and certificate.json, which stackelberg check verifies; the directory is
    a network for stackelberg audit, and a lipschitz one for stackelberg train --start. An example for which no stored
    point is near has no answer, which counts as wrong. Compact knows the stored points alone, in about the square root
    of their number of parameters.

    \b
    Example:
      stackelberg memorize --data mnist --kind optimal --out mem
      stackelberg memorize --data digits --kind lipschitz --n 100 --out mem --onnx
      stackelberg memorize --data mnist --kind lipschitz --medoids 64 --out mem
    """
    import torch

    from stackelberg import data as sets
    from stackelberg import memorize
    from stackelberg.report.auditing import choose
    from stackelberg.threat import parse_radius

    examples = sets.load(data, "train")
    if examples.text:
        raise StackelbergError(f"data set {data} is of texts, which have no distance here; pass images or points")
    place = torch.arange(len(examples))[:n]
    if medoids is not None:
        place = place[torch.from_numpy(memorize.medoids(examples.x[place], examples.y[place], medoids, seed))]
    kept = examples.take(place)
    chosen = place[choose(len(kept), claims, seed)[0]].tolist()
    test = sets.load(data, "test") if test_n and "test" in sets.splits(data) else None
    asked_of = {"train": kept} | ({} if test is None else {"test": test.take(choose(len(test), test_n, seed)[0])})
    if kind == "compact":
        _refuse(radius, onnx)
        _compact(examples, asked_of, chosen, out, seed, json)
        return
    memorizer = memorize.made(kind, kept.x, kept.y, norm, None if radius is None else parse_radius(radius))
    asked = (
        memorizer.radius if kind == "optimal" else 0.999 * memorizer.radius if radius is None else parse_radius(radius)
    )
    memorize.save(memorizer, out)
    memorize.certificate(memorizer, str(out), examples, "train", chosen, asked).to_json(out / "certificate.json")
    if onnx:
        _export(memorizer, out / "memorizer.onnx")
    rates = {split: _accuracy(memorizer, part) for split, part in asked_of.items()}
    show(_record(memorizer, rates, asked, out), _words(memorizer, rates, asked, out), json)


def _export(memorizer: "Memorizer", path: Path) -> None:
    from stackelberg.memorize.layers import Layered

    network = memorizer.network()
    if not isinstance(network, Layered):
        raise StackelbergError(f"a memorizer of the kind {memorizer.kind} has no ONNX form; leave --onnx out")
    network.to_onnx(path, memorizer.shape)


def _refuse(radius: str | None, onnx: bool) -> None:
    if radius is not None:
        raise StackelbergError(
            f"radius got {radius}, but a compact memorizer is right on the stored points alone; leave --radius out"
        )
    if onnx:
        raise StackelbergError(
            "a compact memorizer has no ONNX form, as its numbers have hundreds of digits; leave --onnx out"
        )


def _compact(
    examples: "Dataset", asked_of: dict[str, "Dataset"], chosen: list[int], out: Path, seed: int, json: bool
) -> None:
    """About sqrt(N) numbers that know N labels by heart."""
    from stackelberg import memorize

    compact = memorize.compact(asked_of["train"].x, asked_of["train"].y, seed=seed)
    memorize.keep(compact, out)
    memorize.by_heart(compact, str(out), examples, "train", chosen).to_json(out / "certificate.json")
    rates = {split: _accuracy(compact, part) for split, part in asked_of.items()}
    largest, total = compact.bits
    answer = {
        "out": str(out), "kind": "compact", "points": len(asked_of["train"]), "radius": compact.radius,
        "width": compact.width, "depth": compact.depth, "parameters": compact.num_parameters,
        "bits": {"largest": largest, "total": total}, "accuracy": {split: right for split, (right, _) in rates.items()},
    }  # fmt: skip
    lines = [
        f"network     width {compact.width}, depth {compact.depth}, {compact.num_parameters} whole numbers of up to"
        f" {largest} bits, {total} bits together",
        *(f"{split:<11} right {right}" for split, (right, _) in rates.items()),
        str(out / "certificate.json"),
    ]
    show(answer, "\n".join(lines), json)


def _accuracy(memorizer: "Memorizer | Compact", examples: "Dataset") -> tuple["Rate", "Rate"]:
    """(right, without an answer)."""
    from stackelberg.memorize.memorizer import NO_ANSWER
    from stackelberg.threat import clopper_pearson

    right = silent = 0
    for start in range(0, len(examples), 1024):
        part = slice(start, start + 1024)
        label = memorizer.predict(examples.x[part])
        right += int((label == examples.y[part]).sum())
        silent += int((label == NO_ANSWER).sum())
    return clopper_pearson(right, len(examples)), clopper_pearson(silent, len(examples))


def _record(
    memorizer: "Memorizer", rates: dict[str, tuple["Rate", "Rate"]], radius: float, out: Path
) -> dict[str, Any]:
    apart = memorizer.separation
    return {
        "out": str(out), "kind": memorizer.kind, "norm": memorizer.norm, "points": len(memorizer.points),
        "separation": {"value": apart.value, "pair": apart.pair}, "radius": radius, "width": memorizer.width,
        "depth": memorizer.depth, "parameters": memorizer.num_parameters, "dense_parameters": memorizer.num_dense,
        "largest_weight": memorizer.largest_weight, "lipschitz": memorizer.lipschitz,
        "accuracy": {split: right for split, (right, _) in rates.items()},
        "no_answer": {split: silent for split, (_, silent) in rates.items()},
    }  # fmt: skip


def _words(memorizer: "Memorizer", rates: dict[str, tuple["Rate", "Rate"]], radius: float, out: Path) -> str:
    lines = [
        str(memorizer.separation),
        f"radius      {radius:.6g}, half the separation is {memorizer.separation.value / 2:.6g}",
        f"network     width {memorizer.width}, depth {memorizer.depth}, {memorizer.num_parameters} parameters"
        f" ({memorizer.num_dense} with zeros), largest weight {memorizer.largest_weight:.4g}",
    ]
    lines += [f"{split:<11} right {right}, no answer {silent}" for split, (right, silent) in rates.items()]
    return "\n".join([*lines, str(out / "certificate.json")])
