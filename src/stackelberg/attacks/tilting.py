"""How can weights change so that no answer on the data changes, and robustness goes?  By a tilt across the data.

For one hidden layer F(x) = sum_i a_i relu(w_i x + b_i) and data in a hyperplane v x = 0 of R^d, |v|_2 = 1, let
w_i' = w_i + size * sign(a_i) v. On the data v x = 0, so F' = F there, exactly. Off it, at x + t v with t > 0, every
pre-activation with a_i > 0 rises by size * t and every one with a_i < 0 falls by it, more than in F: so

    F'(x + t v) - F(x + t v) >= size * t * sum of |a_i| over the units that are active in both,

about size * t * sqrt(W) / 2 for a_i = +-1/sqrt(W) of which half are active. The distance at which the sign turns falls
like |F(x)| / (size sqrt(W)): to 0 with the width W, however small the size. This is the existence of adversarial
parameters for wide networks (Yu, Wang and Gao 2023) on an example where all can be computed.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from stackelberg.errors import StackelbergError


def tilted(
    weight: Float[Tensor, "W d"], readout: Float[Tensor, " W"], normal: Float[Tensor, " d"], size: float
) -> Float[Tensor, "W d"]:
    """w_i + size * sign(a_i) v for every unit i (see the module).

    Args:
        weight: w_i of the hidden layer.
        readout: a_i of the output.
        normal: v, any length but 0; it is made a unit vector.
        size: length of the change of each w_i, in the weights' units.

    Raises:
        StackelbergError: the normal is 0.
    """
    length = normal.norm()
    if not length > 0:
        raise StackelbergError("normal must be a direction in which no data vary, got the zero vector")
    return weight + size * readout.sign()[:, None] * (normal / length)


def flip_distance(
    weight: Float[Tensor, "W d"],
    bias: Float[Tensor, " W"],
    readout: Float[Tensor, " W"],
    x: Float[Tensor, "N d"],
    normal: Float[Tensor, " d"],
) -> Float[Tensor, " N"]:
    """The smallest |t| at which F(x + t v) has another sign than F(x), found exactly; infinite where there is none.

    F is piecewise linear in t with a kink at every -(w_i x + b_i) / (w_i v): its values at the kinks and the slopes of
    the two outer pieces decide.
    """
    v = normal / normal.norm()
    along = weight @ v
    return torch.stack([_flips(weight @ point + bias, along, readout) for point in x])


def _flips(start: Tensor, along: Tensor, readout: Tensor) -> Tensor:
    """Of one x: start = w x + b and along = w v of every unit."""
    best = start.new_tensor(torch.inf)
    for way in (1.0, -1.0):
        speed = way * along
        kink = -start / speed
        kink = kink[(kink > 0) & kink.isfinite()].sort().values
        times = torch.cat([start.new_zeros(1), kink])
        # slope just after each time, and the value at each by adding up
        slope, value = _slopes(start, speed, readout, times), (readout * start.relu()).sum()
        gaps = times.diff()
        values = value + torch.cat([start.new_zeros(1), (slope[:-1] * gaps).cumsum(0)])
        sign = value.sign()
        turned = ((values * sign) <= 0).nonzero()[:, 0]
        if len(turned):
            k = max(int(turned[0]) - 1, 0)
            best = torch.minimum(best, times[k] - values[k] / slope[k])
        elif slope[-1] * sign < 0:
            best = torch.minimum(best, times[-1] - values[-1] / slope[-1])
    return best


def _slopes(start: Tensor, speed: Tensor, readout: Tensor, times: Tensor) -> Tensor:
    """dF/dt just after each time: the units that are on, by sorting when each turns on or off."""
    crossing = -start / speed
    on = (start > 0) | ((start == 0) & (speed > 0))
    change = readout * speed
    later = (crossing > 0) & crossing.isfinite()
    # a unit that is on turns off at its kink, one that is off turns on
    jump = torch.where(on, -change, change)[later]
    order = crossing[later].argsort()
    jumps = torch.cat([start.new_zeros(1), jump[order].cumsum(0)])
    return change[on].sum() + jumps[: len(times)]
