"""`stackelberg poison detect`: are these data poisoned, has this network a backdoor?"""

from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from stackelberg.cli import options
from stackelberg.cli.output import show
from stackelberg.errors import unknown

METHODS = ("spectral", "clustering", "inversion")


def command(
    data: options.Data,
    model: Annotated[
        str | None, typer.Option(help="The suspect: a run directory or a file; else one is trained on the data.")
    ] = None,
    method: Annotated[str, typer.Option(help="spectral, clustering, inversion, or all.")] = "all",
    share: Annotated[
        float | None, typer.Option(help="Spectral: most of a class that may be poisoned; left out: only outliers.")
    ] = None,
    network: Annotated[str, typer.Option(help="What is trained on the data, without --model.")] = "small-cnn",
    width: Annotated[int | None, typer.Option(min=1, help="Of it.")] = 16,
    epochs: Annotated[int, typer.Option(min=1, help="Of its training.")] = 15,
    n: Annotated[int | None, typer.Option("--n", min=2, help="The first so many training examples; else all.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of the inversion, for each class.")] = 200,
    trusted: Annotated[int, typer.Option(min=1, help="Of the inversion: examples taken for clean.")] = 500,
    out: Annotated[Path, typer.Option("--out", help="Directory to write suspects.json to.")] = Path("suspects"),
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Look for poison in a received training set, or for a backdoor in a network.

    Spectral signatures and activation clustering name examples, trigger inversion names classes. Inversion uses test
    images where the data have some. None of them proves anything, and clean data have false alarms: on clean data
    spectral signatures with --share flag 1.5 times that share. Where the data lie beside a poison.json the two rates
    are measured.

    \b
    Example:
      stackelberg poison detect --data poisoned/ --model runs/victim --method clustering --out suspects
      stackelberg poison detect --data received/ --method all
    """
    from stackelberg import data as sets
    from stackelberg import models, poison
    from stackelberg.files import write_text
    from stackelberg.poison.learner import learn

    if method not in (*METHODS, "all"):
        raise unknown("detector", method, (*METHODS, "all"))
    train = sets.load(data, "train")
    train = train if n is None else train.take(n)
    suspect = models.load(model) if model is not None else learn(train, network, width, epochs, seed)
    models.check_output(suspect, train.batch(range(2))[0], len(train.classes))
    asked = METHODS if method == "all" else (method,)
    record: dict[str, Any] = {"data": data, "model": model, "n": len(train)}
    known = Path(data) / "poison.json"
    for name in asked:
        if name == "inversion":
            clean = sets.load(data, "test") if "test" in sets.splits(data) else train
            found = poison.trigger_inversion(suspect, clean.take(trusted), steps, seed=seed)
            record[name] = {
                "classes": [train.classes[label] for label in found.classes],
                "pixels": [round(value, 2) for value in found.norm.tolist()],
                "anomaly": [round(value, 2) for value in found.anomaly.tolist()],
            }
            continue
        looks = {
            "spectral": lambda: poison.spectral_signatures(suspect, train, share),
            "clustering": lambda: poison.activation_clustering(suspect, train),
        }
        suspects = looks[name]()
        record[name] = {
            "classes": [train.classes[label] for label in suspects.classes],
            "flagged": suspects.flagged.nonzero()[:, 0].tolist(),
            "share": suspects.share,
            "evidence": [round(value, 3) for value in suspects.evidence.tolist()],
        }
        if known.is_file():
            index = poison.load_backdoor(data)[1]
            places = index[index < len(train)]
            if 0 < len(places) < len(train):
                hit, false = suspects.rates(places)
                record[name] |= {"found": hit, "false_positives": false}
    path = out / "suspects.json"
    write_text(path, dumps(record, default=asdict, indent=1) + "\n")  # rates are dataclasses
    show(record | {"out": str(path)}, "\n".join([*_words(record), str(path)]), json)


def _words(record: dict[str, Any]) -> list[str]:
    lines = []
    for name in METHODS:
        if name not in record:
            continue
        found = record[name]
        named = ", ".join(found["classes"]) or "no class"
        if name == "inversion":
            lines.append(f"inversion   {named} abnormal; largest anomaly index {max(found['anomaly']):.2f}")
        else:
            lines.append(f"{name:<11} flags {found['share']} of the examples, in {named}")
        if "found" in found:
            lines.append(f"            of the poison {found['found']}, of the rest {found['false_positives']}")
    return lines
