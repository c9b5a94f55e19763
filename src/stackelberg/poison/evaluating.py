"""Does a poison hold?  Fresh networks are trained on it, with what trainers do against it, beside the controls."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError, unknown
from stackelberg.games import solve
from stackelberg.models import build
from stackelberg.poison.costless import Sampled
from stackelberg.poison.countermeasures import Countermeasure, countermeasure, usual
from stackelberg.poison.trials import Evaluation, Trial
from stackelberg.threat import Ball, clopper_pearson

Job = tuple[str, float, str, str, int]
"""(data, share, model, counter, seed)"""


def evaluate(
    poisoned: Dataset, clean: Dataset, test: Dataset, *, models: Sequence[str] = ("small-cnn", "resnet18", "vgg16"),
    counters: Sequence[str] | None = None, shares: Sequence[float] = (0.1, 0.5, 0.9, 1.0), seeds: Sequence[int] = (0,),
    width: int | None = None, epochs: int = 20, steps: int = 3,
    controls: Sequence[str] = ("clean", "noise"), out: str | os.PathLike[str] | None = None,
    device: str = "auto", progress: bool = False, **recipe: Any,
) -> Evaluation:  # fmt: skip
    """Train fresh networks on poisoned, clean and randomly noised images, and count them on clean test images.

    Every network meets every counter-measure on the three sets; the first network also meets partly poisoned sets,
    with no counter-measure. The accuracy is that of the last epoch, as a trainer has no clean data to choose by. Every
    network begins with the normalisation of its own training set.

    Args:
        poisoned: the moved training images.
        clean: the same images before, in the same order.
        test: clean test images.
        models: names of `models.NAMES`.
        counters: names of `countermeasure`; None for all that suit the images, with adversarial training at a quarter,
            a half and all of the poison's linf radius. "none" is always among them.
        shares: of the training set that is poisoned, chosen at random by the seed.
        seeds: of initialisation and order, one training each.
        width: of every network; None for its standard one.
        epochs: of every training.
        steps: of the ascent in adversarial training.
        controls: of "clean" and "noise", what is trained on beside the poison.
        out: a folder for evaluation.json and evaluation.png; a training found there with the same settings is kept.
        device: "cpu", "cuda" or "auto".
        progress: lines on standard error.
        **recipe: fields of `games.Recipe`.

    Raises:
        StackelbergError: the sets differ in number, shape or labels; nothing was moved; an unknown network or
            counter-measure; a share outside (0, 1].
    """
    radius = _check(poisoned, clean, test, shares, seeds)
    for name in controls:
        if name not in ("clean", "noise"):
            raise unknown("control", name, ("clean", "noise"))
    colour = clean.x.shape[1] == 3
    names = usual(colour, radius) if counters is None else tuple(counters)
    known = {name: countermeasure(name, colour, steps) for name in dict.fromkeys(("none", *names))}
    settings = {
        "poisoned": poisoned.name, "clean": clean.name, "test": test.name, "n": len(clean), "test_n": len(test),
        "content": [part.content()[:16] for part in (poisoned, clean, test)], "radius": radius, "width": width,
        "epochs": epochs, "steps": steps, "recipe": recipe,
    }  # fmt: skip
    folder = None if out is None else Path(out)
    done = _kept(folder, settings)
    workshop = _Workshop(poisoned, clean, test, radius, width, epochs, device, recipe)
    trials: list[Trial] = []
    for job in _jobs(models, known, shares, seeds, controls):
        trial = done.get(job)
        if trial is None:
            trial = workshop.trained(job, known[job[3]])
            if progress:
                words = f"{job[0]} {100 * job[1]:.0f} %, {job[2]}, {job[3]}, seed {job[4]}: test {trial.test}"
                print(f"{trial.seconds:.0f} s, {words}", file=sys.stderr, flush=True)
        trials.append(trial)
        if folder is not None:
            others = [trial for other, trial in done.items() if other not in {_job(t) for t in trials}]
            Evaluation(settings, (*trials, *others)).to_json(folder / "evaluation.json")
    answer = Evaluation(settings, tuple(trials))
    if folder is not None:
        answer.to_json(folder / "evaluation.json")
        answer.plot(folder / "evaluation.png")
    return answer


def _jobs(
    models: Sequence[str], counters: dict[str, Countermeasure], shares: Sequence[float], seeds: Sequence[int],
    controls: Sequence[str],
) -> Iterator[Job]:  # fmt: skip
    """All trainings, the undefended ones first."""
    kinds = [("clean", 0.0)] * ("clean" in controls) + [("noise", 1.0)] * ("noise" in controls) + [("poisoned", 1.0)]
    for seed in seeds:
        for counter in counters:
            for model in models:
                for data, share in kinds:
                    yield data, share, model, counter, seed
        for share in shares:
            if share < 1:
                yield "poisoned", share, models[0], "none", seed


def _job(trial: Trial) -> Job:
    return trial.data, trial.share, trial.model, trial.counter, trial.seed


def _kept(folder: Path | None, settings: dict[str, Any]) -> dict[Job, Trial]:
    """The trainings of an evaluation that was begun before."""
    path = None if folder is None else folder / "evaluation.json"
    if path is None or not path.is_file():
        return {}
    before = Evaluation.from_json(path)
    for name, value in settings.items():
        if before.settings.get(name) != value:
            raise StackelbergError(
                f"{path} holds an evaluation with another {name} ({before.settings.get(name)!r}, now {value!r}); pass"
                " another --out"
            )
    return {_job(trial): trial for trial in before.trials}


def _check(poisoned: Dataset, clean: Dataset, test: Dataset, shares: Sequence[float], seeds: Sequence[int]) -> float:
    """The poison's linf radius, once the sets are known to be comparable."""
    if poisoned.x.shape != clean.x.shape:
        raise StackelbergError(
            f"{poisoned.name} and {clean.name} must hold the same images before and after, got shapes"
            f" {list(poisoned.x.shape)} and {list(clean.x.shape)}; pass the clean set that was poisoned, --n alike"
        )
    if poisoned.x.dim() != 4:
        raise StackelbergError(f"{poisoned.name} holds {poisoned.kind}, not images")
    wrong = (poisoned.y != clean.y).nonzero()
    if len(wrong):
        index = int(wrong[0])
        raise StackelbergError(
            f"the label of example {index} is {int(poisoned.y[index])} in {poisoned.name} and {int(clean.y[index])} in"
            f" {clean.name}; pass the clean set that was poisoned, in its order"
        )
    if test.shape != clean.shape or test.classes != clean.classes:
        raise StackelbergError(
            f"the test images {test.name} {list(test.shape)} with {len(test.classes)} classes do not fit {clean.name}"
            f" {list(clean.shape)} with {len(clean.classes)}; pass its test split"
        )
    for share in shares:
        if not 0 < share <= 1:
            raise StackelbergError(f"a share must lie in (0, 1], got {share}; for a tenth pass 0.1")
    if not seeds:
        raise StackelbergError("seeds must name at least one, got none; pass (0,)")
    parts = zip(poisoned.x.split(4096), clean.x.split(4096), strict=True)
    largest = max(int((a.int() - b.int()).abs().max()) for a, b in parts)
    if largest == 0:
        raise StackelbergError(f"{poisoned.name} and {clean.name} are the same images: nothing was poisoned")
    return largest / 255


