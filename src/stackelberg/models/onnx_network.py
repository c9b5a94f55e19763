"""A network from an ONNX file: rebuilt from torch's modules where that can be done, else a black box."""

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import fx, nn

from stackelberg.errors import StackelbergError
from stackelberg.models.black_box import BlackBox
from stackelberg.models.onnx_file import File, Unbuildable, read
from stackelberg.models.onnx_graph import rebuilt
from stackelberg.models.shapes import Inputs, Logits

TOLERANCE = 1e-4
"""How far a rebuilt network may be from onnxruntime, as a share of the largest score."""


class Onnx(nn.Module):
    """The network of an ONNX file, rebuilt: torch.fx can trace it, gradients and bounds pass through it.

    Attributes:
        net: from tensors in the file's own order, [B, *inner], to scores [B, K].
        inner: shape of one example in the file's own order.
        channels_last: whether the file takes images as [H, W, C]; forward takes [C, H, W].
    """

    def __init__(self, net: fx.GraphModule, inner: tuple[int, ...]) -> None:
        super().__init__()
        self.net = net
        self.inner = inner
        self.channels_last = is_channels_last(inner)

    def forward(self, x: Inputs) -> Logits:
        """Scores [B, K] of images [B, C, H, W], or of inputs [B, *inner] where these are no images."""
        return self.net(torch.permute(x, (0, 2, 3, 1)) if self.channels_last else x)


class Runtime:
    """onnxruntime as a function of a batch of arrays; a file for a fixed number of examples is asked piece by piece."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.most: int | None = None if file.batched else 1
        if file.batched:
            try:
                self.session = file.session("batch")
                if self._is_free():
                    return
            except Exception:  # onnxruntime raises its own kinds, all of which mean: not for any number of examples
                pass
            self.most = file.shape[0] or 1
        self.session = file.session()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The answer [B, ...] for inputs [B, C, H, W] or [B, *inner]."""
        inner = self.file.inner
        if is_channels_last(inner):
            x = x.transpose(0, 2, 3, 1)
        if None not in inner:
            x = x.reshape(len(x), *inner)  # pyright: ignore[reportArgumentType]  # there is no None among them
        if self.most is None:
            return self._run(x)
        parts = [self._piece(x[start : start + self.most], self.most) for start in range(0, len(x), self.most)]
        return np.concatenate(parts) if parts else np.zeros((0, 2), np.float32)

    def _piece(self, x: np.ndarray, size: int) -> np.ndarray:
        if not self.file.batched:
            return self._run(x[0]).reshape(1, -1)
        full = np.concatenate([x, np.repeat(x[-1:], size - len(x), 0)])
        return self._run(full)[: len(x)]

    def _run(self, x: np.ndarray) -> np.ndarray:
        answer = self.session.run([self.file.output], {self.file.input: x.astype(self.file.dtype)})[0]
        return answer.astype(np.float32) if answer.dtype.kind == "f" else answer

    def _is_free(self) -> bool:
        """Whether three examples together get the answers that each gets alone."""
        if None in self.file.inner:
            return True
        x = examples(self.file, 3)
        together, single = self._run(x), [self._run(x[place : place + 1]) for place in range(3)]
        return together.shape[0] == 3 and bool(np.allclose(together, np.concatenate(single), 1e-4, 1e-5))


def is_channels_last(inner: tuple[int | None, ...]) -> bool:
    """Whether a file's input looks like an image [H, W, C]: one or three channels at the end, and none in front."""
    return len(inner) == 3 and inner[2] in (1, 3) and inner[0] not in (1, 3)


def examples(file: File, count: int) -> np.ndarray:
    """Random inputs of the file's own shape, uniform in [0, 1]."""
    return np.random.default_rng(0).random(file.sizes(count)).astype(file.dtype)


def load_onnx(path: Path) -> Onnx | BlackBox:
    """The network of an ONNX file, for any number of examples, and checked against onnxruntime on random inputs.

    A graph that cannot be rebuilt, or whose rebuilt answer differs by more than `TOLERANCE`, is run by onnxruntime as
    a black box; a warning says why.

    Raises:
        StackelbergError: onnx or onnxruntime is not installed; the file is damaged, has several inputs or outputs, or
            onnxruntime cannot run it.
    """
    file = read(path)
    try:
        runtime = Runtime(file)
        labels = None not in file.inner and runtime(_arranged(file, examples(file, 1))).dtype.kind in "iu"
    except Exception as error:  # onnxruntime raises its own kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StackelbergError(f"onnxruntime cannot run {path} ({reason}); export it again") from error
    try:
        return _rebuilt(file, runtime)
    except Unbuildable as error:
        warnings.warn(
            f"{path} cannot be rebuilt from torch's modules ({error}): it is asked as a black box, so only attacks that"
            " need no gradient run on it, and nothing can be proved about it",
            stacklevel=4,
        )
    return BlackBox(runtime, labels=labels, arrays=True)


def _arranged(file: File, x: np.ndarray) -> np.ndarray:
    """Inputs in the file's own order as this package hands them over."""
    return x.transpose(0, 3, 1, 2) if is_channels_last(file.inner) else x


def _rebuilt(file: File, runtime: Runtime) -> Onnx:
    try:
        trace = file.trace()
        inner = file.sizes()
        with torch.random.fork_rng(devices=[]), torch.no_grad():  # a fresh layer draws weights, all of them replaced
            model = Onnx(rebuilt(trace, file.input, file.output, inner), inner)
            x = _arranged(file, examples(file, 3))
            ours, truth = model(torch.from_numpy(x).float()).numpy(), runtime(x).reshape(3, -1)
    except Unbuildable:
        raise
    except Exception as error:  # a rule met what it was not written for; torch and onnxruntime raise their own kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Unbuildable(f"rebuilding it failed: {reason}") from error
    scale = float(np.abs(truth).max(initial=1e-6))
    if ours.shape != truth.shape or not np.abs(ours - truth).max() <= TOLERANCE * scale:
        raise Unbuildable("the rebuilt network answers otherwise than onnxruntime")
    return model
