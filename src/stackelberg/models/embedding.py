"""Where does an adversary move an example?  An image where it is; a text where the network has embedded it."""

from typing import cast

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from stackelberg.errors import StackelbergError


def embedded(model: nn.Module, x: Shaped[Tensor, "B ..."]) -> Float[Tensor, "B ..."]:
    """`x` itself where it is floating point; a batch of texts [B, T] as `model.embed` makes it, [B, T, w].

    Attacks, games and their balls work on what comes out, and the model takes it in the place of the texts. A network
    of the user's own must do likewise: `embed`, and a `forward` that takes texts and what `embed` returns.

    Raises:
        StackelbergError: the network has no `embed`.
    """
    if x.is_floating_point():
        return x
    embed = getattr(model, "embed", None)
    if not callable(embed):
        raise StackelbergError(
            f"a {type(model).__name__} does not embed texts, got {x.dtype} {list(x.shape)}; pass images or clouds, or a"
            " network for texts, for example text-transformer"
        )
    return cast(Tensor, embed(x))
