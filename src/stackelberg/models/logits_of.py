"""How does a network that answers with a record answer as one here does?  Its logits are taken out."""

from collections.abc import Mapping

from torch import Tensor, nn

from stackelberg.errors import StackelbergError
from stackelberg.models.shapes import Inputs, Logits


class LogitsOf(nn.Module):
    """The `.logits` of a network that answers with a record, as those of Hugging Face's transformers do.

    Attributes:
        net: whose answer has an attribute or a key `logits` [B, K].
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Inputs) -> Logits:
        answer = self.net(x)
        logits = answer.get("logits") if isinstance(answer, Mapping) else getattr(answer, "logits", None)
        if not isinstance(logits, Tensor):
            raise StackelbergError(
                f"the network {type(self.net).__name__} answers with a {type(answer).__name__} without logits; wrap it"
                " in a module that returns one tensor [B, K]"
            )
        return logits


def answers_with_a_record(net: nn.Module) -> bool:
    """Whether this is a network of transformers, by the name of its input that each of them declares."""
    return isinstance(getattr(net, "main_input_name", None), str) and hasattr(net, "config")
