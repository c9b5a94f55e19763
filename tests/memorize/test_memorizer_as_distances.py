"""A memorizer as a network of distances: the same answers and radii, by neurons that can be trained on."""

import copy

import pytest
import torch

from stackelberg import data, games, memorize
from stackelberg.certify import steepness
from stackelberg.errors import StackelbergError
from stackelberg.memorize import distance_net, lipschitz, medoids
from stackelberg.memorize.memorizer import Memorizer
from stackelberg.models import load, save_weights
from stackelberg.threat import Ball


def images(count=12, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, 3, 4, generator=generator, dtype=torch.float64), torch.arange(count) % classes


@pytest.mark.parametrize("width", [12, 17, 40])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_logits_are_the_scores_anywhere_in_the_cube(width, classes):
    x, y = images(classes=classes)
    memorizer = lipschitz(x, y)
    model = distance_net(memorizer, width).double()
    queries = torch.cat([x, torch.rand(500, 1, 3, 4, dtype=torch.float64), torch.ones(1, 1, 3, 4)])
    queries = queries.clamp(min=torch.from_numpy(memorizer.floor).clamp(min=0).reshape(1, 3, 4))
    off = (model(queries) - memorizer.scores(queries)).abs().max()
    assert float(off.detach()) < 1e-6  # the weights are float32


def test_corners_far_from_all_points_are_no_exception():
    """Where every neuron hears the largest distance there can be."""
    y = torch.tensor([0, 0, 1])
    x = torch.stack([torch.zeros(1, 2, 2), torch.full((1, 2, 2), 0.2), torch.full((1, 2, 2), 0.1)])
    model = distance_net(lipschitz(x, y), 30)
    torch.testing.assert_close(model(torch.ones(1, 1, 2, 2)), torch.tensor([[-0.8, -0.9]]))


def test_answers_and_certified_radii_are_the_memorizers_on_mnist(real_data):
    train, test = real_data("mnist", "train").take(1000), real_data("mnist", "test").take(300)
    kept = torch.from_numpy(medoids(train.x, train.y, 100))
    memorizer = lipschitz(train.x[kept], train.y[kept])
    model = distance_net(memorizer, 128)
    x, y = test.batch(torch.arange(len(test)))
    label, radius, _ = memorizer.certified(test.x)
    best = model(x).topk(2, 1)
    lead = (best.values[:, 0] - best.values[:, 1]).detach().double() / 2
    torch.testing.assert_close(lead, radius, rtol=0, atol=1e-6)
    clear = radius > 1e-6  # grey levels tie often: then neither has an answer that is certain
    assert 0.1 < float(clear.double().mean()) < 1
    assert torch.equal(best.indices[:, 0][clear], label[clear])
    for eps in (0.01, 0.05):
        sure = steepness(model, x, y, Ball("linf", eps)).certified
        assert torch.equal(sure, (label == y) & (radius > eps))
        assert 0 < int(sure.sum()) < len(y)


def test_training_starts_there_and_gets_further():
    """On scikit-learn's digits; its neurons of one class do not stay alike."""
    train, test = data.load("digits", "train"), data.load("digits", "test")
    kept = torch.from_numpy(medoids(train.x, train.y, 20))
    model = distance_net(lipschitz(train.x[kept], train.y[kept]), 40)
    start = copy.deepcopy(model)
    ball = Ball("linf", 0.1)
    trained = games.solve(
        games.LipschitzMargin(ball), model, train.take(600), 4, radius_warmup=0.0, check_steps=1, seed=0, device="cpu",
        precision="float32",
    ).best  # fmt: skip
    x, y = test.batch(torch.arange(len(test)))
    before, after = (float(steepness(net, x, y, ball).certified.double().mean()) for net in (start, trained))
    assert after > before + 0.1, (before, after)
    second = trained.get_parameter("layers.1.weight").detach()
    assert float((second[0] - second[10]).abs().max()) > 0.01


def test_it_is_a_network_by_name_that_a_file_can_hold(tmp_path):
    model = distance_net(lipschitz(*images()), 16)
    save_weights(model, tmp_path / "net.safetensors")
    x = torch.rand(5, 1, 3, 4)
    assert torch.equal(load(tmp_path / "net.safetensors")(x), model(x))


def refused(message: str, memorizer: Memorizer, width: int | None = None):
    with pytest.raises(StackelbergError, match=message):
        distance_net(memorizer, width)


def test_what_it_cannot_be():
    x, y = images()
    refused("is for linf, the memorizer is of 'l2'", lipschitz(x, y, "l2"))
    refused("must be at least 12 for 12 stored points of 3 classes, got 11", lipschitz(x, y), 11)
    refused(r"takes images \[C, H, W\], got points \[12\]", lipschitz(x.flatten(1), y))
    refused("must lie in .0, 1., they reach from", lipschitz(2 * x, y))
    refused("of the kind 'optimal'", memorize.optimal(x, y))
