"""`stackelberg train`: how do I get a network that stays good when the adversary answers?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stackelberg.cli import options
from stackelberg.cli.output import show
from stackelberg.errors import StackelbergError

if TYPE_CHECKING:
    from torch import nn

    from stackelberg.data import Dataset
    from stackelberg.games import Equilibrium, Game

STANDARD = "small-cnn"


def command(
    data: options.Data,
    model: Annotated[
        str | None, typer.Option(help="A network of stackelberg.models.NAMES; small-cnn if left out.")
    ] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Of the network; its standard one if left out.")] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            help="Train this one on instead: a run's directory, a file of weights, or the directory of"
            " stackelberg memorize --kind lipschitz, which becomes a distance-net with its answers."
        ),
    ] = None,
    game: Annotated[
        str,
        typer.Option(
            help="standard, at, at-cw, trades, mart, fast, at-awp, trades-awp, tradeoff, udr, ibp, crown-ibp, sabr,"
            " margin, sr-at, sr-trades, sr-wdro, or for clouds fat."
        ),
    ] = "at",
    eps: Annotated[str | None, typer.Option(help="Radius in input units, for example 8/255.")] = None,
    norm: options.Norm = "linf",
    steps: Annotated[int, typer.Option(help="Of the adversary's ascent.")] = 10,
    beta: Annotated[float, typer.Option(help="Weight of the robust term of trades.")] = 6.0,
    gamma: Annotated[float, typer.Option(help="Radius of the KL ball of the sr- games, in nats.")] = 0.1,
    parameter_box: Annotated[
        float | None, typer.Option(help="E of the leader's space [-E, E]: every parameter stays in it.")
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training set.")] = 20,
    batch_size: Annotated[int | None, typer.Option(help="Examples a step, over all processes.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="sgd or adam.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The largest of the schedule.")] = None,
    momentum: Annotated[float | None, typer.Option(help="Of sgd.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="On weights, not on biases and norms.")] = None,
    schedule: Annotated[str | None, typer.Option(help="one-cycle, cosine, steps or constant.")] = None,
    warmup: Annotated[float | None, typer.Option(help="Share of training in which the rate rises.")] = None,
    radius_warmup: Annotated[float | None, typer.Option(help="Share of training in which the radius rises.")] = None,
    average: Annotated[float | None, typer.Option(help="Decay a step of the averaged weights; 0 for none.")] = None,
    clip: Annotated[float | None, typer.Option(help="Largest norm of the gradient.")] = None,
    augment: Annotated[int | None, typer.Option(help="Crop padding in pixels; -1 for no augmentation.")] = None,
    flip: Annotated[bool | None, typer.Option(help="Whether images are mirrored.")] = None,
    turn: Annotated[float | None, typer.Option(help="Clouds: largest turn about the vertical, degrees.")] = None,
    scale: Annotated[float | None, typer.Option(help="Clouds: largest stretch along each axis, a factor.")] = None,
    jitter: Annotated[float | None, typer.Option(help="Clouds: deviation of the noise on coordinates.")] = None,
    drop: Annotated[float | None, typer.Option(help="Clouds: largest share of points dropped.")] = None,
    points: options.Points = None,
    held_out: Annotated[int | None, typer.Option(help="Training examples kept to choose the best epoch by.")] = None,
    check_steps: Annotated[int | None, typer.Option(help="PGD steps of the check after each epoch.")] = None,
    exploit_n: Annotated[
        int | None, typer.Option(help="Held-out examples on which exploitability is measured after each epoch.")
    ] = None,
    test_n: Annotated[int, typer.Option(min=0, help="Test examples judged once, at the end.")] = 1000,
    out: options.OutOrNone = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a killed run, or begin.")] = False,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    devices: options.Devices = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    precision: Annotated[str, typer.Option(help="bfloat16, float32, or auto.")] = "auto",
    strategy: Annotated[
        str, typer.Option(help="Of several processes: ddp, or fsdp, where each holds a part of the network.")
    ] = "ddp",
    json: options.Json = False,
) -> None:
    """Train a network in a game against an adversary.

    The run directory holds run.json and best.safetensors, which stackelberg audit takes. What is left out of the
    recipe is chosen to suit the network and the data.

    \b
    Example:
      stackelberg train --data mnist --model small-cnn --game sr-at --eps 0.3 --epochs 10 --out runs/a
      stackelberg train --data modelnet10 --model pointnet --width 16 --points 256 --game standard --out runs/b
      stackelberg train --data mnist --start runs/a --game trades --eps 0.3 --epochs 2 --out runs/c
    """
    given = locals()
    from stackelberg import data as sets
    from stackelberg import games
    from stackelberg.games import Recipe

    recipe = {name: given[name] for name in Recipe.model_fields if given[name] is not None}
    examples = options.few_points(sets.load(data, "train"), points)
    chosen = _game(game, eps, norm, steps, beta, gamma, examples.box)
    if parameter_box is not None:
        chosen = games.ParameterBox(chosen, parameter_box)
    network = _network(model, width, start, examples, seed)
    folder = out or Path("runs") / f"{Path(data).stem}-{start.stem if start else model or STANDARD}-{game}"
    test = _test(data, test_n, seed)
    test = None if test is None else options.few_points(test, points)
    equilibrium = games.solve(
        chosen, network, examples, epochs, test=test, out=folder, resume=resume, seed=seed,
        device=device, devices=devices, nodes=nodes, precision=precision,
        strategy=strategy, **recipe,
    )  # fmt: skip
    record = _record(equilibrium, folder, 0 if test is None else len(test))
    show(record, _words(record), json)


def _network(name: str | None, width: int | None, start: Path | None, examples: "Dataset", seed: int) -> "nn.Module":
    """A fresh network, or the one to be trained on."""
    from stackelberg import memorize, models

    if start is None:
        return models.build(name or STANDARD, len(examples.classes), examples.shape, width, seed=seed)
    if name is not None:
        raise StackelbergError(f"--start {start} is a network already; leave --model {name} out")
    begun = models.load(start, classes=len(examples.classes), shape=examples.shape)
    if isinstance(begun, memorize.Answers):
        return memorize.distance_net(begun.memorizer, width, seed)
    if width is not None:
        raise StackelbergError(f"--start {start} has its width already; leave --width {width} out")
    return begun


def _game(
    name: str, eps: str | None, norm: str, steps: int, beta: float, gamma: float, box: tuple[float, float]
) -> "Game":
    from stackelberg import games
    from stackelberg.threat import Ball, parse_radius

    if eps is None and name in games.NAMES and name not in games.NO_BALL:
        raise StackelbergError(
            f"game {name!r} moves the examples, so it needs --eps, the radius in input units, for example --eps 8/255"
        )
    ball = Ball(norm, parse_radius(eps or 0), *box)  # pyright: ignore[reportArgumentType]  # the ball checks the norm
    return games.named(name, ball, steps=steps, beta=beta, gamma=gamma)


def _test(source: str, count: int, seed: int) -> "Dataset | None":
    """`count` random examples of the test split, all where there are fewer; None without such a split."""
    from stackelberg import data as sets

    if not count or "test" not in sets.splits(source):
        return None
    test = sets.load(source, "test")
    return test.split(count, seed)[1] if count < len(test) else test


def _record(equilibrium: "Equilibrium", folder: Path, n: int) -> dict[str, Any]:
    """What came out, for a program; rates on the test set with their intervals."""
    from stackelberg.threat import clopper_pearson

    best = equilibrium.history[equilibrium.best_epoch - 1]
    return {
        "out": str(folder),
        "epochs": len(equilibrium.history),
        "best_epoch": equilibrium.best_epoch,
        "held_out": {name: best[name] for name in ("clean", "robust", "certified")},
        "test": {name: clopper_pearson(round(rate * n), n) for name, rate in (equilibrium.test or {}).items()},
    }


def _words(record: dict[str, Any]) -> str:
    names = {"clean": "clean", "robust": "under PGD", "certified": "certified"}
    tested = ", ".join(f"{names[name]} {rate}" for name, rate in record["test"].items())
    kept = f"{record['out']}: epoch {record['best_epoch']} of {record['epochs']} is kept"
    return f"{kept}; on the test set: {tested}" if tested else kept