class _Workshop:
    """Trains on demand; a set that was made once is not made again."""

    def __init__(
        self, poisoned: Dataset, clean: Dataset, test: Dataset, radius: float, width: int | None, epochs: int,
        device: str, recipe: dict[str, Any],
    ) -> None:  # fmt: skip
        self.sets = {"poisoned": poisoned, "clean": clean}
        self.test, self.radius, self.width, self.epochs = test, radius, width, epochs
        self.device, self.recipe = device, recipe

    def examples(self, data: str, share: float, seed: int) -> Dataset:
        clean = self.sets["clean"]
        if data == "noise" and "noise" not in self.sets:
            ball = Ball("linf", min(self.radius, 254 / 255))
            self.sets["noise"] = Sampled(ball, len(clean.classes), 0).poisoned(clean)
        if data != "poisoned" or share >= 1:
            return self.sets[data]
        order = np.random.default_rng([seed, 7]).permutation(len(clean))[: round(share * len(clean))]
        moved = torch.from_numpy(order)
        x = clean.x.clone()
        x[moved] = self.sets["poisoned"].x[moved]
        return replace(clean, x=x)

    def trained(self, job: Job, counter: Countermeasure) -> Trial:
        data, share, model, name, seed = job
        examples, test = self.examples(data, share, seed), self.test
        if counter.prepare is not None:
            examples, test = replace(examples, x=counter.prepare(examples.x)), replace(test, x=counter.prepare(test.x))
        scale = examples.mean_std()
        network = build(model, len(examples.classes), examples.shape, self.width, *scale, seed=seed + 1000)
        recipe = {"held_out": max(1, min(100, len(examples) // 20)), **self.recipe, **counter.recipe}
        begun = time.monotonic()
        found = solve(
            counter.game, network, examples, self.epochs, seed=seed, device=self.device, progress=False, **recipe
        ).model
        seconds = time.monotonic() - begun
        answers, classes = predictions(found, test), len(test.classes)
        confusion = torch.bincount(test.y * classes + answers, minlength=classes**2).view(classes, classes)
        some = examples.take(2000)
        own = float((predictions(found, some) == some.y).float().mean())
        return Trial(
            data,
            share,
            model,
            name,
            seed,
            clopper_pearson(int(confusion.trace()), len(test)),
            own,
            seconds,
            confusion.tolist(),
        )


def predictions(network: nn.Module, data: Dataset) -> Tensor:
    """The network's classes, in evaluation mode, a batch at a time; on the data's device."""
    device = next((p.device for p in network.parameters()), data.device)
    network.eval()
    with torch.no_grad():
        parts = [
            network(data.batch(part)[0].to(device)).argmax(1).to(data.device)
            for part in torch.arange(len(data), device=data.device).split(500)
        ]
    return torch.cat(parts)
