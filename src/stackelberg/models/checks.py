"""Does this network answer as a classifier of these images must?"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from stackelberg.errors import StackelbergError
from stackelberg.models.catalogue import spec_of
from stackelberg.models.normalized import Normalized


def check_output(model: nn.Module, x: Shaped[Tensor, "B ..."], classes: int) -> None:
    """Ask the network about a few images, in evaluation mode and without gradients; it is left as it was.

    Raises:
        StackelbergError: it cannot take the images or another number of them, its answer is no [B, K] tensor of
            finite logits, or the answer for an image depends on the others in the batch.
    """
    _check_shape(model, x)
    x = x.to(next(model.parameters(), x).device)
    with _evaluating(model), torch.no_grad():
        logits = _answer(model, x, classes)
        if len(x) < 2:
            return
        try:
            fewer = model(x[: len(x) - 1])
        except Exception as error:  # the network's own code may raise anything
            raise StackelbergError(
                f"the network takes batches of exactly {len(x)} images ({_said(error)}); make it take any number"
                " (torch.export: dynamic_shapes=({0: torch.export.Dim('batch')},))"
            ) from error
        scale = float(logits.abs().max().clamp(min=1))
        gap = float((fewer - logits[:-1]).abs().max())
        if gap > 0.05 * scale and torch.equal(model(x), logits):
            raise StackelbergError(
                f"the network's logits for an image move by {gap:g} with the other images of the batch, though it was"
                " asked in evaluation mode; normalise with running statistics (call .eval() before exporting)"
            )


def _check_shape(model: nn.Module, x: Tensor) -> None:
    """Where the network says which images it takes: broadcasting would let others through in silence."""
    spec, shape = spec_of(model), tuple(x.shape[1:])
    any_size = spec is not None and len(spec.shape) == 2  # of a cloud only the 3 is fixed
    if spec is not None and shape != spec.shape and not (any_size and shape[1:] == spec.shape[1:]):
        kind = {3: "images", 2: "clouds", 1: "texts"}[len(spec.shape)]
        raise StackelbergError(
            f"the network was built for {kind} {list(spec.shape)}, got {list(shape)}; pass such data"
        )
    if isinstance(model, Normalized) and len(model.mean) != shape[0]:
        raise StackelbergError(
            f"the network normalises {len(model.mean)} channels, got images {list(shape)}; pass matching data"
        )


def _answer(model: nn.Module, x: Tensor, classes: int) -> Tensor:
    needed = f"[{len(x)}, {classes}] (one logit for each of {classes} classes)"
    try:
        logits = model(x)
    except Exception as error:  # the network's own code may raise anything
        raise StackelbergError(
            f"the network cannot take images of shape {list(x.shape[1:])} ({_said(error)}); pass data of the shape it"
            " was made for"
        ) from error
    if not isinstance(logits, Tensor):
        mend = "pass models.LogitsOf(network)" if hasattr(logits, "logits") else "wrap it"
        raise StackelbergError(f"the network returns a {type(logits).__name__}, needed is one tensor {needed}; {mend}")
    if tuple(logits.shape) != (len(x), classes):
        raise StackelbergError(f"the network's output has the shape {list(logits.shape)}, needed is {needed}")
    if not logits.is_floating_point():
        raise StackelbergError(f"the network's output is {logits.dtype}, needed are floating-point logits {needed}")
    if not torch.isfinite(logits).all():
        index = int((~torch.isfinite(logits)).any(1).nonzero()[0])
        raise StackelbergError(f"the network's logits for image {index} are NaN or infinite; check its weights")
    return logits


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and every part's own mode again afterwards."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _said(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
