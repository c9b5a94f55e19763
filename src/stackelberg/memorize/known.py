"""How small is a network that memorizes every sample of a law that is known?  Of one size, whatever N is.

P_D (N_D in Yu, Gao, Zhang and Miao, NeurIPS 2024, Theorem 4.3) is the least number of parameters with which every
sample of the law D can be memorized: finite, since one network right on the whole support memorizes all of them. Here
are two such networks; theirs are upper bounds of P_D.
"""

from jaxtyping import Int64, Num
from torch import Tensor

from stackelberg.errors import StackelbergError
from stackelberg.memorize.integers import Drawing, Form, IntegerNetwork
from stackelberg.memorize.optimal import OptimalMemorizer, optimal


def known(centres: Num[Tensor, " M *shape"], y: Int64[Tensor, " M"], radius: float) -> OptimalMemorizer:
    """Right on a support within the linf balls round M centres, so on every sample, with O(M d) parameters.

    Raises:
        StackelbergError: as `optimal`, also for a radius of half the separation of the centres or more.
    """
    return optimal(centres, y, radius=radius)


def parity(bits: int) -> IntegerNetwork:
    """{0, 1}^n -> the sum's last bit, from bit to bit of the sum down: n + O(log n) parameters.

    The law takes 2^n samples to learn for whoever does not know it (`sample_size.samples_needed`), and this many
    numbers to know: few parameters are no easy generalization.
    """
    if bits < 1:
        raise StackelbergError(f"bits must be 1 or more, got {bits}")
    drawing = Drawing()
    (rest,) = drawing.relu(Form(dict.fromkeys(range(bits), 1)))
    for place in reversed(range(1, bits.bit_length())):
        rest, over, under = drawing.relu(rest, rest - (2**place - 1), rest - 2**place)
        rest = rest - (over - under) * 2**place
    return drawing.network(bits, rest)
