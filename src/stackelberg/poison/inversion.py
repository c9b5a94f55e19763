"""Has this network a backdoor?  The smallest patch that turns everything to a class tells (Neural Cleanse)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stackelberg.attacks import untouched
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.poison.asking import check_images
from stackelberg.poison.learner import logits
from stackelberg.poison.trigger import Stamp

ABNORMAL = 2.0
"""Anomaly index above which a class is called backdoored (Wang et al. 2019)."""


@dataclass(frozen=True, eq=False)
class Inverted:
    """The smallest found patch towards each class.

    Attributes:
        mask: weight of the patch, [K, H, W] in [0, 1].
        pattern: its image, [K, C, H, W] in [0, 1].
        norm: l1 of each mask, in pixels.
        success: the share of the images of other classes that each patch turns.
        anomaly: how many consistent deviations a norm lies below the median; negative above it.
        classes: those whose anomaly is above `ABNORMAL` and whose patch turns most images.
    """

    mask: Float[Tensor, "K H W"]
    pattern: Float[Tensor, "K C H W"]
    norm: Float[Tensor, " K"]
    success: Float[Tensor, " K"]
    anomaly: Float[Tensor, " K"]
    classes: tuple[int, ...]

    def stamp(self, label: int) -> Stamp:
        """The patch towards a class, as a trigger."""
        weight = self.mask[label].expand_as(self.pattern[label])
        return Stamp(label, len(self.norm), self.pattern[label], weight.contiguous())


def trigger_inversion(
    model: nn.Module, clean: Dataset, steps: int = 200, wanted: float = 0.95, batch: int = 64, seed: int = 0
) -> Inverted:
    """Reverse-engineered triggers (Wang et al. 2019, eq. 3): for each class t

        min over mask m, pattern p of  mean CE(f((1 - m) x + m p), t) + lambda ||m||_1,

    by Adam on the tangents of m and p; lambda grows where the patch turns the share `wanted` of the batches, and
    shrinks where not. A class whose patch is far smaller than the others' has a backdoor: the anomaly index is the
    distance of its norm below the median, in units of 1.4826 times the median absolute deviation.

    Args:
        model: the suspect.
        clean: a few hundred images that can be trusted; more classes than two.
        steps: of Adam, per class.
        wanted: share of images that a patch must turn.
        batch: images a step.
        seed: of start and batches.

    Raises:
        StackelbergError: points, one class only, or fewer than three classes, where no norm can be called unusual.
    """
    check_images(clean)
    count = len(clean.classes)
    if count < 3:
        raise StackelbergError(f"trigger inversion compares classes, needed are at least 3, {clean.name} has {count}")
    with untouched(model):
        found = [_smallest(model, clean, label, steps, wanted, batch, seed) for label in range(count)]
    mask, pattern = (torch.stack([one[part] for one in found]) for part in (0, 1))
    norm = mask.flatten(1).sum(1)
    success = torch.tensor([_turned(model, clean, label, mask[label], pattern[label]) for label in range(count)])
    deviation = 1.4826 * (norm - norm.median()).abs().median().clamp(min=1e-6)
    anomaly = (norm.median() - norm) / deviation
    abnormal = ((anomaly > ABNORMAL) & (success > 0.5)).nonzero()[:, 0].tolist()
    return Inverted(mask, pattern, norm, success, anomaly, tuple(abnormal))


def _smallest(
    model: nn.Module, clean: Dataset, label: int, steps: int, wanted: float, batch: int, seed: int
) -> tuple[Tensor, Tensor]:
    """(mask [H, W], pattern [C, H, W]): the smallest mask seen that turns enough, else the last."""
    dice = torch.Generator().manual_seed(seed)
    channels, height, width = clean.shape
    others = (clean.y != label).nonzero()[:, 0]
    tangent_m = torch.randn(height, width, generator=dice).mul(0.1).requires_grad_()
    tangent_p = torch.randn(channels, height, width, generator=dice).mul(0.1).requires_grad_()
    adam = torch.optim.Adam([tangent_m, tangent_p], lr=0.1, betas=(0.5, 0.9))
    price, best, norm, hits = 1e-3, None, float("inf"), 0.0
    for _ in range(steps):
        places = others[torch.randint(len(others), (min(batch, len(others)),), generator=dice)]
        x, _ = clean.batch(places)
        mask, pattern = (tangent_m.tanh() + 1) / 2, (tangent_p.tanh() + 1) / 2
        answer = model((1 - mask) * x + mask * pattern)
        wish = torch.full((len(x),), label)
        loss = F.cross_entropy(answer, wish) + price * mask.sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        turned = float((answer.argmax(1) == label).float().mean())
        hits = 0.8 * hits + 0.2 * turned
        size = float(mask.detach().sum())
        if turned >= wanted and size < norm:
            norm, best = size, (mask.detach().clone(), pattern.detach().clone())
        price = min(price * 1.1, 1.0) if hits >= wanted else max(price / 1.15, 1e-5)
    if best is not None:
        return best
    return ((tangent_m.tanh() + 1) / 2).detach(), ((tangent_p.tanh() + 1) / 2).detach()


def _turned(model: nn.Module, clean: Dataset, label: int, mask: Tensor, pattern: Tensor) -> float:
    others = clean.take((clean.y != label).nonzero()[:, 0])
    x, _ = others.batch(slice(None))
    return float((logits(model, (1 - mask) * x + mask * pattern).argmax(1) == label).float().mean())
