"""The vote of partitions: who is touched by an example, what is certified, and that the certificate is checked."""

from itertools import product
from pathlib import Path

import pytest
import torch

from stackelberg import data, models
from stackelberg.certify.checking import check, read_certificate
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.poison import Partitioned, load_partitioned, partition, poison_certificate, retrained
from stackelberg.poison.partitions import part_of, poison_radius
from stackelberg.poison.voted import certified_accuracy, votes_to_turn


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return data.load("digits", "train").take(400)


@pytest.fixture(scope="module")
def vote(digits: Dataset) -> Partitioned:
    return partition(digits, 7, "mlp", 8, 2, learning_rate=0.02)


def test_an_example_s_part_is_its_own_affair(digits: Dataset) -> None:
    place, digests = part_of(digits, 7)
    mixed = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))
    assert torch.equal(part_of(digits.take(mixed), 7)[0], place[mixed])
    assert torch.equal(part_of(digits.take(slice(3, 50)), 7)[0], place[3:50])
    assert len(set(digests)) == len(digits)
    assert place.bincount(minlength=7).min() > 400 / 7 - 4 * (400 / 7) ** 0.5


@pytest.mark.parametrize("total", [3, 6])
def test_the_radius_is_what_no_adversary_beats_and_one_more_is_beaten(total: int) -> None:
    every = [v for v in product(range(total + 1), repeat=3) if sum(v) == total]
    answer, radius = poison_radius(torch.tensor(every))
    for votes, winner, r in zip(every, answer.tolist(), radius.tolist(), strict=True):
        assert winner == max(range(3), key=lambda c, v=votes: (v[c], -c))
        reach = {  # every count of votes that changes of r of them can make
            other: sum(max(0, a - b) for a, b in zip(votes, other, strict=True)) for other in every
        }
        turned = [moved for other, moved in reach.items() if max(range(3), key=lambda c, v=other: (v[c], -c)) != winner]
        assert min(turned) == r + 1 == votes_to_turn(votes, winner)


def test_poison_in_one_part_changes_one_vote_at_most(digits: Dataset, vote: Partitioned) -> None:
    place, _ = part_of(digits, 7)
    x, y = digits.x.clone(), digits.y.clone()
    gone = int((place == 2).nonzero()[0])  # one example taken out: all other members are trained to the same weights
    kept = torch.arange(len(digits)) != gone
    again = partition(Dataset(x[kept], y[kept], digits.classes, "less"), 7, "mlp", 8, 2, learning_rate=0.02)
    for part in range(7):
        same = models.fingerprint(again.vote.members[part]) == models.fingerprint(vote.vote.members[part])
        assert same == (part != 2)
    images, _ = digits.batch(range(100))
    assert (again.vote.votes(images) - vote.vote.votes(images)).abs().sum(1).max() <= 2


def test_training_a_member_again_gives_its_weights_and_foreign_data_do_not(digits: Dataset, vote: Partitioned) -> None:
    mixed = torch.randperm(len(digits), generator=torch.Generator().manual_seed(1))
    assert retrained(vote, digits.take(mixed), 4)
    assert not retrained(vote, digits.take(300), 4)


def test_the_folder_is_a_network_and_its_certificate_is_checked(
    digits: Dataset, vote: Partitioned, tmp_path: Path
) -> None:
    vote.save(tmp_path)
    again = load_partitioned(tmp_path)
    network = models.load(tmp_path)
    x, y = digits.batch(range(30))
    assert torch.equal(network(x), vote.vote(x))
    assert (again.sizes, again.plan) == (vote.sizes, vote.plan)
    test = data.load("digits", "test")
    made = poison_certificate(again, str(tmp_path), test, "test", list(range(20)))
    made.to_json(tmp_path / "certificate.json")
    read = read_certificate(tmp_path / "certificate.json")
    found = check(read, network, test)
    assert found.passed
    assert found.count("confirmed") == 20
    assert made.right_at(0) == int((vote.vote(test.batch(range(20))[0]).argmax(1) == test.y[:20]).sum())
    wrong = made.claims[0].model_copy(update={"radius": made.claims[0].radius + 1})
    lie = made.model_copy(update={"claims": (wrong, *made.claims[1:])}).sealed()
    assert check(lie, network, test).count("refuted") == 1
    shares = certified_accuracy(vote, test, 3)
    assert (shares.diff() <= 0).all()
    (tmp_path / "partition.json").write_text("{}")
    with pytest.raises(StackelbergError, match=r"is no stackelberg.partition/1"):
        load_partitioned(tmp_path)
    assert y.shape == (30,)


def test_what_cannot_be_partitioned(digits: Dataset) -> None:
    with pytest.raises(StackelbergError, match="at least 2 partitions, got 1"):
        partition(digits, 1)
    with pytest.raises(StackelbergError, match="with 300 partitions of 400 examples one has"):
        partition(digits, 300)
    with pytest.raises(StackelbergError, match="one class only"):
        partition(digits.take(digits.y == 1), 5)
