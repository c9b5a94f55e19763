"""Auto-PGD: the checkpoints of the paper, the optimum where it is known, no step wasted on what cannot be seen."""

import pytest
import torch
from torch import nn

from stackelberg.attacks import APGD, PGD, Hunt, Oracle, untouched
from stackelberg.attacks.apgd import FAR, SHRINKING, Climb, checkpoints, climb, promising_targets
from stackelberg.attacks.goal import goal_for
from stackelberg.errors import StackelbergError
from stackelberg.threat import Ball, chance
from stackelberg.threat.payoff import margin


def test_checkpoints_of_the_paper():
    """Croce and Hein 2020, section 3.1: at 100 steps 22, 41, 57, 70, 80, 87, 93, 99."""
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]


@pytest.mark.parametrize("steps", [1, 2, 7, 10, 50])
@pytest.mark.parametrize(("norm", "start", "radii"), [("l2", "far", FAR), ("l1", "random", SHRINKING)])
def test_the_steps_are_shared_between_the_balls(linear, monkeypatch, steps, norm, start, radii):
    """All of them and no more, the last and smallest ball never left out."""
    net, x = linear(3, 8), torch.full((2, 8), 0.5, dtype=torch.float64)
    taken: dict[float, int] = {}
    move = Climb.move

    def counted(self, first):
        taken[self.ball.radius] = taken.get(self.ball.radius, 0) + 1
        move(self, first)

    monkeypatch.setattr(Climb, "move", counted)
    APGD(Ball(norm, 1e-3), steps, start=start, stop=False)(net, x, net(x).argmax(1))
    assert sum(taken.values()) == steps
    assert taken[1e-3] >= max(1, round(radii[-1][1] * steps) - 1)
    if steps == 50:
        assert list(taken) == pytest.approx([1e-3 * times for times, _ in radii])


