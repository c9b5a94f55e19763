"""How is a network trained and asked where a bound needs another one than the user's?  Shortly, by plain batches."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.models import spec_of
from stackelberg.threat import payoff

_BATCH = 512


@dataclass(frozen=True, eq=False)
class Answers:
    """What a network says of N labelled examples, in float64.

    Attributes:
        margins: z_y - max over k != y of z_k, logit units, [N]; an example is right where it is > 0.
        chances: softmax(z)_y in [0, 1], [N].
    """

    margins: Float[Tensor, " N"]
    chances: Float[Tensor, " N"]

    @property
    def wrong(self) -> int:
        """How many examples are not right; a tie is wrong."""
        return int((self.margins <= 0).sum())

    @property
    def error(self) -> float:
        """wrong / N."""
        return self.wrong / len(self.margins)

    @property
    def loss(self) -> float:
        """The mean of 1 - softmax(z)_y, a loss in [0, 1]."""
        return float((1 - self.chances).mean())


@contextmanager
def in_mode(model: nn.Module, training: bool) -> Iterator[nn.Module]:
    """Training or evaluation mode inside, and every part's own mode again afterwards."""
    modes = [(part, part.training) for part in model.modules()]
    model.train(training)
    try:
        yield model
    finally:
        for part, before in modes:
            part.training = before


def answers(model: nn.Module, data: Dataset) -> Answers:
    """The network's answers in evaluation mode, on its own device; it comes back as it was given."""
    device = device_of(model)
    margins, chances = [], []
    with in_mode(model, False), torch.no_grad():
        for start in range(0, len(data), _BATCH):
            x, y = data.batch(slice(start, start + _BATCH))
            logits, y = model(x.to(device)).double(), y.to(device)
            margins.append(-payoff.margin(logits, y).double())
            chances.append(logits.softmax(1).gather(1, y[:, None])[:, 0])
    return Answers(torch.cat(margins).cpu(), torch.cat(chances).cpu())


def device_of(model: nn.Module) -> torch.device:
    """Where the network's parameters live."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def fresh(model: nn.Module, seed: int) -> nn.Module:
    """The same structure with new weights, which know nothing of any data.

    A network of `models.build` is built again. Of another a copy is taken, whose parts draw their weights anew
    (`reset_parameters`); a parameter of a part that cannot becomes normal noise of deviation 0.02.

    Raises:
        StackelbergError: the network has no parameters.
    """
    if not any(True for _ in model.parameters()):
        raise StackelbergError("the network has no parameters, so no other of its structure can be trained")
    spec = spec_of(model)
    if spec is not None:
        return spec.build(seed).to(device_of(model))
    twin = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for part in twin.modules():
            again = getattr(part, "reset_parameters", None)
            if callable(again):
                again()
            else:
                for parameter in part.parameters(recurse=False):
                    parameter.copy_(0.02 * torch.randn(parameter.shape))
    return twin.requires_grad_(True)


def fit(
    model: nn.Module,
    data: Dataset,
    labels: Int64[Tensor, " N"],
    epochs: int,
    rate: float = 1e-3,
    batch_size: int = 64,
    seed: int = 0,
    training: bool = True,
) -> None:
    """Adam on the cross entropy with the given labels, learning rate falling linearly to 0; changes `model`.

    Args:
        model: trained in place.
        data: whose inputs are taken.
        labels: instead of the data's own.
        epochs: passes over the data.
        rate: the first learning rate.
        batch_size: examples a step.
        seed: of the order.
        training: whether batch norm and dropout work as in training; else as in evaluation.

    Raises:
        StackelbergError: the loss is not finite.
    """
    device, order = device_of(model), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    steps = max(1, len(data) // batch_size) * epochs
    step = 0
    with in_mode(model, training), torch.enable_grad():
        for _ in range(epochs):
            places = torch.randperm(len(data), generator=order)
            for part in places.split(batch_size)[: max(1, len(data) // batch_size)]:
                optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
                x, _ = data.batch(part)
                loss = F.cross_entropy(model(x.to(device)), labels[part].to(device))
                if not loss.isfinite():
                    raise StackelbergError(f"the loss became {loss.item()} in a training for a bound; scale the logits")
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                step += 1
    optimizer.zero_grad(set_to_none=True)
