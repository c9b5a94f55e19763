"""Which random number does this example get?  One that belongs to it alone.

Every attack draws its noise from (seed, the example's own content, a stream number, a counter), by a counter-based
generator (SplitMix64's finaliser over a Weyl sequence; Steele, Lea and Flood 2014). So an example meets the same
noise whatever its batch, its place in it, its process or its device, and a resumed or sharded run repeats it.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_WEYL = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit number
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical right shift of signed 64-bit integers."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)) * _MIX_1
    z = (z ^ _shift(z, 27)) * _MIX_2
    return z ^ _shift(z, 31)


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value


def fold(keys: Int64[Tensor, " B"], number: int | Int64[Tensor, " B"]) -> Int64[Tensor, " B"]:
    """New keys from old ones and a number, or one for each: independent streams for restarts, steps, attacks."""
    step = (number + 1) * _WEYL
    return _mix(keys + (step if isinstance(step, Tensor) else _signed(step)))


def example_keys(x: Float[Tensor, " B *shape"], seed: int) -> Int64[Tensor, " B"]:
    """One 64-bit key per example, a hash of `seed` and of the example's float32 bits; equal examples share a key."""
    bits = x.detach().to(torch.float32).contiguous().flatten(1).view(torch.int32).to(torch.int64)
    place = torch.arange(1, bits.shape[1] + 1, device=x.device, dtype=torch.int64) * _WEYL
    return fold(_mix((_mix(bits + place)).sum(1)), seed)


def uniform(keys: Int64[Tensor, " B"], shape: tuple[int, ...], stream: int = 0) -> Float[Tensor, " B *shape"]:
    """Numbers in the open interval (0, 1), [B, *shape] float32, from each example's key."""
    return _spread(fold(keys, stream), math.prod(shape)).view(len(keys), *shape)


def uniforms(keys: Int64[Tensor, " B"], streams: int, count: int) -> Float[Tensor, "B streams count"]:
    """`count` numbers of `uniform` in each of the streams 0, 1, .., drawn together, since small calls cost the most."""
    return _spread(_mix(keys[:, None] + _weyl(streams, keys.device)), count)


def _spread(keys: Tensor, count: int) -> Tensor:
    """`count` numbers in (0, 1) from each key, [*keys, count]."""
    bits = _mix(keys[..., None] + _weyl(count, keys.device))
    return (_shift(bits, 41).to(torch.float32) + 0.5) * 2.0**-23


def _weyl(count: int, device: torch.device) -> Tensor:
    return torch.arange(1, count + 1, device=device, dtype=torch.int64) * _WEYL


def normal(keys: Int64[Tensor, " B"], shape: tuple[int, ...], stream: int = 0) -> Float[Tensor, " B *shape"]:
    """Standard normal numbers, [B, *shape] float32, by the inverse distribution function."""
    return torch.special.ndtri(uniform(keys, shape, stream))


def integers(
    keys: Int64[Tensor, " B"], high: int, shape: tuple[int, ...] = (), stream: int = 0
) -> Int64[Tensor, " B *shape"]:
    """Integers in [0, high), [B, *shape]."""
    return below(uniform(keys, shape, stream), high)


def below(values: Float[Tensor, "..."], high: int) -> Int64[Tensor, "..."]:
    """Integers in [0, high) from numbers in (0, 1)."""
    return (values.double() * high).long().clamp_(max=high - 1)
