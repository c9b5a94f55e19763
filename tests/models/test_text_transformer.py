"""The text transformer: two ways in, vectors of length 1, and what it refuses."""

import pytest
import torch

from stackelberg import models
from stackelberg.attacks import PGD
from stackelberg.attacks.attack import check_inputs
from stackelberg.data import encode
from stackelberg.errors import StackelbergError
from stackelberg.models import embedded
from stackelberg.models.text_transformer import TextTransformer
from stackelberg.threat import Ball, Letters

WORDS = ["fiets", "bicycle", "velo", "fahrrad"]


@pytest.fixture
def net() -> TextTransformer:
    model = models.build("text-transformer", 4, (8,), width=16, seed=0)
    assert isinstance(model, TextTransformer)
    return model


def test_a_text_and_its_embedding_get_the_same_answer(net):
    x = encode(WORDS, 8)
    points = embedded(net, x)
    assert points.shape == (4, 8, 16)
    assert torch.equal(net(x), net(points))
    assert torch.equal(net(x.long()), net(x))
    assert embedded(net, points) is points


def test_vectors_have_length_one_whatever_the_weights(net):
    with torch.no_grad():
        net.bytes.weight.mul_(1000)
    assert torch.allclose(embedded(net, encode(WORDS, 8)).norm(dim=2), torch.ones(4, 8))


def test_the_ball_of_twice_the_root_holds_every_exchange(net):
    x = encode(WORDS, 8)
    letters, ball = Letters(3), Ball("l2", 2 * 3**0.5, -1, 1)
    for seed in range(20):
        moved = x.clone()
        for _ in range(3):
            place = torch.randint(4, (4, 1), generator=torch.Generator().manual_seed(seed))
            moved.scatter_(1, place, torch.randint(97, 123, (4, 1)).to(torch.uint8))
        assert letters.contains(moved, x).all()
        assert ball.contains(embedded(net, moved), embedded(net, x)).all()


def test_the_vectors_learn(net):
    """d loss / d vectors against central differences, in float64."""
    net.double()
    x, y = encode(WORDS, 8), torch.arange(4)
    torch.nn.functional.cross_entropy(net(x), y).backward()
    slope, row = net.bytes.weight.grad, ord("e")

    def loss(shift: float) -> float:
        with torch.no_grad():
            net.bytes.weight[row, 3] += shift
            value = float(torch.nn.functional.cross_entropy(net(x), y))
            net.bytes.weight[row, 3] -= shift
        return value

    assert slope is not None
    assert float(slope[row, 3]) == pytest.approx((loss(1e-5) - loss(-1e-5)) / 2e-5, rel=1e-5)
    assert not slope[ord("z")].any()  # no word has it


def test_the_order_of_letters_counts_by_their_places_alone(net):
    x = encode(["abcdefgh"], 8)
    turned = x.flip(1)
    assert not torch.allclose(net(x), net(turned))
    with torch.no_grad():
        net.reader.place.zero_()
    assert torch.allclose(net(x), net(turned), atol=1e-6)


def test_its_file_says_what_it_is(net, tmp_path):
    models.save_weights(net, tmp_path / "net.safetensors")
    again = models.load(tmp_path / "net.safetensors")
    assert torch.equal(again(encode(WORDS, 8)), net.eval()(encode(WORDS, 8)))
    assert models.spec_of(again) == models.spec_of(net)


def test_a_network_for_other_data_is_refused():
    with pytest.raises(StackelbergError, match=r"text-transformer takes texts \(T,\), got examples of the shape"):
        models.build("text-transformer", 4, (1, 8, 8))
    with pytest.raises(StackelbergError, match=r"mlp takes images \(C, H, W\), got .* \[8\]; .* text-transformer"):
        models.build("mlp", 4, (8,))
    with pytest.raises(StackelbergError, match="width that is a multiple of 4"):
        models.build("text-transformer", 4, (8,), width=10)
    with pytest.raises(StackelbergError, match="mean and std are for images"):
        models.build("text-transformer", 4, (8,), mean=[0.5], std=[0.5])


def test_what_is_no_text_of_its_length_is_named(net):
    with pytest.raises(StackelbergError, match=r"reads texts of 8 bytes, integers \[B, 8\], got torch.uint8 \[4, 9\]"):
        net(encode(WORDS, 9))
    with pytest.raises(StackelbergError, match=r"text 1 holds the numbers .*, allowed are bytes, 0 to 255"):
        net(torch.tensor([[97] * 8, [97] * 7 + [256]]))
    with pytest.raises(StackelbergError, match=r"built for texts \[8\], got \[9\]"):
        models.check_output(net, encode(WORDS, 9), 4)
    with pytest.raises(StackelbergError, match="a MLP does not embed texts"):
        embedded(models.build("mlp", 4, (1, 8, 8)), encode(WORDS, 8))


def test_an_attack_in_a_ball_wants_the_embedding(net):
    x, y, ball = encode(WORDS, 8), torch.arange(4), Ball("l2", 0.5, -1, 1)
    with pytest.raises(StackelbergError, match=r"inputs must be floating point, got torch.uint8; .*models.embedded"):
        check_inputs(x, ball)
    points = embedded(net, x).detach()
    moved = PGD(ball, stop=False)(net, points, y)
    assert ball.contains(moved, points).all()
    rise = torch.nn.functional.cross_entropy(net(moved), y) - torch.nn.functional.cross_entropy(net(points), y)
    assert float(rise.detach()) > 0
