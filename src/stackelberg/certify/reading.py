"""How is a network read, operation by operation, on something else than tensors?  Traced once, then rule by rule."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.fx.node import map_aggregate

from stackelberg.certify.certificate import Unsupported

REARRANGING = ("flatten", "reshape", "permute", "transpose", "unsqueeze", "squeeze", "swapaxes")
"""Names of the functions and methods that only call coordinates otherwise."""
_VIEWS = frozenset({"view", "contiguous", *REARRANGING} | {getattr(torch, name) for name in REARRANGING})


@dataclass(frozen=True)
class Rules:
    """What becomes of one kind of value at each operation, as torch.fx names them.

    Attributes:
        kind: the class of the values; has `shape`, the batch included.
        name: of the method, in words, for example "interval bounds".
        modules: by class; a rule takes (module, value).
        functions: a rule takes the function's own arguments.
        methods: by name, likewise.
        attributes: of a value that a network may read.
        known: the end of the sentence that names an operation without a rule.
    """

    kind: type
    name: str
    modules: Mapping[type[nn.Module], Callable[..., Any]]
    functions: Mapping[Any, Callable[..., Any]]
    methods: Mapping[str, Callable[..., Any]]
    attributes: tuple[str, ...]
    known: str

    def unsupported(self, operation: str, where: str | None = None) -> Unsupported:
        """The sentence about an operation that has no rule."""
        at = f" (at {where})" if where else ""
        return Unsupported(f"{self.name} have no rule for {operation}{at}, so nothing is proved {self.known}")


def traced(model: nn.Module, name: str) -> fx.GraphModule:
    """The network as a graph, for the method called `name`.

    Raises:
        Unsupported: torch.fx cannot trace it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return fx.symbolic_trace(model)
    except Exception as error:  # the user's code runs in a trace, so any error may come out
        reason = str(error).strip().split("\n")[0]
        raise Unsupported(
            f"{name} need a network that torch.fx can trace, {type(model).__name__} cannot be ({reason});"
            " take control flow that depends on activations out of its forward"
        ) from error


class Reader(fx.Interpreter):
    """Runs a traced network on values of another kind than tensors."""

    def __init__(self, graph: fx.GraphModule, rules: Rules) -> None:
        super().__init__(graph)
        self.rules = rules
        self.extra_traceback = False  # an error stays one sentence

    def answer(self, start: Any) -> Any:
        """What becomes of the input."""
        out = self.run(start, enable_io_processing=False)
        if not isinstance(out, self.rules.kind):
            raise Unsupported(
                f"{self.rules.name} need logits that depend on the input, this network returns {type(out).__name__}"
            )
        return out

    def run_node(self, n: fx.Node) -> Any:
        self._refuse_overwriting(n)
        return super().run_node(n)

    def _refuse_overwriting(self, node: fx.Node) -> None:
        """An in-place operation also changes what other users of its input see; a rule would not follow."""
        module = self.fetch_attr(str(node.target)) if node.op == "call_module" else None
        inplace = getattr(module, "inplace", False) or node.kwargs.get("inplace", False) or node.target is torch.relu_
        inplace = inplace or (node.op == "call_method" and str(node.target).endswith("_"))
        before = node.args[0] if inplace and node.args else None
        while isinstance(before, fx.Node):
            if len(before.users) > 1:
                raise Unsupported(
                    f"{self.rules.name} cannot follow {node.name}, which works in place on a value that is used again;"
                    " pass inplace=False"
                )
            before = before.args[0] if before.target in _VIEWS and before.args else None

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._concerned(args, kwargs):
            return super().call_module(target, args, kwargs)
        module = self.fetch_attr(target)
        rule = self.rules.modules.get(type(module))
        if rule is None or len(args) != 1 or kwargs:
            raise self.rules.unsupported(type(module).__name__, str(target))
        return rule(module, args[0])

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._concerned(args, kwargs) or (target is getattr and args[1] in self.rules.attributes):
            return super().call_function(target, args, kwargs)
        return self._applied(self.rules.functions.get(target), getattr(target, "__name__", str(target)), args, kwargs)

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._concerned(args, kwargs):
            return super().call_method(target, args, kwargs)
        if target in ("size", "dim"):
            return getattr(torch.empty(args[0].shape, device="meta"), target)(*args[1:], **kwargs)
        return self._applied(self.rules.methods.get(target), str(target), args, kwargs)

    def _applied(
        self, rule: Callable[..., Any] | None, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if rule is None:
            raise self.rules.unsupported(name)
        try:
            return rule(*args, **kwargs)
        except TypeError as error:  # options the rule does not know: nothing is claimed about them
            raise self.rules.unsupported(f"{name} with options {sorted(kwargs)}") from error

    def _concerned(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a value of this kind goes in."""
        flat: list[Any] = []
        map_aggregate([args, kwargs], flat.append)
        return any(isinstance(a, self.rules.kind) for a in flat)
