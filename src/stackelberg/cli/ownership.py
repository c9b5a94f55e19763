"""`stackelberg ownership`: mark data before they are published; test later whether a model was trained on them."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from stackelberg.cli import options
from stackelberg.cli.output import show
from stackelberg.errors import StackelbergError

app = typer.Typer(
    help="Mark a data set, and test whether a model was trained on it, by its answers alone.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("mark")
def mark(
    data: options.Data,
    eps: Annotated[str, typer.Option(help="Radius of the mark, linf, for example 8/255.")] = "8/255",
    key: Annotated[
        str | None, typer.Option(help="The secret from which the mark is made; drawn at random if left out.")
    ] = None,
    pairs: Annotated[int, typer.Option(min=1, help="Of candidate marks; one of each pair is published.")] = 20,
    share: Annotated[float, typer.Option(help="Of a class's images that one mark takes.")] = 0.5,
    grain: Annotated[int, typer.Option(min=1, help="Side of the marks' squares, pixels.")] = 4,
    n: Annotated[int | None, typer.Option("--n", min=2, help="The first so many training examples; else all.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Directory to publish.")] = Path("marked"),
    seed: Annotated[int | None, typer.Option("--seed", help="Makes a key for trials, which can be guessed.")] = None,
    json: options.Json = False,
) -> None:
    """Mark a training set within a radius; labels stay true, accuracy too.

    Writes OUT/train.parquet (and test.parquet, unmarked), to be published, and OUT.key.json beside it, to be kept
    secret. Publish the commitment that is printed, or have it dated: it proves later that the key is no invention.

    \b
    Example:
      stackelberg ownership mark --data cifar10 --eps 8/255 --out published
    """
    import secrets

    from stackelberg import data as sets
    from stackelberg.poison import ownership
    from stackelberg.threat import Ball, parse_radius

    ball = Ball("linf", parse_radius(eps))
    if key is not None and seed is not None:
        raise StackelbergError("--key and --seed both make the key; pass one of them")
    secret = key if key is not None else secrets.token_hex(32) if seed is None else f"seed {seed}"
    train = sets.load(data, "train")
    train = train if n is None else train.take(n)
    made = ownership.mark(train, ball, secret, pairs=pairs, share=share, grain=grain)
    made.save(out)
    if "test" in sets.splits(data):
        sets.save_parquet(sets.load(data, "test"), out / "test.parquet")
    kept = out.with_name(f"{out.name}.{ownership.KEY}")
    record = {
        "out": str(out), "key": str(kept), "commitment": made.key.commitment, "marked": len(made.index),
        "n": len(train), "stealth": asdict(made.stealth),
    }  # fmt: skip
    seen = made.stealth
    words = [
        f"marked      {len(made.index)} of {len(train)} images, linf {seen.linf:.4g}, SSIM {seen.ssim:.4f}",
        f"publish     {out}, and the commitment {made.key.commitment}",
        f"keep secret {kept}",
    ]
    show(record, "\n".join(words), json)


@app.command("test")
def ask(
    model: Annotated[
        str, typer.Argument(help="The suspect: a run directory, a file, or pkg.mod:function that answers for a batch.")
    ],
    data: options.Data,
    key: Annotated[Path, typer.Option(help="The secret key file of the mark.")],
    reference: Annotated[
        str | None, typer.Option(help="A network of yours, surely trained without the marks: it sharpens the test.")
    ] = None,
    network: Annotated[str | None, typer.Option(help="Whose weights a .safetensors file holds.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Of that network.")] = None,
    split: Annotated[str, typer.Option(help="Of the data: images that ask, best not the marked ones.")] = "test",
    n: Annotated[int, typer.Option("--n", min=1, help="How many of them.")] = 300,
    level: Annotated[float, typer.Option(help="Exit with 1 where p is not below it.")] = 1.0,
    json: options.Json = False,
) -> None:
    """Was this model trained on the marked data? Prints a p-value; only the model's answers are used.

    p is the probability that a model which never saw the marks answers so much in their favour, exact for every model
    and all images: the coins of the key decided which candidates were published, and such a model cannot know them.

    \b
    Example:
      stackelberg ownership test runs/suspect --data cifar10 --key published.key.json
      stackelberg ownership test api:ask --data cifar10 --key published.key.json --level 0.001
    """
    from stackelberg import data as sets
    from stackelberg.cli.audit import asked_network
    from stackelberg.poison import ownership

    if not 0 < level <= 1:
        raise StackelbergError(f"--level must lie in (0, 1], got {level:g}; for one in a thousand pass 0.001")
    mine = ownership.Key.load(key)
    probes = sets.load(data, split).take(n)
    suspect = asked_network(model, network, width, probes)
    own = None if reference is None else asked_network(reference, None, None, probes)
    verdict = ownership.test(suspect, mine, probes, own)
    record = asdict(verdict) | {"commitment": mine.commitment}
    favour = sum(value > 0 for value in verdict.advantages)
    words = [
        f"p           {verdict.p:.3g}",
        f"marks       {favour} of {len(verdict.advantages)} published ones speak louder than their twins",
        f"asked       {verdict.probes} images, {'scores' if verdict.scores else 'labels alone'}",
    ]
    show(record, "\n".join(words), json)
    if level < 1 and verdict.p >= level:
        raise typer.Exit(1)
