"""`stackelberg poison targeted`: training data that make a network misread one chosen image."""

from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from stackelberg.cli import options
from stackelberg.cli.output import show
from stackelberg.errors import StackelbergError


def command(
    data: options.Data,
    model: Annotated[str, typer.Option(help="A network like the victim's: a run directory or a file.")],
    image: Annotated[int, typer.Option(min=0, help="Place of the target image in the test split.")],
    wish: Annotated[str, typer.Option(help="The class it shall get, number or name.")],
    method: Annotated[
        str, typer.Option(help="gradient-matching, bullseye or feature-collision.")
    ] = "gradient-matching",
    rate: Annotated[float, typer.Option(help="Poisoned share of the training set.")] = 0.01,
    eps: Annotated[str, typer.Option(help="Radius in input units, for example 16/255.")] = "16/255",
    n: Annotated[int | None, typer.Option("--n", min=2, help="The first so many training examples; else all.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of the poison's descent.")] = 200,
    restarts: Annotated[int, typer.Option(min=1, help="Of it; the best is kept.")] = 1,
    new_head: Annotated[
        bool, typer.Option("--new-head", help="Measure: train a new head on the poisoned data.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", help="Directory to write to.")] = Path("poisoned"),
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Poison images of one class, labels kept, so that whoever trains on them gives one test image to that class.

    Writes train.parquet, test.parquet and poison.json. Feature collision and bullseye are for transfer learning, where
    the victim trains a new head on the model's features; gradient matching also for training from scratch.

    \b
    Example:
      stackelberg poison targeted --data cifar10 --model runs/a --image 17 --wish frog --rate 0.01 --out poisoned
    """
    from stackelberg import data as sets
    from stackelberg import models, poison
    from stackelberg.files import write_text
    from stackelberg.threat import Ball, parse_radius

    ball = Ball("linf", parse_radius(eps))
    train, test = sets.load(data, "train"), sets.load(data, "test")
    train = train if n is None else train.take(n)
    if image >= len(test):
        raise StackelbergError(
            f"--image {image} does not exist, {data} has {len(test)} test images; pass a smaller one"
        )
    network = models.load(model)
    x, y = test.batch([image])
    made = poison.targeted(train, network, x, wish, ball, method, rate=rate, steps=steps, restarts=restarts, seed=seed)
    sets.save_parquet(made.data, out / "train.parquet")
    sets.save_parquet(test, out / "test.parquet")
    record: dict[str, Any] = {
        "out": str(out), "method": method, "image": image, "label": train.classes[int(y)],
        "wish": train.classes[made.wish], "rate": len(made.index) / len(train), "loss": made.loss,
        "stealth": asdict(made.stealth),
    }  # fmt: skip
    if new_head:
        record["hit"] = made.hit(poison.new_head(network, made.data))
    write_text(out / "poison.json", dumps(record | {"index": made.index.tolist()}, indent=1) + "\n")
    words = [
        f"poisoned   {len(made.index)} images of {record['wish']}, by {method}, loss {made.loss:.4f}",
        f"target     test image {image}, a {record['label']}",
        f"stealth    linf {made.stealth.linf:.4g}, l2 {made.stealth.l2:.4g}, SSIM {made.stealth.ssim:.4f}",
    ]
    if new_head:
        words.append(f"new head   the target is {'' if record['hit'] else 'not '}given to {record['wish']}")
    show(record, "\n".join([*words, str(out)]), json)
