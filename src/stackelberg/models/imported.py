"""A network from the user's own code: pkg.mod:function, found from the current directory."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from stackelberg.errors import StackelbergError, unknown
from stackelberg.models.exported import Frozen


class Wrapped(nn.Module):
    """A plain function of images as a module without parameters."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def load_function(reference: str) -> nn.Module:
    """Call `function` of `pkg.mod` without arguments: it returns a module, a function of images or an estimator.

    An nn.Module that the name itself stands for is taken as it is.

    Raises:
        StackelbergError: the module or the name in it is not found, its code fails, or gives no network.
    """
    module_name, _, attribute = reference.partition(":")
    with _from_here():
        found = _attribute(_module(module_name), attribute, module_name)
        if callable(found) and not isinstance(found, nn.Module):
            try:
                found = found()
            except Exception as error:  # the user's code may raise anything
                raise StackelbergError(
                    f"calling {reference}() failed: {_said(error)}; it must need no argument"
                ) from error
    if isinstance(found, nn.Module):
        return _switchable(found)
    if not callable(found) and hasattr(found, "predict"):
        from stackelberg.models.estimator import of_estimator  # which stands on black boxes, and those on this file

        return of_estimator(found)
    if callable(found):
        return Wrapped(found)
    raise StackelbergError(
        f"{reference} gave a {type(found).__name__}, needed is an nn.Module or a function from images to logits"
    )


@contextmanager
def _from_here() -> Iterator[None]:
    """The current directory first among the places Python imports from."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _module(name: str) -> ModuleType:
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise StackelbergError(
                f"there is no module {name!r}, seen from {Path.cwd()}; for models/mine.py write models.mine:function"
            ) from error
        raise StackelbergError(f"importing {name} failed: {_said(error)}") from error
    except Exception as error:  # the user's code may raise anything
        raise StackelbergError(f"importing {name} failed: {_said(error)}") from error


def _attribute(module: ModuleType, attribute: str, module_name: str) -> Any:
    found: Any = module
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise unknown(f"function in {module_name}", attribute, [own for own in dir(module) if own[0] != "_"])
        found = getattr(found, name)
    return found


def _switchable(model: nn.Module) -> nn.Module:
    """The module, wrapped if it is an exported program, which refuses to change its mode."""
    try:
        return model.eval()
    except NotImplementedError:
        return Frozen(model)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
