"""Which availability poisons are known by name?"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from stackelberg.errors import StackelbergError, unknown
from stackelberg.poison.costless import CUDA, LSP, Noise
from stackelberg.poison.deepconfuse import DeepConfuse
from stackelberg.poison.fields import fitted
from stackelberg.poison.gue import GUE
from stackelberg.poison.poisoner import Poisoner, Setting
from stackelberg.poison.surrogates import ErrorMaximizing, ErrorMinimizing, Hypocritical, RobustErrorMinimizing

Method = Callable[[Setting], Poisoner]

_MAKERS: dict[str, Callable[..., Method]] = {
    "cuda": CUDA,
    "deepconfuse": DeepConfuse,
    "em": ErrorMinimizing,
    "gue": GUE,
    "hypocritical": Hypocritical,
    "lsp": LSP,
    "max": ErrorMaximizing,
    "max-targeted": partial(ErrorMaximizing, targeted=True),
    "noise": Noise,
    "robust-em": RobustErrorMinimizing,
}
METHODS = tuple(_MAKERS)


def method(name: str, **settings: Any) -> Method:
    """The method called `name` (see `METHODS`) with some of its fields changed.

    Raises:
        StackelbergError: no such method, no such field, or a value of another type or out of range.
    """
    if name not in _MAKERS:
        raise unknown("poisoning method", name, METHODS)
    known = [field for field in inspect.signature(_MAKERS[name]).parameters if field != "targeted"]
    if settings and not known:
        raise StackelbergError(f"the method {name} has no settings, got {', '.join(settings)}; leave it out")
    return _MAKERS[name](**fitted(name, _kind(name), settings, known))


def _kind(name: str) -> type:
    maker = _MAKERS[name]
    return maker.func if isinstance(maker, partial) else maker  # pyright: ignore[reportReturnType]
