"""Which data sets are known by name, what are their classes, and where else may they be found?"""

from dataclasses import dataclass

from stackelberg.data.words import LISTS

_DIGITS = tuple(str(digit) for digit in range(10))


@dataclass(frozen=True)
class Known:
    """A data set with a name.

    Attributes:
        classes: the names of its classes, by label.
        hub: its name on the Hugging Face hub, or None where it is not there.
        system: the folder in which an operating system's package keeps it as idx files, or None.
    """

    classes: tuple[str, ...]
    hub: str | None = None
    system: str | None = None


KNOWN: dict[str, Known] = {
    "digits": Known(_DIGITS),
    "mnist": Known(_DIGITS, hub="ylecun/mnist", system="mnist"),
    "fashion_mnist": Known(
        ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        hub="zalando-datasets/fashion_mnist",
        system="fashion-mnist",
    ),
    "cifar10": Known(
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        hub="uoft-cs/cifar10",
    ),
    "cifar10_exact": Known(
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    ),
    "modelnet10": Known(
        ("bathtub", "bed", "chair", "desk", "dresser", "monitor", "night_stand", "sofa", "table", "toilet"),
    ),
    "words": Known(tuple(LISTS)),
}
