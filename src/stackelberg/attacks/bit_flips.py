"""What if bits of the stored weights flip, by chance or by choice?  In float32, bfloat16 or int8.

Memory errors and rowhammer flip single bits. A flip is its own inverse; what it does depends on how weights are stored:
a float's exponent bit multiplies a weight by up to 2^128, an int8 bit moves it by at most 128 steps of max|W| / 127.
"""

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stackelberg.attacks.oracle import untouched
from stackelberg.errors import StackelbergError, unknown
from stackelberg.threat.payoff import cross_entropy

BITS: dict[str, int] = {"float32": 32, "bf16": 16, "int8": 8}
_TRIED = 8
"""Candidates of a chosen flip that are tried in earnest."""


@dataclass(frozen=True)
class Stored:
    """A weight tensor as it lies in memory.

    Attributes:
        codes: its bits, as integers of the format's width.
        scale: of int8, W = scale * codes with scale = max|W| / 127 of the tensor; 1 for the others.
        format: "float32", "bf16" or "int8".
    """

    codes: Tensor
    scale: float
    format: str

    def weight(self) -> Float[Tensor, "*shape"]:
        """The numbers that the bits mean, float32."""
        if self.format == "float32":
            return self.codes.view(torch.float32)
        if self.format == "bf16":
            return self.codes.view(torch.bfloat16).float()
        return self.codes.float() * self.scale

    def flipped(self, address: Int64[Tensor, " F"]) -> "Stored":
        """With the bits at distinct addresses turned over; an address is place * bits + bit, bit 0 the lowest."""
        bits = BITS[self.format]
        codes = self.codes.clone().view(-1)
        for bit in (address % bits).unique().tolist():
            places = address[address % bits == bit] // bits
            mask = torch.tensor(1 << bit if bit < bits - 1 else -(1 << bit), dtype=codes.dtype, device=codes.device)
            codes[places] ^= mask
        return Stored(codes.view_as(self.codes), self.scale, self.format)


def stored(weight: Float[Tensor, "*shape"], format: str) -> Stored:
    """A tensor in a format: rounded to nearest, int8 with one scale for the tensor."""
    if format not in BITS:
        raise unknown("format of stored weights", format, BITS)
    weight = weight.detach().float().contiguous()
    if format == "float32":
        return Stored(weight.clone().view(torch.int32), 1.0, format)
    if format == "bf16":
        return Stored(weight.to(torch.bfloat16).view(torch.int16), 1.0, format)
    scale = float(weight.abs().max()) / 127 if weight.numel() else 0.0
    codes = (weight / scale).round().clamp(-127, 127) if scale else torch.zeros_like(weight)
    return Stored(codes.to(torch.int8), scale or 1.0, format)


@dataclass(frozen=True)
class BitFlips:
    """`BitFlips("int8", 10)(model)`: a copy whose weights are stored in the format, with random bits flipped.

    Attributes:
        format: "float32", "bf16" or "int8".
        count: different bits, uniform over all bits of all parameters; 0 only stores.
        seed: of the choice.
    """

    format: str
    count: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.format not in BITS:
            raise unknown("format of stored weights", self.format, BITS)

    def __call__(self, model: nn.Module) -> nn.Module:
        """The attacked copy, evaluation mode; the model comes back as it was."""
        with untouched(model):
            changed = copy.deepcopy(model).eval()
        tensors = _tensors(changed)
        total = sum(p.numel() for p in tensors) * BITS[self.format]
        if not 0 <= self.count <= total:
            raise StackelbergError(f"count must lie between 0 and the {total} bits of the weights, got {self.count}")
        draw = torch.Generator().manual_seed(self.seed)
        chosen = torch.zeros(0, dtype=torch.int64)
        while len(chosen) < self.count:  # few draws meet twice, unless nearly all bits are asked for
            more = torch.randint(0, total, (self.count - len(chosen),), generator=draw)
            chosen = torch.cat([chosen, more]).unique()
        begun = 0
        with torch.no_grad():
            for p in tensors:
                size = p.numel() * BITS[self.format]
                own = chosen[(chosen >= begun) & (chosen < begun + size)] - begun
                p.copy_(stored(p, self.format).flipped(own.to(p.device)).weight())
                begun += size
        return changed


def worst_flips(
    model: nn.Module,
    x: Float[Tensor, " B *shape"],
    y: Int64[Tensor, " B"],
    format: str,
    count: int = 1,
) -> tuple[nn.Module, list[tuple[str, int, int]]]:
    """(a copy with `count` bits flipped one after the other to raise the loss, [(tensor, place, bit)]).

    Each flip is the best, by the loss on (x, y) itself, of the candidates of which the slope promises most,
    max |dL/dW_j * (W_j flipped - W_j)|, as in the bit-flip attack of Rakin, He and Fan (2019). A loss that is not a
    number counts as infinite.

    Args:
        model: logits [B, K]; comes back as it was.
        x: examples of the attacker.
        y: their labels.
        format: in which the weights are stored.
        count: flips.
    """
    changed = BitFlips(format, 0)(model)
    memory = {name: stored(p, format) for name, p in changed.named_parameters() if p.is_floating_point()}
    flips = []
    for _ in range(count):
        changed.requires_grad_(True)
        with torch.enable_grad():
            loss = cross_entropy(changed(x), y).mean()
            names = dict(changed.named_parameters())
            slopes = torch.autograd.grad(loss, [names[name] for name in memory], allow_unused=True)
        changed.requires_grad_(False)
        candidates = []
        for (name, memo), slope in zip(memory.items(), slopes, strict=True):
            if slope is not None:
                candidates += _promising(name, memo, slope.nan_to_num())
        candidates = sorted(candidates, key=lambda one: -one[0])[:_TRIED]
        best = max(candidates, key=lambda one: _loss_with(changed, memory, one[1:], x, y))
        name, place, bit = best[1:]
        memory[name] = memory[name].flipped(_address(memory[name], place, bit))
        with torch.no_grad():
            names[name].copy_(memory[name].weight())
        flips.append((name, place, bit))
    return changed, flips


def _promising(name: str, memo: Stored, slope: Tensor) -> list[tuple[float, str, int, int]]:
    """(promised gain, tensor, place, bit) of the best place of every bit of a tensor."""
    found, weight = [], memo.weight().view(-1)
    everywhere = torch.arange(weight.numel(), device=weight.device)
    for bit in range(BITS[memo.format]):
        other = memo.flipped(everywhere * BITS[memo.format] + bit).weight().view(-1)
        gain = slope.flatten().double() * (other.double().nan_to_num(0.0, 1e38, -1e38) - weight.double())
        place = int(gain.argmax())
        found.append((float(gain[place]), name, place, bit))
    return found


def _loss_with(model: nn.Module, memory: dict[str, Stored], flip: tuple[str, int, int], x: Tensor, y: Tensor) -> float:
    name, place, bit = flip
    weight = model.get_parameter(name)
    before = weight.detach().clone()
    with torch.no_grad():
        weight.copy_(memory[name].flipped(_address(memory[name], place, bit)).weight())
        loss = float(cross_entropy(model(x), y).mean())
        weight.copy_(before)
    return torch.inf if loss != loss else loss


def _address(memo: Stored, place: int, bit: int) -> Tensor:
    return torch.tensor([place * BITS[memo.format] + bit], device=memo.codes.device)


def _tensors(model: nn.Module) -> list[Tensor]:
    return [p for p in model.parameters() if p.is_floating_point()]
