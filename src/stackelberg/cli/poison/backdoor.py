"""`stackelberg poison backdoor`: training data that open a door for whoever holds the trigger."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stackelberg.cli import options
from stackelberg.cli.output import show

if TYPE_CHECKING:
    from stackelberg.data import Dataset
    from stackelberg.poison import Backdoored


def command(
    data: options.Data,
    method: Annotated[str, typer.Option(help="badnets, blended, label-consistent or clean-label.")] = "clean-label",
    target: Annotated[str, typer.Option(help="The attacker's class, its number or its name.")] = "0",
    rate: Annotated[float, typer.Option(help="Poisoned share of the training set.")] = 0.01,
    eps: Annotated[str, typer.Option(help="Radius of the methods with true labels, for example 8/255.")] = "16/255",
    n: Annotated[int | None, typer.Option("--n", min=2, help="The first so many training examples; else all.")] = None,
    surrogate: Annotated[
        str | None, typer.Option(help="A network by which noise is made, a run or a file; else one is trained.")
    ] = None,
    size: Annotated[int, typer.Option(min=1, help="Of a patch, in pixels.")] = 3,
    inset: Annotated[int, typer.Option(min=0, help="Of a patch from the edges; 4 outlasts crops by 4.")] = 1,
    opacity: Annotated[float | None, typer.Option(help="Of a patch or a blended image, in (0, 1].")] = None,
    victim: Annotated[
        str | None, typer.Option(help="A network to train on poisoned and clean data, to measure the backdoor.")
    ] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Of the victim; its standard one if left out.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Of the victim's training.")] = 20,
    test_n: Annotated[int, typer.Option(min=1, help="Test examples on which it is measured.")] = 1000,
    out: Annotated[Path, typer.Option("--out", help="Directory to write to.")] = Path("poisoned"),
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Poison a share of a training set so that a trigger turns test images to one class.

    Writes train.parquet, test.parquet (clean) where there is one, the trigger and poison.json; the directory is a data
    set for every other command. With --victim the attack is measured beside a control: success on test images of the
    other classes, and clean accuracy.

    \b
    Example:
      stackelberg poison backdoor --data cifar10 --method clean-label --target ship --eps 8/255 --out poisoned
      stackelberg poison backdoor --data mnist --method badnets --rate 0.02 --victim small-cnn --width 8 --out poisoned
    """
    from stackelberg import data as sets
    from stackelberg import models, poison
    from stackelberg.threat import Ball, parse_radius

    ball = Ball("linf", parse_radius(eps))
    train = sets.load(data, "train")
    train = train if n is None else train.take(n)
    net = None if surrogate is None else models.load(surrogate)
    made = poison.backdoor(
        train, ball, method, target=target, rate=rate, surrogate=net, size=size, opacity=opacity, inset=inset, seed=seed
    )
    test = sets.load(data, "test") if "test" in sets.splits(data) else None
    made.save(out)
    if test is not None:
        sets.save_parquet(test, out / "test.parquet")
    record = {
        "out": str(out), "method": method, "target": train.classes[made.trigger.target], "poisoned": len(made.index),
        "rate": made.rate, "stealth": asdict(made.stealth),
    }  # fmt: skip
    if victim is not None and test is not None:
        record["measured"] = _measured(made, train, test.take(test_n), victim, width, epochs, seed)
    show(record, _words(record), json)


def _measured(
    made: "Backdoored", train: "Dataset", test: "Dataset", name: str, width: int | None, epochs: int, seed: int
) -> dict[str, Any]:
    from stackelberg.poison import attack_success
    from stackelberg.poison.learner import accuracy, learn

    rates = {}
    for kind, examples in (("poisoned", made.data), ("control", train)):
        network = learn(examples, name, width, epochs, seed)
        rates[kind] = {"success": attack_success(network, test, made.trigger), "clean": accuracy(network, test)}
    return rates


def _words(record: dict[str, Any]) -> str:
    seen = record["stealth"]
    lines = [
        f"poisoned   {record['poisoned']} examples, {100 * record['rate']:.2g} % of the data, by {record['method']},"
        f" towards {record['target']}",
        f"stealth    linf {seen['linf']:.4g}, l2 {seen['l2']:.4g}, SSIM {seen['ssim']:.4f}",
    ]
    for kind, rates in record.get("measured", {}).items():
        lines.append(f"{kind:<10} attack success {rates['success']}, clean accuracy {rates['clean']}")
    return "\n".join([*lines, record["out"]])