@pytest.mark.parametrize(("norm", "radius"), [("linf", 0.05), ("l2", 0.2), ("l1", 0.3)])
@pytest.mark.parametrize("loss", ["ce", "cw", "dlr", "dlr-targeted"])
def test_the_optimum_of_a_linear_model(linear, norm, radius, loss):
    net = linear(2, 12)
    x = 0.4 + 0.2 * torch.rand(6, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = net(x).argmax(1)
    ball = Ball(norm, radius)
    moved = APGD(ball, 100, loss=loss, stop=False)(net, x, y)
    dual = {"linf": 1, "l2": 2, "l1": torch.inf}[norm]
    for i in range(len(x)):
        slope = (net.weight[1 - y[i]] - net.weight[y[i]]).detach()
        best = radius * float(torch.linalg.vector_norm(slope, ord=dual))
        gained = float((margin(net(moved[i : i + 1]), y[i : i + 1]) - margin(net(x[i : i + 1]), y[i : i + 1])).detach())
        assert gained == pytest.approx(best, rel=2e-3)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_as_strong_as_pgd_at_any_scale_of_the_logits(digits, norm, scale):
    net, x, y = digits

    class Scaled(nn.Module):
        def forward(self, x):
            return scale * net(x)

    ball = {"linf": Ball("linf", 0.05), "l2": Ball("l2", 0.3), "l1": Ball("l1", 1.0)}[norm]
    best = int((net(PGD(ball, 40, restarts=3)(net, x, y)).argmax(1) == y).sum())
    ours = int((net(APGD(ball, 40)(Scaled(), x, y)).argmax(1) == y).sum())
    assert ours <= best + 1
    assert ours < 90


def test_a_climb_never_loses_what_it_has(digits):
    net, x, y = digits
    ball = Ball("linf", 0.02)
    with untouched(net):
        hunt = Hunt(Oracle(net, "float32"), ball, x, y, chance.example_keys(x, 0), stop=False)
        hunt.open()
        goal = goal_for("cw", hunt)
        index = torch.arange(len(x))
        values = []
        start = x
        for _ in range(3):
            _, start = climb(hunt, index, start, goal, 8, length=0.5)
            values.append(goal(hunt.oracle.exact(start), index))
    assert (values[1] >= values[0] - 1e-5).all()
    assert (values[2] >= values[1] - 1e-5).all()


def test_examples_that_fall_are_not_asked_again(linear):
    net = linear(3, 8)
    x = torch.rand(20, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = net(x).argmax(1)
    with untouched(net):
        hunt = Hunt(Oracle(net), Ball("linf", 0.9), x, y, torch.arange(20))
        hunt.open()
        APGD(hunt.ball, 50).search(hunt)
    assert hunt.broken.all()
    assert hunt.oracle.backwards < 20 * 5


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_nearest_classes_first_by_distance_to_the_boundary(linear, norm):
    net = linear(6, 8)
    x = torch.rand(15, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = net(x).detach()
    y = z.argmax(1)
    with untouched(net):
        hunt = Hunt(Oracle(net), Ball(norm, 0.1), x, y, torch.arange(15))
        hunt.open()
        ours = promising_targets(hunt, torch.arange(15), 5)
    dual = {"linf": 1, "l2": 2, "l1": torch.inf}[norm]
    gap = z.gather(1, y[:, None]) - z
    slope = torch.linalg.vector_norm(net.weight.detach()[None] - net.weight.detach()[y][:, None], ord=dual, dim=2)
    distance = (gap / slope).scatter(1, y[:, None], torch.inf)
    assert torch.equal(ours, distance.argsort(1)[:, :5])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"steps": 0}, "steps, restarts and targets must be at least 1, got 0, 1 and 9"),
        ({"targets": 0}, "steps, restarts and targets must be at least 1"),
        ({"loss": "dlr-target"}, "unknown loss 'dlr-target': did you mean 'dlr-targeted'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, sentence):
    with pytest.raises(StackelbergError, match=sentence):
        APGD(Ball("linf", 0.1), **options)


def test_l0_is_refused():
    with pytest.raises(StackelbergError, match=r"apgd is defined for linf, l2 and l1, got norm 'l0'; use attacks\.PGD"):
        APGD(Ball("l0", 3))


@pytest.mark.parametrize("loss", ["cw", "dlr-targeted"])
@pytest.mark.parametrize("stop", [True, False])
def test_climbs_made_together_find_what_they_find_one_by_one(digits, monkeypatch, loss, stop):
    """The same starts, targets and steps: only the rounding of larger batches differs."""
    net, x, y = digits
    attack = APGD(Ball("linf", 0.08), 8, loss=loss, restarts=2, targets=3, stop=stop, precision="float32")
    together = attack(net, x[:20], y[:20])
    monkeypatch.setattr(Hunt, "together", 1)
    alone = attack(net, x[:20], y[:20])
    assert torch.equal(net(together).argmax(1) == y[:20], net(alone).argmax(1) == y[:20])
    standing = (net(alone).argmax(1) == y[:20]) | (not stop)
    torch.testing.assert_close(
        margin(net(together), y[:20])[standing], margin(net(alone), y[:20])[standing], rtol=1e-3, atol=1e-3
    )


def test_what_copies_find_is_taken_over(linear):
    """Of each example the copy that fell, else the one of the largest value."""
    net, x = linear(3, 6), torch.full((3, 6), 0.5, dtype=torch.float64)
    hunt = Hunt(Oracle(net), Ball("linf", 0.1), x, torch.zeros(3, dtype=torch.long), chance.example_keys(x, 0))
    index = torch.tensor([0, 2])
    wide = hunt.copies(index, 3)
    wide.best = torch.arange(6.0, dtype=torch.float64)[:, None].expand(6, 6).clone()
    wide.value = torch.tensor([-3.0, -1.0, -2.0, -5.0, -4.0, 0.5])
    wide.broken[5] = True
    wide.flat[1] = True
    hunt.take_over(wide, index)
    assert hunt.best[:, 0].tolist() == [2.0, 0.5, 5.0]
    assert hunt.value[index].tolist() == [-2.0, 0.5]
    assert hunt.broken.tolist() == [False, False, True]
    assert hunt.flat.tolist() == [False, False, True]
