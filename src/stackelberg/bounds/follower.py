"""What does the follower of the training game make of a whole data set?  The loss L_{eps, gamma} of a network.

The Wasserstein part is played by the game's own follower (`games.WassersteinDRO`), the KL part once over all examples:
gamma belongs to N, not to a batch. The follower is an ascent and not the supremum, so the value is one from below.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stackelberg.attacks import Oracle, untouched
from stackelberg.bounds.off_sample import off_sample_worst_case
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.games import Game, Play, kl_worst_case
from stackelberg.threat.payoff import cross_entropy, margin

BATCH = 250


@dataclass(frozen=True, eq=False)
class Played:
    """The bounded loss after the follower's answer.

    Attributes:
        losses: of each example, [N].
        clean: the same loss before the answer, [N].
        highest: l*, the largest value the loss can have.
        gamma: of the KL part, nats.
        on_sample: sum of the worst weights on the examples times the losses: what training descends on.
        off_sample: the certified form, mass outside the sample allowed; at least `on_sample`.
    """

    losses: Float[Tensor, " N"]
    clean: Float[Tensor, " N"]
    highest: float
    gamma: float
    on_sample: float
    off_sample: float


def play(
    game: Game, model: nn.Module, dataset: Dataset, gamma: float, clip: float | None = None, seed: int = 0
) -> Played:
    """L_{eps, gamma}(theta, D_N) by the game's follower, its radius the game's ball; both KL forms.

    Args:
        game: for example `WassersteinDRO(Ball("linf", eps + sigma))`.
        model: of logits, in evaluation mode.
        dataset: D_N.
        gamma: nats.
        clip: the loss is min(cross entropy, clip), in nats; None for the error, 0 or 1.
        seed: of the follower's starts.
    """
    if clip is not None and not clip > 0:
        raise StackelbergError(f"clip must be > 0 nats, or None for the error, got {clip}")

    def loss(x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            logits = model(x)
            return (
                (margin(logits, y) > 0).double() if clip is None else cross_entropy(logits, y).clamp(max=clip).double()
            )

    oracle, state = Oracle(model), game.start()
    losses, clean = [], []
    for start in range(0, len(dataset), BATCH):
        x, y = dataset.batch(slice(start, start + BATCH))
        keys = torch.arange(start, start + len(y), dtype=torch.int64) * 1_000_003 + seed
        with untouched(model):
            moved = game.answer(Play(oracle, keys=keys, state=state), x, y).detach()
        clean.append(loss(x, y))
        losses.append(torch.maximum(loss(moved, y), clean[-1]))  # staying is an answer too
    values, before = torch.cat(losses), torch.cat(clean)
    highest = 1.0 if clip is None else clip
    on_sample = float((kl_worst_case(values, gamma) * values).sum())
    worst = off_sample_worst_case(values, gamma, highest)
    return Played(values, before, highest, gamma, on_sample, worst.value)
