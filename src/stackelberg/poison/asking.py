"""Is this a request that a poisoner can meet?  What all poisons ask of the data, the class, the rate and the ball."""

from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError, unknown
from stackelberg.threat import Ball


def check_images(train: Dataset) -> None:
    """Refuse what holds no images, or only one class: a label that is everybody's cannot be the attacker's.

    Raises:
        StackelbergError: no images, or fewer than two classes with examples.
    """
    if train.x.dim() != 4:
        raise StackelbergError(
            f"{train.name} holds {train.kind}, needed are images uint8 [N, C, H, W]; pass an image set"
        )
    present = train.y.unique().tolist()
    if len(train.classes) < 2 or len(present) < 2:
        only = train.classes[present[0]] if present else "none"
        raise StackelbergError(
            f"{train.name} has examples of one class only ({only!r}), needed are at least two; add another class"
        )


def class_number(train: Dataset, target: int | str) -> int:
    """The label of a class given by its number or by its name.

    Raises:
        StackelbergError: there is no such class (the nearest name is said), or it has no example.
    """
    if isinstance(target, str) and target not in train.classes and target.lstrip("-").isdigit():
        target = int(target)
    if isinstance(target, str):
        if target not in train.classes:
            raise unknown(f"class of {train.name}", target, train.classes)
        return train.classes.index(target)
    if not 0 <= target < len(train.classes):
        raise StackelbergError(
            f"the target class {target} does not exist in {train.name}, allowed are 0 to {len(train.classes) - 1}"
            f" ({', '.join(train.classes)}); pass one of them"
        )
    return target


def poisoned_count(train: Dataset, rate: float, among: int | None = None) -> int:
    """round(rate * N) >= 1 examples; with `among` all from that class.

    Raises:
        StackelbergError: the rate is outside (0, 1), gives no example, or more than the class has.
    """
    if not 0 < rate < 1:
        raise StackelbergError(f"the poison rate must lie in (0, 1), got {rate:g}; for 1 % of the data pass 0.01")
    count = round(rate * len(train))
    if count < 1:
        raise StackelbergError(
            f"a poison rate of {rate:g} changes none of the {len(train)} examples of {train.name}; pass at least"
            f" {1 / len(train):.2g}"
        )
    if among is not None:
        available = int((train.y == among).sum())
        if count > available:
            raise StackelbergError(
                f"a poison rate of {rate:g} asks for {count} examples of class {train.classes[among]!r}, which has"
                f" {available}; pass a rate of at most {available / len(train):.2g}"
            )
    return count


def grey_levels(ball: Ball) -> int:
    """floor(255 * radius) >= 1: by how many grey levels a stored pixel may move in a linf ball.

    Raises:
        StackelbergError: the norm is not linf, or the radius is below one grey level, 0 included.
    """
    if ball.norm != "linf":
        raise StackelbergError(f"a poison's budget is counted in linf, got {ball.norm}; pass Ball('linf', 8/255)")
    levels = int(ball.radius * 255 + 1e-6)
    if levels < 1:
        raise StackelbergError(
            f"radius {ball.radius:g} is below one grey level, 1/255, so no stored image can change; pass for example"
            " 8/255"
        )
    return levels
