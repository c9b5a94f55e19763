"""How is a network asked for logits and input gradients, fast, without being changed?

An attack needs the gradient with respect to the input only, in eval mode. So the oracle asks a private view of the
network: batch normalisation folded into the convolution before it, no parameter gradients, channels-last, bfloat16
where the processor computes in it. The view is approximate by rounding; what counts is asked of `exact`, the user's
own module in float32.
"""

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Literal, cast

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, fx, nn

from stackelberg.attacks.drawing import answers_at_random, seeded, votes
from stackelberg.attacks.mending import Mend, mended
from stackelberg.attacks.order import OTHER_UNITS
from stackelberg.errors import StackelbergError

DRAWS = 8
"""Of a random network, for one gradient; half as many for a score."""
JUDGES = 32
"""Of a random network, before a success is believed; `Hunt.settle` asks four times as many."""

Objective = Callable[[Tensor], Tensor]
Precision = Literal["auto", "bfloat16", "float32"]


_NO_GRADIENT = ("does not require grad", "appears to not have been used", "derivative for", "is not differentiable")
"""What torch says where there is no gradient, among them of an operation that has none."""


class NoGradient(StackelbergError):
    """The network's answer does not depend differentiably on its input."""


def bfloat16_pays(device: torch.device) -> bool:
    """Whether this device multiplies in bfloat16 by its own instructions."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[nn.Module]:
    """Lend a model to an attack: eval mode and no parameter gradients inside, exactly as it was given after.

    Every module's mode, every parameter's `requires_grad` and `grad`, and every buffer come back, also on an error.
    """
    modes = [(module, module.training) for module in model.modules()]
    wants = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        model.eval()
        for parameter, _ in wants:
            parameter.requires_grad_(False)
        yield model
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, wanted in wants:
            parameter.requires_grad_(wanted)
        with torch.no_grad():
            for buffer, before in buffers:  # compared by value: batch norm's own kernel raises no version counter
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


class Oracle:
    """Answers about one network, counted. Build it inside `untouched`, or on a network that is being trained.

    At its first question, in eval mode, it finds out whether the network answers at random or hides its gradients; the
    fast view is then asked as often, or mended so, that an attack sees the true slope.

    Attributes:
        model: the user's own module.
        forwards: examples sent forward so far, exact answers included.
        backwards: examples sent backward so far.
        precision: "bfloat16" or "float32", what the fast view computes in.
        draws: answers over which the gradient of a random network is averaged.
        random: whether the network answers at random.
        mends: what was undone in the view, see `Mend.found`; and "probabilities" where the logarithms of the answers
            are attacked.
        view: "fast" (a private copy), "direct" (the model itself, in float32), "double" (a copy in float64), "auto"
            until the first answer decides.
    """

    def __init__(
        self,
        model: nn.Module,
        precision: Precision = "auto",
        view: Literal["auto", "fast", "direct", "double"] = "auto",
        draws: int = DRAWS,
    ) -> None:
        self.model = model
        self.forwards = 0
        self.backwards = 0
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        if precision == "auto":
            convolves = any(isinstance(m, nn.Conv2d) for m in model.modules())
            precision = "bfloat16" if convolves and bfloat16_pays(device) else "float32"
        self.precision = precision
        self.draws, self.random, self.mends = draws, False, frozenset[str]()
        self._seed = 0
        self.view = view
        self._view = _View(model, torch.bfloat16 if precision == "bfloat16" else torch.float32, direct=view == "direct")

    @property
    def same_units(self) -> bool:
        """Whether the fast view and the exact answers are the same numbers, up to rounding."""
        return not self.random and not self.mends & OTHER_UNITS

    def refresh(self) -> None:
        """Take over the model's present parameters and running statistics."""
        self._view.refresh()

    def meet(self, x: Shaped[Tensor, " B *shape"]) -> None:
        """Before the first answer: is the network random, what hides its gradients, does the fast view compute it?"""
        if self.view != "auto" or not len(x):
            return
        self.view = "fast"
        few = x[:8].detach()
        self.forwards += 10 * len(few)
        with torch.no_grad(), seeded(0):
            truth = self.model(few)
        if truth.dim() != 2:
            return
        mend = None if self.model.training else mended(self.model, few)
        if mend is not None:
            with torch.no_grad(), seeded(0):
                truth = mend.answer(self.model, few)
        elif not self.model.training and self._view.net is not self.model and self.precision == "float32":
            mend = mended(self._view.net, few)  # a trace shows what the model's own backward functions hide
        self.mends = frozenset(mend.found if mend else ())
        if not self.model.training:
            self.random = answers_at_random(lambda z: mend.answer(self.model, z) if mend else self.model(z), few)
        self._view.mend = mend
        if bool((truth >= 0).all() and ((truth.sum(1) - 1).abs() < 1e-3).all()):
            self.mends |= {"probabilities"}
            self._try(few, truth, ["double", "direct"])
        elif self.random or "trip out of torch" in self.mends:
            self._try(few, truth, ["direct"])
        elif "rounding" in self.mends or not self._near(few, truth.float()):
            self._try(few, truth, ["fast", "direct"] if self._view.net is not self.model else ["direct"])

    def _try(self, few: Tensor, truth: Tensor, views: list[Literal["fast", "double", "direct"]]) -> None:
        """The first of some slower views that computes the truth; the last is the network itself."""
        mend = self._view.mend
        self.precision = "float32"
        for self.view in views:
            self._view = _View(
                self.model, torch.float64 if self.view == "double" else torch.float32, direct=self.view == "direct"
            )
            self._view.mend = mend
            if self.view == "direct" or self._near(few, truth.float()):
                return

    def _near(self, few: Tensor, truth: Tensor) -> bool:
        try:
            with torch.no_grad():
                off = (self._view(few).float() - truth).abs().amax()
        except (RuntimeError, TypeError):  # mixed types inside the user's code
            return False
        return bool(off <= 0.1 * truth.abs().amax() + 0.05)

    def _drawn(self, seed: int) -> contextlib.AbstractContextManager[None]:
        return seeded(seed) if self.random else contextlib.nullcontext()

    def exact(self, x: Shaped[Tensor, " B *shape"], draws: int = JUDGES) -> Float[Tensor, "..."]:
        """The user's own module, float32, no gradient; of a random one the share of `draws` votes for each class."""
        self.meet(x)
        if self.random:
            self.forwards += draws * len(x)
            self._seed += 1
            return votes(self.model, x, draws, self._seed)
        self.forwards += len(x)
        with torch.no_grad():
            return self.model(x).float()

    def logits(self, x: Float[Tensor, " B *shape"]) -> Float[Tensor, "B K"]:
        """The fast view's logits, float32, no gradient; of a random network their mean over draws."""
        self.meet(x)
        draws = max(1, self.draws // 2) if self.random else 1
        self.forwards += draws * len(x)
        self._seed += self.random
        with torch.no_grad(), self._drawn(self._seed):
            out = self._answer(x)
            for _ in range(1, draws):
                out = out + self._answer(x)
        return out / draws if draws > 1 else out

    def _answer(self, x: Tensor) -> Tensor:
        out = self._view(x)
        if "probabilities" in self.mends:
            out = out.clamp(min=torch.finfo(out.dtype).tiny).log()
        return out.float()

    def gradient(self, x: Float[Tensor, " B *shape"], objective: Objective) -> tuple[Tensor, Tensor, Tensor]:
        """(d objective_i / d x_i [B, *shape], objective [B], logits [B, K]) at x, all float32, by the fast view.

        Of a random network all three are means over `draws` answers.
        """
        self.meet(x)
        if not self.random:
            return self._gradient(x, objective)
        self._seed += 1
        with self._drawn(self._seed):
            parts = [self._gradient(x, objective) for _ in range(self.draws)]
        gradient, value, logits = (torch.stack(part).mean(0) for part in zip(*parts, strict=True))
        return gradient, value, logits

    def _gradient(self, x: Tensor, objective: Objective) -> tuple[Tensor, Tensor, Tensor]:
        self.forwards += len(x)
        self.backwards += len(x)
        with torch.enable_grad():
            point = x.detach().requires_grad_(True)
            try:
                logits = self._answer(point)
                value = objective(logits)
                (gradient,) = torch.autograd.grad(value.sum(), point)
            except RuntimeError as error:
                if not any(words in str(error) for words in _NO_GRADIENT):
                    raise
                raise NoGradient(
                    "the model's logits do not depend differentiably on its input, so a gradient attack cannot run on"
                    " it; remove no_grad()/detach() from its forward, or use attacks.Square, which needs no gradient"
                ) from None
        return gradient.detach(), value.detach(), logits.detach()


class _View:
    """A private, frozen, faster copy of a network that can follow its parameters."""

    def __init__(self, model: nn.Module, dtype: torch.dtype, direct: bool = False) -> None:
        self.source = model
        self.dtype = dtype
        self.pairs: list[tuple[str, str]] = []
        self.net: nn.Module = model
        self.cast = False
        self.mend: Mend | None = None
        if dtype is torch.float64:
            with contextlib.suppress(Exception):  # any user class may refuse to be copied; it is used itself then
                self.net, self.cast = copy.deepcopy(model).eval().requires_grad_(False).double(), True
        elif not direct and _is_plain(model):
            self._build()

    def _build(self) -> None:
        """Fold and convert a copy; keep the model itself (under autocast if bfloat16) where that cannot be done."""
        net = copy.deepcopy(self.source).eval().requires_grad_(False)
        for parameter in net.parameters():
            parameter.grad = None
        net, self.pairs = _fold(net)
        if self.dtype is torch.bfloat16:
            net = net.to(torch.bfloat16)
        if any(isinstance(m, nn.Conv2d) for m in net.modules()):
            net = net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.net = net
        self.cast = self.dtype is torch.bfloat16
        self._followers = self._pair_tensors()
        self.refresh()

    def _pair_tensors(self) -> list[tuple[Tensor, Tensor]]:
        """(copy, source) for every parameter and buffer that is taken over unchanged."""
        theirs = dict(self.source.named_parameters()) | dict(self.source.named_buffers())
        folded = {name for pair in self.pairs for name in pair}
        mine = dict(self.net.named_parameters()) | dict(self.net.named_buffers())
        return [(mine[n], theirs[n]) for n in mine if n in theirs and n.rpartition(".")[0] not in folded]

    @torch.no_grad()
    def refresh(self) -> None:
        if self.net is self.source:
            return
        for mine, theirs in self._followers:
            mine.copy_(theirs)
        for layer_name, norm_name in self.pairs:
            layer = cast(nn.Conv2d, self.source.get_submodule(layer_name))
            norm = cast(nn.BatchNorm2d, self.source.get_submodule(norm_name))
            target = cast(nn.Conv2d, self.net.get_submodule(layer_name))
            scale = norm.weight * torch.rsqrt(cast(Tensor, norm.running_var) + norm.eps)
            bias = 0 if layer.bias is None else layer.bias
            target.weight.copy_(layer.weight * scale.view(-1, *[1] * (layer.weight.dim() - 1)))
            cast(Tensor, target.bias).copy_((bias - cast(Tensor, norm.running_mean)) * scale + norm.bias)

    def __call__(self, x: Tensor) -> Tensor:
        if self.net is self.source:
            with torch.autocast(x.device.type, torch.bfloat16, enabled=self.dtype is torch.bfloat16):
                return self._ask(x).float()
        point = x.to(self.dtype) if self.cast else x
        if point.dim() == 4:
            point = point.contiguous(memory_format=torch.channels_last)
        out = self._ask(point)
        return out if out.dtype is torch.float64 else out.float()

    def _ask(self, x: Tensor) -> Tensor:
        return self.net(x) if self.mend is None else self.mend.answer(self.net, x)


def _is_plain(model: nn.Module) -> bool:
    """Whether a deep copy of the model can be traced, so that the copy is known to compute the same function."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fx.symbolic_trace(copy.deepcopy(model))
    except Exception:  # any user code may run in a trace, so any error may come out; the model itself is used then
        return False
    return True


def _fold(net: nn.Module) -> tuple[nn.Module, list[tuple[str, str]]]:
    """Replace every convolution or linear layer followed only by its batch norm by one layer with a bias.

    In eval mode BN(Wx + b) = (s W) x + s (b - mean) + beta with s = gamma / sqrt(var + eps). Returns the traced net
    and the (layer, norm) names folded; the new layers' values are set by `refresh`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = fx.symbolic_trace(net)
    modules = dict(traced.named_modules())
    uses: dict[str, int] = {}
    for node in traced.graph.nodes:
        if node.op == "call_module":
            uses[node.target] = uses.get(node.target, 0) + 1
    pairs = []
    for node in list(traced.graph.nodes):
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module":
            continue
        layer, norm = modules[str(before.target)], modules[str(node.target)]
        alone = len(before.users) == 1 and uses[str(before.target)] == uses[str(node.target)] == 1
        if not (alone and _folds(layer, norm)):
            continue
        weight = cast(nn.Conv2d, layer).weight
        layer.register_parameter(
            "bias", nn.Parameter(torch.zeros_like(weight[(..., *[0] * (weight.dim() - 1))]), False)
        )
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
        pairs.append((str(before.target), str(node.target)))
    traced.graph.lint()
    traced.recompile()
    return traced, pairs


def _folds(layer: nn.Module, norm: nn.Module) -> bool:
    if isinstance(norm, nn.BatchNorm2d):
        fitting = isinstance(layer, nn.Conv2d)
    else:
        fitting = isinstance(norm, nn.BatchNorm1d) and isinstance(layer, nn.Linear)
    return fitting and cast(nn.BatchNorm2d, norm).track_running_stats and cast(nn.BatchNorm2d, norm).affine
