"""The single-step, re-weighted and doubled followers: what each adds is there, and only there."""

import pytest
import torch
from torch import nn

from stackelberg import data, games, models
from stackelberg.attacks import Oracle
from stackelberg.errors import StackelbergError
from stackelberg.games import (
    Adversarial,
    IntervalBound,
    Mart,
    ParameterBox,
    Play,
    SingleStep,
    StatisticallyRobust,
    Trades,
    WeightPerturbed,
)
from stackelberg.threat import Ball
from stackelberg.threat.payoff import cross_entropy

BALL = Ball("linf", 0.1)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 4))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(8, 1, 8, 8, generator=generator), torch.arange(8) % 4


def test_mart_by_its_formula_in_probabilities() -> None:
    model, (x, y) = net().eval().double(), batch()
    moved = BALL.project(x + 0.05, x).double()
    p, q = model(x.double()).softmax(1), model(moved).softmax(1)
    rows = torch.arange(8)
    rest = q.clone()
    rest[rows, y] = 0
    expected = -q[rows, y].log() - (1 - rest.amax(1)).log() + 5 * (p * (p / q).log()).sum(1) * (1 - p[rows, y])
    assert torch.allclose(Mart(BALL).losses(model, x.double(), y, moved).double(), expected, atol=1e-5)
    assert torch.allclose(
        Mart(BALL, penalty=0.0).losses(model, x.double(), y, moved).double(),
        -q[rows, y].log() - (1 - rest.amax(1)).log(), atol=1e-5,
    )  # fmt: skip


def test_perturbed_weights_raise_the_objective_by_a_step_of_their_size() -> None:
    """The payoff at w + v is above that at w; v has the size asked for in each layer; the model itself stays."""
    model, (x, y) = net().train(), batch()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    game = WeightPerturbed(Adversarial(BALL), size=0.02)
    moved = game.answer(Play(Oracle(model.eval())), x, y)
    model.train()
    for weight, shift in game._shift(Play(Oracle(model)), model, x, y, moved):
        assert float(shift.norm() / weight.detach().norm()) == pytest.approx(0.02, rel=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval()
    plain, there = (one.pay(Play(Oracle(model)), model, x, y, moved).mean().detach() for one in (game.game, game))
    assert float(there) > float(plain) + 1e-4


def test_the_leaders_gradient_is_taken_at_the_perturbed_weights() -> None:
    model, (x, y) = net().eval(), batch()
    game = WeightPerturbed(Adversarial(BALL), size=0.05)
    play = Play(Oracle(model))
    moved = game.answer(play, x, y)
    shifts = {id(p): v for p, v in game._shift(play, model, x, y, moved)}
    asked = torch.autograd.grad(game.pay(play, model, x, y, moved).mean(), list(model.parameters()))
    with torch.no_grad():
        for p in model.parameters():
            p += shifts.get(id(p), 0.0)
    there = torch.autograd.grad(cross_entropy(model(moved), y).mean(), list(model.parameters()))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(asked, there, strict=True))


def test_statistically_robust_inside_and_outside_of_perturbed_weights() -> None:
    payoffs = torch.rand(16)
    one = WeightPerturbed(StatisticallyRobust(Adversarial(BALL), 0.3)).weights(payoffs)
    assert torch.equal(one, StatisticallyRobust(WeightPerturbed(Adversarial(BALL)), 0.3).weights(payoffs))
    assert float(one.max()) > 1.5 / 16


def test_the_parameter_box_of_a_wrapper_is_the_smaller_one() -> None:
    assert ParameterBox(Trades(BALL), 0.5).parameter_bound == 0.5
    assert ParameterBox(Adversarial(BALL, parameter_box=0.2), 0.5).parameter_bound == 0.2


def overfitted(guard: bool) -> games.Equilibrium:
    """One step from the example itself, radius 0.25 on digits: the case in which the failure comes."""
    digits = data.load("digits", "train").take(800)
    game = SingleStep(Ball("linf", 0.25), steps=5, reach=1.0, random=False, guard=guard)
    model = models.build("mlp", 10, digits.shape, width=128, seed=0)
    return games.solve(
        game, model, digits, 40, batch_size=64, held_out=100, progress=False, check_steps=5, optimizer="adam",
        learning_rate=0.003, schedule="constant", radius_warmup=0.3,
    )  # fmt: skip


def test_the_guard_mends_the_failure_of_single_steps() -> None:
    """Without it several steps break ever more of what stands one; with it robustness holds."""
    ends = {}
    for guard in (False, True):
        history = overfitted(guard).history
        ends[guard] = sum(record["robust"] for record in history[-8:]) / 8
        if not guard:
            assert max(record["robust"] for record in history) > ends[guard] + 0.05, "it peaked and fell"
    assert ends[True] > ends[False] + 0.05


def test_the_gap_is_seen_and_decides_the_number_of_steps() -> None:
    """On a network with a kink one step overshoots: it stands one and falls to several."""

    class Bump(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z = 30 * (x.flatten(1)[:, 0] - 0.55).abs() - 0.9
            return torch.stack([torch.zeros_like(z), z], 1)

    x, y = torch.full((4, 1, 1, 1), 0.5), torch.ones(4, dtype=torch.long)
    game = SingleStep(BALL, steps=20, step=0.01, reach=1.0, random=False, check_every=2)
    play = Play(Oracle(Bump()), state=game.start())
    moved = game.answer(play, x, y)
    assert play.state["gap"] == 1.0
    assert (moved - x).abs().max() < 0.08  # several short steps: it stopped at the kink
    assert play.state["careful_batches"] == 1
    blind = Play(Oracle(Bump()), state=game.start())
    jumped = SingleStep(BALL, steps=20, step=0.01, reach=1.0, random=False, guard=False).answer(blind, x, y)
    assert torch.allclose(jumped, x + 0.1)


def test_held_out_examples_are_looked_at_where_there_are_some() -> None:
    model, (x, y) = net().eval(), batch()
    game = SingleStep(BALL)
    play = Play(Oracle(model), state=game.start(), held=(x[:0], y[:0]))
    assert game.gap(Play(Oracle(model)), x, y) >= 0
    play.held = (x[:2], y[:2])
    game.answer(play, x, y)
    assert play.state["gap"] == game.gap(Play(Oracle(model)), x[:2], y[:2])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Mart(BALL, penalty=-1.0), r"penalty must be >= 0, got -1.0"),
        (lambda: Mart(BALL, payoff="cw"), r"MART climbs the cross entropy, got payoff 'cw'"),
        (lambda: WeightPerturbed(Adversarial(BALL), size=0.0), r"size must be > 0, got 0.0"),
        (lambda: WeightPerturbed(IntervalBound(BALL)), r"cannot wrap IntervalBound, which needs the weights"),
        (lambda: ParameterBox(Trades(BALL), -1.0), r"the parameter box must have E > 0, got -1.0"),
        (lambda: SingleStep(BALL, reach=0.0), r"reach must be > 0 and check_every at least 1, got 0.0"),
        (lambda: SingleStep(BALL, tolerance=2.0), r"tolerance must lie in \[0, 1\], got 2.0"),
    ],
)
def test_bad_fields(make, sentence: str) -> None:
    with pytest.raises(StackelbergError, match=sentence):
        make()
