"""`stackelberg poison evaluate`: does a poison hold, and what undoes it?"""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from stackelberg.cli import options
from stackelberg.cli.output import show
from stackelberg.errors import StackelbergError


def command(
    data: options.Data,
    clean: Annotated[str, typer.Option("--clean", help="The data before poisoning, with a test split.")],
    models: Annotated[str, typer.Option("--models", help="Networks, with commas.")] = "small-cnn,resnet18,vgg16",
    width: Annotated[int | None, typer.Option(min=1, help="Of every network; its standard one if left out.")] = None,
    counters: Annotated[
        str | None,
        typer.Option(
            "--counters",
            help="crop-flip, cutout, mixup, grayscale, jpeg, at:RADIUS, with commas; all with three radii if left out.",
        ),
    ] = None,
    shares: Annotated[str, typer.Option(help="Poisoned shares of the set, with commas.")] = "0.1,0.25,0.5,0.75,0.9,1",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of every kind.")] = 1,
    epochs: Annotated[int, typer.Option(min=1, help="Of every training.")] = 20,
    steps: Annotated[int, typer.Option(min=1, help="Of the ascent in adversarial training.")] = 3,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples a step.")] = 128,
    n: Annotated[int | None, typer.Option("--n", min=2, help="Train on the first so many examples; else all.")] = None,
    test_n: Annotated[int | None, typer.Option(min=1, help="The first so many test examples; else all.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Directory to write to.")] = Path("evaluation"),
    seed: options.Seed = 0,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Train fresh networks on poisoned data, with and without counter-measures, beside clean and random-noise controls.

    Writes evaluation.json and evaluation.png. A command that was stopped goes on where it was.

    \b
    Example:
      stackelberg poison evaluate --data poisoned --clean cifar10 --models resnet18,vgg16 --seeds 3 --out evaluated
    """
    from stackelberg import data as sets
    from stackelberg import poison

    before, moved = sets.load(clean, "train"), sets.load(data, "train")
    if n is None and len(before) > len(moved):
        before = before.take(len(moved))  # the first so many were poisoned
    if n is not None:
        before, moved = before.take(n), moved.take(n)
    test = sets.load(clean, "test")
    found = poison.evaluate(
        moved, before, test if test_n is None else test.take(test_n),
        models=_words(models), counters=None if counters is None else _words(counters), shares=_numbers(shares),
        seeds=tuple(range(seed, seed + seeds)), width=width, epochs=epochs, steps=steps, out=out, device=device,
        progress=True, batch_size=batch_size,
    )  # fmt: skip
    record = {
        "settings": found.settings,
        "undone": found.undone(),
        "trials": [dataclasses.asdict(trial) for trial in found.trials],
    }
    show(record, f"{found.words()}\n{out / 'evaluation.json'}", json)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in _words(text))
    except ValueError:
        raise StackelbergError(f"shares must be numbers with commas, got {text!r}; for example 0.1,0.5,1") from None
