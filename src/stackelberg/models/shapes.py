"""The types of a network's input and output: tensors, or the proxies with which torch.fx traces it."""

from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor
from torch.fx import Proxy

Images: TypeAlias = Float[Tensor, "B C H W"] | Proxy
Logits: TypeAlias = Float[Tensor, "B K"] | Proxy
