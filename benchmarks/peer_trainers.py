"""How do public adversarial trainers train the same network on the same batches?  Each by its own code, untouched.

Every trainer here has the same form: it takes a network, `Lessons` and a number of epochs, and trains the network in
place by its own loop, its own attack of 10 steps of 2/255 in linf at 8/255, and the optimiser it recommends. None is a
dependency of the project:

- SR-WDRO, the authors' script (github.com/hong-xian/SR-WDRO, at c40a4b7), on PYTHONPATH. It moves everything to a CUDA
  device and solves its weights by MOSEK, which needs a licence: on a processor `.cuda()` is made to do nothing, and
  Clarabel, which comes with cvxpy, solves in MOSEK's place.
- MAIR 1.0.3 (github.com/Harry24k/MAIR, at fcf0aba), on PYTHONPATH. It imports torchvision for its data sets, which are
  not used here; an empty package of that name will do.
- ART 1.20.1 (adversarial-robustness-toolbox), its `AdversarialTrainerMadryPGD`.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from unittest.mock import patch

import torch
from torch import Tensor, nn

from stackelberg.data import Augment, Dataset

RADIUS, STEP, STEPS = 8 / 255, 2 / 255, 10
RATE, MOMENTUM, DECAY = 0.1, 0.9, 5e-4
"""Of sgd, as all three recommend for the first half of a training and the benchmark's length never leaves."""


def clocks() -> tuple[float, float]:
    """(wall, processor) seconds, the device waited for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def since(start: tuple[float, float]) -> tuple[float, float]:
    """(wall, processor) seconds since `start`."""
    wall, processor = clocks()
    return wall - start[0], processor - start[1]


def _nothing(*_: object) -> None:
    return


def _stay(tensor: Tensor, *_: object, **__: object) -> Tensor:
    return tensor


@dataclass
class Lessons:
    """A training set by shuffled batches that times whoever takes them from one to the next.

    Making a batch is not timed, cropping and mirroring (of colour images) included: it costs the peers nothing here.

    Attributes:
        data: images.
        batch_size: of every batch; what does not fill one is left out.
        between: called after each step with the indices of its batch; not timed.
        after_epoch: called after each epoch; not timed.
        seed: of shuffles and crops.
        spent: (wall, processor) seconds of each step so far.
    """

    data: Dataset
    batch_size: int = 128
    between: Callable[[Tensor], object] = _nothing
    after_epoch: Callable[[], object] = _nothing
    seed: int = 0
    spent: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)
        self.begun = False

    def end(self) -> None:
        """What follows an epoch that is begun; the next one asks for it, as a trainer may leave at the last batch."""
        if self.begun:
            self.begun = False
            self.after_epoch()

    def __len__(self) -> int:
        return len(self.data) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.end()
        self.begun = True
        order = torch.randperm(len(self.data), generator=self.generator)
        for index in order[: len(self) * self.batch_size].split(self.batch_size):
            x = self.data.x[index]
            if x.shape[1] == 3:
                x = Augment()(x, self.generator)
            x = x.float() / 255
            start = clocks()
            try:
                yield x, self.data.y[index]
            finally:
                self.spent.append(since(start))
            self.between(index)


Trainer = Callable[[nn.Module, Lessons, int], None]


def by_authors(model: nn.Module, lessons: Lessons, epochs: int, gamma: float = 0.1) -> None:
    """`train` of wdro_train.py, UDR with the KL weights of radius gamma; gamma 0 is UDR alone, without a program."""
    import cvxpy
    import wdro_train  # pyright: ignore[reportMissingImports]

    arguments = SimpleNamespace(
        eps=RADIUS, step_size=STEP, num_steps=STEPS, random_restarts=1, constraint="Linf", udr_type="AT", tau_m=1.0,
        lamda_lr=0.02, lamda_period=10, r_choice=gamma, numerical_eps=1e-6,
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    cuda = torch.Tensor.cuda if torch.cuda.is_available() else _stay
    with patch.object(torch.Tensor, "cuda", cuda), patch.object(cvxpy, "MOSEK", cvxpy.CLARABEL):
        distances: list[Tensor] = []
        for epoch in range(epochs):
            wdro_train.train(arguments, model, optimizer, lessons, None, epoch, torch.tensor(1.0), distances)


def by_mair(model: nn.Module, lessons: Lessons, epochs: int) -> None:
    """MAIR's adversarial training, as its page shows it."""
    import mair  # pyright: ignore[reportMissingImports]

    trainer = mair.AT(mair.RobModel(model, n_classes=len(lessons.data.classes)), RADIUS, STEP, STEPS)
    trainer.setup(optimizer=f"SGD(lr={RATE}, momentum={MOMENTUM}, weight_decay={DECAY})", n_epochs=epochs)
    trainer.fit(lessons, n_epochs=epochs, record_type=None, save_type=None)


def by_art(model: nn.Module, lessons: Lessons, epochs: int) -> None:
    """ART's trainer after Madry et al."""
    from art.data_generators import DataGenerator  # pyright: ignore[reportMissingImports]
    from art.defences.trainer import AdversarialTrainerMadryPGD  # pyright: ignore[reportMissingImports]
    from art.estimators.classification import PyTorchClassifier  # pyright: ignore[reportMissingImports]

    class Handed(DataGenerator):
        """The lessons, batch by batch, one epoch after the other."""

        def __init__(self) -> None:
            super().__init__(len(lessons) * lessons.batch_size, lessons.batch_size)
            self.batches = (batch for _ in range(epochs) for batch in lessons)

        def get_batch(self) -> tuple:
            x, y = next(self.batches)
            return x.numpy(), y.numpy()

    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    shape, classes = tuple(lessons.data.shape), len(lessons.data.classes)
    classifier = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), shape, classes, optimizer, clip_values=(0.0, 1.0),
        device_type="gpu" if torch.cuda.is_available() else "cpu",
    )  # fmt: skip
    handed = Handed()
    trainer = AdversarialTrainerMadryPGD(classifier, epochs, lessons.batch_size, RADIUS, STEP, STEPS)
    trainer.trainer.fit_generator(handed, nb_epochs=epochs)
    next(handed.batches, None)  # the last step ends here


PEERS: dict[str, tuple[str, Trainer]] = {
    "SR-WDRO script": ("wdro_train", by_authors),
    "SR-WDRO script, gamma 0": ("wdro_train", lambda *given: by_authors(*given, gamma=0.0)),
    "MAIR AT": ("mair", by_mair),
    "ART AdversarialTrainerMadryPGD": ("art", by_art),
}
"""Each with the module by which it is found."""

os.environ.setdefault("TQDM_DISABLE", "1")
