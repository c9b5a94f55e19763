"""What if a network answers at random?  Then it is asked many times, each time from a seed of ours.

The adversary ascends the expectation over the network's own draws (Athalye et al. 2018, "Synthesizing robust
adversarial examples"), and has succeeded where most of fresh draws are wrong. The networks' generators are torch's,
numpy's and Python's; all come back as they were.
"""

import contextlib
import random
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """All global generators seeded inside, exactly as they were after."""
    pythons, numpys = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach CUDA later, once it is started
        for device in devices:
            torch.cuda.default_generators[device].manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(pythons)
            np.random.set_state(numpys)


def answers_at_random(model: Callable[[Tensor], Tensor], x: Tensor, times: int = 6) -> bool:
    """Whether some of `times` answers [B, K] at the same inputs differ from the first by more than rounding."""
    with torch.no_grad(), seeded(0):
        first = model(x)
        for _ in range(1, times):
            again = model(x)
            if again.shape != first.shape or not torch.allclose(again, first, rtol=1e-3, atol=1e-6, equal_nan=True):
                return True
    return False


def votes(model: nn.Module, x: Tensor, draws: int, seed: int) -> Tensor:
    """The share of `draws` answers that rank each class first, [B, K]."""
    total = None
    with torch.no_grad(), seeded(seed):
        for _ in range(draws):
            logits = model(x)
            one = torch.zeros_like(logits, dtype=torch.float32).scatter_(1, logits.argmax(1, keepdim=True), 1.0)
            total = one if total is None else total + one
    assert total is not None
    return total / draws
