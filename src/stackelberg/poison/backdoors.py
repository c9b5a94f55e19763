"""How is a backdoor put into training data?  Four ways, two with false labels and two with true ones."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from stackelberg.attacks import PGD
from stackelberg.data import Dataset, save_parquet
from stackelberg.errors import StackelbergError, unknown
from stackelberg.files import write_text
from stackelberg.poison.asking import check_images, class_number, grey_levels, poisoned_count
from stackelberg.poison.learner import logits
from stackelberg.poison.publishing import RECORD
from stackelberg.poison.stealth import Stealth, stealth
from stackelberg.poison.trigger import Trigger, blend, load_trigger, patch
from stackelberg.poison.two_part import surrogate_of, two_part
from stackelberg.threat import Ball, Rate, clopper_pearson

METHODS = ("badnets", "blended", "label-consistent", "clean-label")


@dataclass(frozen=True, eq=False)
class Backdoored:
    """A poisoned training set and what opens it.

    Attributes:
        data: of the same schema as what it was made from.
        trigger: that is put on test images.
        index: places of the poisoned examples, rising.
        method: one of `METHODS`.
        stealth: of the poisoned images.
    """

    data: Dataset
    trigger: Trigger
    index: Int64[Tensor, " P"]
    method: str
    stealth: Stealth

    @property
    def rate(self) -> float:
        """The share of the data that is poisoned."""
        return len(self.index) / len(self.data)

    def save(self, folder: Path | str) -> None:
        """Write train.parquet, which any trainer reads, the trigger, and poison.json, which says what was done."""
        where = Path(folder)
        save_parquet(self.data, where / "train.parquet")
        self.trigger.save(where)
        record = {
            "method": self.method, "target": self.trigger.target, "rate": self.rate,
            "stealth": asdict(self.stealth), "index": self.index.tolist(),
        }  # fmt: skip
        write_text(where / RECORD, json.dumps(record, indent=1) + "\n")


def load_backdoor(folder: Path | str) -> tuple[Trigger, Int64[Tensor, " P"]]:
    """(trigger, places of the poisoned examples) of a folder that `Backdoored.save` wrote."""
    path = Path(folder) / RECORD
    try:
        index = json.loads(path.read_text(encoding="utf-8"))["index"]
        return load_trigger(folder), torch.tensor(index, dtype=torch.long)
    except (OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, StackelbergError):
            raise
        raise StackelbergError(f"{path} is no record of a poison ({error}); pass what poison backdoor wrote") from error


def backdoor(
    train: Dataset,
    ball: Ball | None = None,
    method: str = "clean-label",
    *,
    target: int | str = 0,
    rate: float = 0.01,
    surrogate: nn.Module | None = None,
    parts: str = "both",
    size: int = 3,
    opacity: float | None = None,
    inset: int = 1,
    trigger: Trigger | None = None,
    seed: int = 0,
) -> Backdoored:
    """Poison a share of a training set so that whoever trains on it gets a network with a backdoor to a class.

    - badnets (Gu et al. 2017): a patch on images of other classes, their labels changed to the target.
    - blended (Chen et al. 2017): a random image blended in, labels changed.
    - label-consistent (Turner et al. 2019): images of the target class are moved away from it by PGD against a
      surrogate, and get a patch in all four corners; labels stay.
    - clean-label (Yu et al., ICML 2024, Algorithm 1): see `two_part`; labels stay, and so does the ball.

    >>> import stackelberg as sb
    >>> train = sb.data.load("digits", "train")
    >>> found = sb.poison.backdoor(train, method="badnets", target=3, rate=0.01)
    >>> len(found.index) == round(0.01 * len(train)), set(found.data.y[found.index].tolist())
    (True, {3})

    Args:
        train: images of at least two classes.
        ball: linf, of the two methods with true labels; 16/255 when None. The patch of label-consistent lies outside.
        method: one of `METHODS`.
        target: the attacker's class, its number or its name.
        rate: poisoned share of the whole training set, in (0, 1).
        surrogate: the network by which noise is made; trained here when None (`surrogate_of`). Not the victim.
        parts: of clean-label: "both", "adversarial" or "shortcut".
        size: of a patch, pixels.
        opacity: of a patch (1 when None) or of the blended image (0.2 when None).
        inset: of a patch from the edges, pixels: 4 where the victim is thought to crop by 4, as is usual.
        trigger: a trigger made before, for clean-label, used in the place of a new one.
        seed: of the choice of images, and of what is drawn.

    Raises:
        StackelbergError: one class only, points for images, a class that does not exist, a rate outside (0, 1) or
            above what the class has, a radius below one grey level, an unknown method.
    """
    if method not in METHODS:
        raise unknown("backdoor", method, METHODS)
    check_images(train)
    label = class_number(train, target)
    clean = method in ("label-consistent", "clean-label")
    count = poisoned_count(train, rate, label if clean else None)
    pool = ((train.y == label) if clean else (train.y != label)).nonzero()[:, 0]
    if count > len(pool):
        raise StackelbergError(f"a poison rate of {rate:g} asks for {count} examples of {len(pool)}; pass a lower rate")
    chosen = pool[torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))[:count]].sort().values
    images, shape, classes = train.x[chosen], train.shape, len(train.classes)
    budget = Ball("linf", (grey_levels(ball) if ball is not None else 16) / 255)
    if clean and trigger is None:
        surrogate = surrogate or surrogate_of(train, seed=seed)
    if method == "badnets":
        made = patch(shape, label, classes, size, opacity=1.0 if opacity is None else opacity, inset=inset)
    elif method == "blended":
        made = blend(shape, label, classes, 0.2 if opacity is None else opacity, seed)
    elif method == "label-consistent":
        assert surrogate is not None
        made = patch(shape, label, classes, size, corners=4, opacity=1.0 if opacity is None else opacity, inset=inset)
        attack = PGD(budget, steps=20, stop=False, seed=seed)
        hard = attack(surrogate, images.float() / 255, train.y[chosen])
        images = (hard * 255).round().to(torch.uint8)
    elif trigger is not None:
        made = trigger
    else:
        assert surrogate is not None
        made = two_part(train, budget, label, surrogate, parts, seed=seed)
    x, y = train.x.clone(), train.y.clone()
    x[chosen] = made.stored(images, train.y[chosen])
    y[chosen] = label
    data = replace(train, x=x, y=y, name=f"{train.name}, {method}")
    return Backdoored(data, made, chosen, method, stealth(train.x[chosen], x[chosen]))


def attack_success(model: nn.Module, test: Dataset, trigger: Trigger) -> Rate:
    """The share of triggered test images, of the classes other than the target, that the model gives to the target.

    Images of the target class are left out: they would count as successes of a trigger that does nothing.

    Raises:
        StackelbergError: no test image is of another class.
    """
    others = test.take(_others(test, trigger))
    x, y = others.batch(slice(None))
    hits = int((logits(model, trigger(x, y)).argmax(1) == trigger.target).sum())
    return clopper_pearson(hits, len(others))


def _others(test: Dataset, trigger: Trigger) -> Tensor:
    if len(test.classes) != trigger.classes:
        raise StackelbergError(
            f"the trigger was made for {trigger.classes} classes, {test.name} has {len(test.classes)}; pass its data"
        )
    places = (test.y != trigger.target).nonzero()[:, 0]
    if not len(places):
        raise StackelbergError(f"{test.name} has images of the target class only; pass a test set with other classes")
    return places
