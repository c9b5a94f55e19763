"""What is a ReLU network over the integers?  Layers of whole numbers of any size, evaluated without rounding.

With whole weights, biases and inputs every neuron is a whole number, and relu(v - k + 1) - relu(v - k) is 1 where
v >= k and else 0: a step, exactly. Numbers of thousands of digits are Python's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
from jaxtyping import Int, Int64, Shaped

from stackelberg.errors import StackelbergError


@dataclass(frozen=True)
class Form:
    """bias + sum of weight * neuron over the layer before.

    Attributes:
        weights: neuron -> weight, none of them 0.
        bias: a whole number.
    """

    weights: dict[int, int] = field(default_factory=dict)
    bias: int = 0

    def __add__(self, other: "Form | int") -> "Form":
        if isinstance(other, int):
            return Form(self.weights, self.bias + other)
        total = {i: self.weights.get(i, 0) + other.weights.get(i, 0) for i in {**self.weights, **other.weights}}
        return Form({i: weight for i, weight in total.items() if weight}, self.bias + other.bias)

    def __mul__(self, factor: int) -> "Form":
        return Form({i: weight * factor for i, weight in self.weights.items() if factor}, self.bias * factor)

    def __sub__(self, other: "Form | int") -> "Form":
        return self + (-other if isinstance(other, int) else other * -1)

    @property
    def constant(self) -> bool:
        """Whether it depends on no neuron."""
        return not self.weights


@dataclass(frozen=True)
class Layer:
    """relu(form) for each form; the last layer of a network is read without relu."""

    forms: tuple[Form, ...]

    @property
    def nonzeros(self) -> int:
        """Weights and biases that are not 0."""
        return sum(len(form.weights) + (form.bias != 0) for form in self.forms)

    @property
    def bits(self) -> tuple[int, int]:
        """(bits of the largest weight or bias, bits of all of them together, without signs)."""
        sizes = [abs(n).bit_length() for form in self.forms for n in (*form.weights.values(), form.bias)]
        return max(sizes, default=0), sum(sizes)


class Drawing:
    """A network in the making: `relu` adds a layer and says by which forms its neurons are read in the next one."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []

    def relu(self, *forms: Form) -> list[Form]:
        """A layer of these neurons; what is constant needs none, and is carried as its value."""
        kept = [form for form in forms if not form.constant]
        self.layers.append(Layer(tuple(kept)))
        names: Iterator[int] = iter(range(len(kept)))
        return [Form({}, max(form.bias, 0)) if form.constant else Form({next(names): 1}) for form in forms]

    def network(self, inputs: int, output: Form) -> "IntegerNetwork":
        """With the output layer."""
        return IntegerNetwork(inputs, (*self.layers, Layer((output,))))


@dataclass(frozen=True)
class IntegerNetwork:
    """x -> the network's one output.

    Attributes:
        inputs: d.
        layers: hidden ones, and the linear output layer last.
    """

    inputs: int
    layers: tuple[Layer, ...]

    def __call__(self, x: Int[np.ndarray, "Q d"]) -> Shaped[np.ndarray, " Q"]:
        """The exact outputs of whole inputs, as Python's integers."""
        return self._through(x, object)

    def rounded(self, x: Int[np.ndarray, "Q d"]) -> Shaped[np.ndarray, " Q"]:
        """What float64 makes of it: wrong as soon as numbers need more than 53 bits."""
        return self._through(x, np.float64)

    def _through(self, x: np.ndarray, kind: type) -> np.ndarray:
        if x.ndim != 2 or x.shape[1] != self.inputs:
            raise StackelbergError(f"the network takes whole numbers [Q, {self.inputs}], got {list(x.shape)}")
        values = list(x.T.astype(kind))
        for layer in self.layers[:-1]:
            values = [np.maximum(_read(form, values, kind, len(x)), 0) for form in layer.forms]
        return _read(self.layers[-1].forms[0], values, kind, len(x))

    @property
    def width(self) -> int:
        """Neurons of the widest hidden layer."""
        return max(len(layer.forms) for layer in self.layers[:-1])

    @property
    def depth(self) -> int:
        """Layers of weights."""
        return len(self.layers)

    @cached_property
    def num_parameters(self) -> int:
        """Weights and biases that are not 0."""
        return sum(layer.nonzeros for layer in self.layers)

    @property
    def num_dense(self) -> int:
        """sum n_i (n_{i+1} + 1) over all layers, zeros counted too."""
        sizes = [self.inputs, *(len(layer.forms) for layer in self.layers)]
        return sum(before * (after + 1) for before, after in pairwise(sizes))

    @cached_property
    def bits(self) -> tuple[int, int]:
        """(bits of the largest parameter, bits of all parameters together)."""
        each = [layer.bits for layer in self.layers]
        return max(largest for largest, _ in each), sum(total for _, total in each)


def _read(form: Form, values: Sequence[np.ndarray], kind: type, count: int) -> np.ndarray:
    total = np.full(count, form.bias, dtype=kind)
    for i, weight in form.weights.items():
        total = total + (values[i] if weight == 1 else values[i] * weight)
    return total


def project(x: Int64[np.ndarray, "N d"], direction: Int64[np.ndarray, " d"]) -> Int64[np.ndarray, " N"]:
    """1 + direction . x, in int64.

    Raises:
        StackelbergError: the sum could leave int64.
    """
    most = int(x.max(initial=0)) * int(direction.astype(object).sum())
    if most >= 2**62:
        raise StackelbergError(
            f"the projection needs {most.bit_length()} bits, 62 are held; pass fewer levels or fewer examples"
        )
    return 1 + x @ direction
