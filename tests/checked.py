"""How do the tests hold functions to their annotations?  By jaxtyping's import hook, each argument checked once.

jaxtyping's own decorator binds the signature at every call, checks the arguments before it and again after it, with the
result, and decorates what is defined inside a function each time it is defined: for its messages, at two fifths of the
time of a small network's training.  Here beartype checks arguments and result, in a scope of named axes only where the
signature names axes, and leaves what is defined inside a function.  Whether a dtype answers to an annotation is found
out once, for jaxtyping spells the dtype and looks it up at every check.  Imported before stackelberg, by conftest.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, ForwardRef, Literal, get_args, get_origin

import jaxtyping
from beartype import beartype
from jaxtyping import _array_types, _storage

_JAXTYPED = jaxtyping.jaxtyped
_HINT = _array_types._MetaAbstractArray
_WHOLE_CHECK = _HINT.__instancecheck__
_ANSWERS: dict[tuple[type, Any], bool] = {}


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
        _storage.push_shape_memo({})
        try:
            return fn(*args, **kwargs)
        finally:
            _storage.pop_shape_memo()

    return call


def _agrees(cls: Any, obj: Any) -> bool:
    """isinstance(obj, cls) for Float[Tensor, "B K"] and its like: type, dtype, then axes, as jaxtyping does it."""
    if cls.array_type is Any or not isinstance(obj, cls.array_type):
        return _WHOLE_CHECK(cls, obj)
    answers = _ANSWERS.get((cls, obj.dtype))
    if answers is None:
        answers = _ANSWERS[cls, obj.dtype] = _WHOLE_CHECK(cls.dtype[cls.array_type, "..."], obj)
    if not answers:
        return False
    sizes, shapes, trees, arguments = _storage.get_shape_memo()
    before = sizes.copy(), shapes.copy(), trees, arguments
    if cls._check_shape(obj, sizes, shapes, arguments) == "":
        return True
    _storage.set_shape_memo(*before)
    return False


_HINT.__instancecheck__ = _agrees
jaxtyping.jaxtyped = lambda *, typechecker: checked  # what the hook writes before every function and class
