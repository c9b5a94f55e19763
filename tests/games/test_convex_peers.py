"""Linear Wasserstein DRO beside the packages dro and skwdro, where STACKELBERG_PEERS names a folder that holds them."""

import os
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stackelberg.games import ConvexGame, nash

RADIUS = 0.1


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], Any]]:
    """peer(package, module): a module of a peer, past the package's door, which imports what is not needed here."""
    folder = Path(os.environ.get("STACKELBERG_PEERS", ""))

    def load(package: str, module: str) -> Any:
        if "STACKELBERG_PEERS" not in os.environ or not (folder / package).is_dir():
            pytest.skip(f"needs the package {package}: pip install --no-deps --target DIR, and STACKELBERG_PEERS=DIR")
        monkeypatch.syspath_prepend(str(folder))
        door = types.ModuleType(package)
        door.__path__ = [str(folder / package)]
        monkeypatch.setitem(sys.modules, package, door)
        return import_module(f"{package}.{module}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield load


def problem() -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(0)
    x = chance.normal(size=(400, 5))
    return x, (x @ [0.4, -0.5, -0.7, -1.3, -1.5] + chance.logistic(size=400) > 0).astype(int)


def ours(loss: Any, norm: str) -> np.ndarray:
    x, y = problem()
    game = ConvexGame(loss, norm, RADIUS, 0.0, "budget")
    return nash(game, torch.from_numpy(x), torch.from_numpy(y)).theta.numpy()


@pytest.mark.parametrize("loss", ["logistic", "hinge"])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_dro_finds_the_same_learner(peer: Callable[[str, str], Any], loss: str, norm: str) -> None:
    room = peer("dro", "linear_model.wasserstein_dro")
    x, y = problem()
    kind = "svm" if loss == "hinge" else "logistic"
    model = room.WassersteinDRO(input_dim=5, model_type=kind)
    model.update({"eps": RADIUS, "p": {"linf": "inf", "l2": 2, "l1": 1}[norm], "kappa": "inf"})
    fit = model.fit(x, 2 * y - 1)
    assert np.abs(np.append(fit["theta"], fit["b"]) - ours(loss, norm)).max() < 1e-3


def test_skwdro_finds_the_same_learner(peer: Callable[[str, str], Any]) -> None:
    """Its dedicated logistic solver, l2; a label flip costs 1000 there, which nobody pays."""
    solve = peer("skwdro", "solvers.specific_solvers").WDROLogisticSpecificSolver
    solve = getattr(solve, "__wrapped__", solve)
    x, y = problem()
    found = solve(rho=RADIUS, kappa=1000, X=x, y=2.0 * y - 1, fit_intercept=True)
    theta = np.append(found[0], found[1]) if isinstance(found, tuple) else np.append(found.coef, found.intercept)
    assert np.abs(theta - ours("logistic", "l2")).max() < 1e-3
