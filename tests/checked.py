"""How do the tests hold functions to their annotations?  By jaxtyping's import hook, each argument checked once.

jaxtyping's own decorator binds the signature at every call, checks the arguments before it and again after it, with the
result, and decorates what is defined inside a function each time it is defined: for its messages, at two fifths of the
time of a small network's training.  Here beartype checks arguments and result, in a scope of named axes only where the
signature names axes, and leaves what is defined inside a function.  Imported before stackelberg, by conftest.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, ForwardRef, Literal, get_args, get_origin

import jaxtyping
from beartype import beartype

_JAXTYPED = jaxtyping.jaxtyped


def checked(fn: Any) -> Any:
    """A function, method or dataclass whose calls must agree with its annotations, shapes among them."""
    if isinstance(fn, type):
        if dataclasses.is_dataclass(fn) and "__init__" in vars(fn) and not hasattr(fn.__init__, "__wrapped__"):
            fn.__init__ = checked(fn.__init__)
        return fn
    if "<locals>" in fn.__qualname__:
        return fn
    parts = list(_parts(tuple(inspect.get_annotations(fn).values())))
    if inspect.isgeneratorfunction(fn) or any(isinstance(part, str | ForwardRef) for part in parts):
        return _JAXTYPED(fn, typechecker=beartype)  # it leaves yields alone, and names that only pyright knows
    inner = beartype(fn)
    shaped = any(isinstance(part, type) and issubclass(part, jaxtyping.AbstractArray) for part in parts)
    return _scoped(inner) if shaped else inner


def _parts(hint: Any) -> Iterator[Any]:
    """An annotation and all that it is made of: Callable[[A], B | C] gives itself, A, B | C, B and C."""
    yield hint
    if get_origin(hint) is not Literal:
        for part in hint if isinstance(hint, list | tuple) else get_args(hint):
            yield from _parts(part)


def _scoped(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        with _JAXTYPED("context"):
            return fn(*args, **kwargs)

    return call


jaxtyping.jaxtyped = lambda *, typechecker: checked  # what the hook writes before every function and class
