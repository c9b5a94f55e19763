"""What goes into a network and what comes out: tensors, or the proxies with which torch.fx traces it."""

from typing import TYPE_CHECKING, TypeAlias

from jaxtyping import Float, Shaped
from torch import Tensor
from torch.fx import Proxy

Shape: TypeAlias = tuple[int, int, int]

if TYPE_CHECKING:
    Images: TypeAlias = Tensor
    Logits: TypeAlias = Tensor
    Features: TypeAlias = Tensor
    Tokens: TypeAlias = Tensor
    Inputs: TypeAlias = Tensor
    Texts: TypeAlias = Tensor
else:
    Images = Float[Tensor, "B C H W"] | Proxy
    Logits = Float[Tensor, "B K"] | Proxy
    Features = Float[Tensor, "B _ _ _"] | Proxy  # a block may change channels and size
    Tokens = Float[Tensor, "B T D"] | Proxy
    Inputs = Float[Tensor, "B ..."] | Proxy  # images or anything else
    Texts = Shaped[Tensor, "B T"] | Float[Tensor, "B T D"]  # bytes, or embedded
