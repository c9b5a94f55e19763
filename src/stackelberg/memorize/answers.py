"""How is a memorizer asked like any network?  As a black box of scores that names the points it rests on."""

from pathlib import Path

import torch
from torch import Tensor

from stackelberg.memorize.catalogue import RECORD, load
from stackelberg.memorize.memorizer import Memorizer
from stackelberg.models.black_box import BlackBox
from stackelberg.models.stored import FOLDERS


class Answers(BlackBox):
    """The memorizer's logits [B, K]; its points, labels and radius are its weights.

    A memorizer without an answer has logits all the same, of which the first class's is the largest: asked as a network
    it is right there on the first class, where `Memorizer.predict` is right on none.

    Attributes:
        memorizer: that answers.
    """

    def __init__(self, memorizer: Memorizer) -> None:
        super().__init__(self._asked, memorizer.classes)
        self.memorizer = memorizer
        self.register_buffer("points", torch.from_numpy(memorizer.points))
        self.register_buffer("names", torch.from_numpy(memorizer.labels))
        self.register_buffer("radius", torch.tensor(memorizer.radius, dtype=torch.float64))

    def _asked(self, x: Tensor) -> Tensor:
        return self.memorizer.logits(x.cpu()).float()


def read(folder: Path) -> Answers:
    """The memorizer in a folder, as a network."""
    return Answers(load(folder))


FOLDERS[RECORD] = read
