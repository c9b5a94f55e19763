"""The bi-level game on a problem small enough to enumerate: three points on a line, two parameters in a box."""

import pytest
import torch
from torch import Tensor, nn

from stackelberg import games
from stackelberg.attacks import Oracle
from stackelberg.errors import StackelbergError
from stackelberg.games import Adversarial, Play, Standard, Tradeoff
from stackelberg.threat import Ball

# 10 (+), 1 (-), 2 (-), in units of a tenth of the input's range
GREY = torch.tensor([255, 26, 51], dtype=torch.uint8)
SIGNS = torch.tensor([1.0, -1.0, -1.0])
HINGE, RADIUS = 0.5, 0.05
GAME = Adversarial(Ball("linf", RADIUS), payoff="cw", steps=2, hinge=HINGE)


class Line(nn.Module):
    """Logits (-z/2, z/2), z = 10 t x + s, with |t|, |s| <= 1: the raw-margin counterexample's network."""

    def __init__(self) -> None:
        super().__init__()
        self.t, self.s = nn.Parameter(torch.tensor(0.2)), nn.Parameter(torch.tensor(0.1))

    def forward(self, x: Tensor) -> Tensor:
        z = 10 * self.t * x.flatten(1)[:, 0] + self.s
        return torch.stack([-z / 2, z / 2], 1)


def payoffs(t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """(clean cross entropy, robust payoff) of every network of a grid, in closed form."""
    x = GREY.double() / 255
    z = SIGNS * (10 * t[..., None] * x + s[..., None])
    worst = -z + 10 * RADIUS * t[..., None].abs()
    return nn.functional.softplus(-z).mean(-1), torch.relu(worst + HINGE).mean(-1)


def trained(game: games.Game, steps: int = 600) -> tuple[float, float]:
    """(clean, robust) of the network at which plain falling gradient steps in the box [-1, 1]^2 end."""
    x, y = GREY.float().view(-1, 1, 1, 1) / 255, torch.tensor([1, 0, 0])
    model, state = Line(), game.start()
    optimizer = torch.optim.SGD(model.parameters())
    for step in range(steps):
        play = Play(Oracle(model, view="direct"), state=state, progress=step / steps)
        optimizer.param_groups[0]["lr"] = 0.03 * (1 - step / steps)
        optimizer.zero_grad()
        game.objective(model, x, y, play).backward()
        optimizer.step()
        with torch.no_grad():
            model.t.clamp_(-1, 1)
            model.s.clamp_(-1, 1)
    clean, robust = payoffs(model.t.detach().double(), model.s.detach().double())
    return float(clean), float(robust)


@pytest.fixture(scope="module")
def grid() -> tuple[Tensor, Tensor]:
    t, s = torch.meshgrid(*[torch.linspace(-1, 1, 801, dtype=torch.float64)] * 2, indexing="ij")
    return payoffs(t, s)


def test_it_finds_what_enumeration_finds(grid: tuple[Tensor, Tensor]) -> None:
    clean, robust = grid
    slack = 0.02
    best = float(clean[robust <= robust.min() + slack].min())
    reached, paid = trained(Tradeoff(GAME, slack=slack, settle=0.4))
    assert paid == pytest.approx(float(robust.min()) + slack, abs=0.012)
    assert reached == pytest.approx(best, abs=0.008)
    assert reached == pytest.approx(float(clean[robust <= paid].min()), abs=0.002), "no other as robust is better"
    plain, _ = trained(GAME)
    assert reached < plain - 0.02, "the robust game alone stops at the first of the robust networks"
    assert float(clean.min()) < best - 0.005, "and the clean loss alone goes where robustness is lost"


def test_more_slack_is_more_accurate_and_less_robust() -> None:
    tight, robust_tight = trained(Tradeoff(GAME, slack=0.005, settle=0.4))
    wide, robust_wide = trained(Tradeoff(GAME, slack=0.05, settle=0.4))
    assert wide < tight - 0.003
    assert robust_tight < robust_wide - 0.01


def test_raw_margin_takes_another_network_than_the_thresholded_one() -> None:
    """Three points 10 (+), 1 (-), 2 (-), radius .1: the raw minimax is right on one of them, another on all three."""
    points, radius = torch.tensor([10.0, 1.0, 2.0], dtype=torch.float64), 0.1
    t, s = torch.meshgrid(*[torch.linspace(-1, 1, 401, dtype=torch.float64)] * 2, indexing="ij")
    worst = -SIGNS * (t[..., None] * points + s[..., None]) + radius * t.abs()[..., None]
    accuracy = (worst < 0).double().mean(-1)
    assert float(accuracy.flatten()[worst.mean(-1).argmin()]) == pytest.approx(1 / 3)
    assert float(accuracy.max()) == 1
    own = -SIGNS * (0.005 * points - 0.045) + radius * 0.005
    assert bool((own < 0).all()), "t = .005, s = -.045 is right on all three"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"slack": -0.1}, r"slack must be >= 0 and pull > 0, got -0.1"),
        ({"settle": 1.0}, r"settle must lie in \(0, 1\), got 1.0"),
    ],
)
def test_bad_fields(fields: dict, sentence: str) -> None:
    with pytest.raises(StackelbergError, match=sentence):
        Tradeoff(Standard(), **fields)
