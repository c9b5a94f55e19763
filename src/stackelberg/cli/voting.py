"""`stackelberg certify --poison`: how many poisoned training examples leave an answer as it is?"""

from pathlib import Path
from typing import Any

from stackelberg.cli.output import show


def certify(
    data: str, split: str, model: str, width: int | None, partitions: int, epochs: int, n: int, out: Path, seed: int,
    as_json: bool,
) -> None:  # fmt: skip
    """Train the vote, write it to `out` and its claims to out/certify/certificate.json, say what stands."""
    from stackelberg import data as sets
    from stackelberg import poison
    from stackelberg.poison.partitions import poison_radius
    from stackelberg.report.auditing import choose
    from stackelberg.threat import clopper_pearson

    train, examples = sets.load(data, "train"), sets.load(data, split)
    index = choose(len(examples), n, seed)[0]
    made = poison.partition(train, partitions, model, width, epochs, seed)
    made.save(out)
    document = poison.poison_certificate(made, str(out), examples, split, index.tolist())
    path = out / "certify" / "certificate.json"
    document.to_json(path)
    votes = made.vote.votes(examples.take(index).batch(slice(None))[0])
    largest = int(poison_radius(votes)[1].max())
    total = len(document.claims)
    steps = sorted({0, 1, *(largest * part // 4 for part in range(1, 5))})
    rates = {radius: clopper_pearson(document.right_at(radius), total) for radius in steps}
    record: dict[str, Any] = {
        "out": str(out), "certificate": str(path), "partitions": partitions, "sizes": made.sizes, "n": total,
        "certified_accuracy": {str(radius): rate for radius, rate in rates.items()},
    }  # fmt: skip
    words = [f"{partitions} networks, on {min(made.sizes)} to {max(made.sizes)} examples each"]
    words += [f"poisoned {radius:>4}   right and proved to stay so {rate}" for radius, rate in rates.items()]
    show(record, "\n".join([*words, str(path)]), as_json)
