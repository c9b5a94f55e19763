"""What does an attack look like?  A few fallen examples: x, the difference, x', and what the model saw in each.

Images are PNG; clouds are SVG from three sides: seen from the front, from the right, and from above.
"""

import base64
import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from stackelberg.attacks import SuiteResult, untouched
from stackelberg.report.clouds import pictures_of_cloud
from stackelberg.threat import Ball


@dataclass(frozen=True)
class Fallen:
    """One fallen example; pictures in base64, classes by number."""

    index: int
    label: int
    before_confidence: float
    after: int
    after_confidence: float
    attack: str
    distance: float
    image: str
    difference: str
    moved: str
    amplified: float


def fallen(
    model: nn.Module, x: Tensor, y: Tensor, result: SuiteResult, index: tuple[int, ...], ball: Ball, count: int
) -> tuple[Fallen, ...]:
    """Up to `count` fallen examples of a batch, varied in class.

    The batch holds images [B, C, H, W] with one or three channels, or clouds [B, P, 3]; of others nothing is shown.
    """
    if not (x.dim() == 3 and x.shape[2] == 3) and not (x.dim() == 4 and x.shape[1] in (1, 3)):
        return ()
    broken = (result.broken_by >= 0).nonzero()[:, 0].tolist()
    chosen = torch.tensor(varied([int(y[i]) for i in broken], count), dtype=torch.long)
    places = torch.tensor(broken, dtype=torch.long)[chosen].to(x.device)
    if not len(places):
        return ()
    already = bool(result.mends & {"softmax", "probabilities"})
    with untouched(model), torch.no_grad():
        before, after = (_probabilities(model(z), already) for z in (x[places], result.x_adv[places]))
    distance = ball.distance(result.x_adv[places], x[places])
    shown = []
    for row, place in enumerate(places.tolist()):
        draw = pictures_of_cloud if x.dim() == 3 else _pictures
        image, difference, moved, amplified = draw(x[place], result.x_adv[place], ball)
        shown.append(
            Fallen(
                index=index[place],
                label=int(y[place]),
                before_confidence=float(before[row, y[place]]),
                after=int(after[row].argmax()),
                after_confidence=float(after[row].max()),
                attack=result.steps[int(result.broken_by[place])].name,
                distance=float(distance[row]),
                image=image,
                difference=difference,
                moved=moved,
                amplified=amplified,
            )
        )
    return tuple(shown)


def varied(labels: list[int], count: int) -> list[int]:
    """`count` places of a list, the first of each label before the second of any, each round in order of place."""
    seen: dict[int, int] = {}
    rounds = []
    for place, label in enumerate(labels):
        seen[label] = seen.get(label, 0) + 1
        rounds.append((seen[label], place))
    return [place for _, place in sorted(rounds)[:count]]


def _probabilities(output: Tensor, already: bool) -> Tensor:
    return (output.float() if already else output.float().softmax(1)).nan_to_num(nan=0.0)


def _pictures(x: Tensor, moved: Tensor, ball: Ball) -> tuple[str, str, str, float]:
    """(x, 1/2 + amplified * (x' - x), x') as PNG, scaled from [low, high], and the amplification."""
    plain, other = ((z.float() - ball.low) / (ball.high - ball.low) for z in (x, moved))
    largest = float((other - plain).abs().max())
    amplified = 0.5 / largest if largest > 0 else 1.0
    return png(plain), png(0.5 + amplified * (other - plain)), png(other), amplified


def png(image: Tensor) -> str:
    """An image [C, H, W] in [0, 1] as PNG in base64."""
    grey = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(grey if grey.shape[2] == 3 else grey[:, :, 0])).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
