"""Is the vote's certificate true?  Its claims on paper, and how each is verified anew.

The judge counts the votes again, and finds the radius by playing the adversary, vote by vote, instead of by the
formula. That each member was trained on its own part alone is a matter of the training, not of the weights: `retrained`
repeats one member's training and compares.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stackelberg.certify.checking import KINDS, Judgement, Kind
from stackelberg.certify.document import DataSource, Document, ModelSource, Record, example_digest, head
from stackelberg.data import Dataset
from stackelberg.models.weights import fingerprint
from stackelberg.poison.learner import learn
from stackelberg.poison.partitions import Partitioned, Vote, member_data, part_of, poison_radius


class VoteClaim(Record):
    """What is claimed of one example.

    Attributes:
        index: in the data.
        example: SHA-256 of its numbers in float32.
        label: the right class.
        predicted: the majority's.
        votes: for each class.
        radius: how many training examples may be put in or taken out without a change of `predicted`.
    """

    index: int
    example: str
    label: int
    predicted: int
    votes: tuple[int, ...]
    radius: int


class Poisoning(Document):
    """That a vote's answers stand against poison in the training data.

    Attributes:
        partitions: k.
        claims: one per example.
    """

    kind: str = "poisoning"
    partitions: int
    claims: tuple[VoteClaim, ...]

    def right_at(self, radius: int) -> int:
        """How many examples are right, and stay so with this many poisoned training examples."""
        return sum(claim.predicted == claim.label and claim.radius >= radius for claim in self.claims)


def poison_certificate(made: Partitioned, source: str, data: Dataset, split: str, index: list[int]) -> Poisoning:
    """The claims about some examples of a data set."""
    x, y = data.batch(index)
    answer, radius, votes = made.certified(x)
    claims = tuple(
        VoteClaim(
            index=at, example=example_digest(x[i]), label=int(y[i]), predicted=int(answer[i]),
            votes=tuple(votes[i].tolist()), radius=int(radius[i]),
        )
        for i, at in enumerate(index)
    )  # fmt: skip
    vote = made.vote
    model = ModelSource(source=source, parameters=sum(p.numel() for p in vote.parameters()), weights=fingerprint(vote))
    where = DataSource(source=data.name, split=split, size=len(data))
    return Poisoning(**head(model, where), partitions=len(made.sizes), claims=claims)


def judge(document: Poisoning, claim: VoteClaim, model: nn.Module, x: Tensor, y: Tensor, seconds: float) -> Judgement:
    """See the module."""
    if not isinstance(model, Vote):
        return Judgement(claim.index, "refuted", "", "the network is no vote of partitions")
    votes = tuple(model.votes(x)[0].tolist())
    if votes != claim.votes or len(model.members) != document.partitions:
        return Judgement(claim.index, "refuted", "recount", f"the votes are {list(votes)}")
    winner = max(range(len(votes)), key=lambda label: (votes[label], -label))
    if winner != claim.predicted:
        return Judgement(claim.index, "refuted", "recount", f"the majority is class {winner}")
    least = votes_to_turn(votes, winner)
    if claim.radius >= least:
        return Judgement(claim.index, "refuted", "recount", f"{least} changed votes turn it, claimed {claim.radius}")
    return Judgement(claim.index, "confirmed", "recount", f"{least} changed votes are needed, claimed {claim.radius}")


def votes_to_turn(votes: tuple[int, ...], winner: int) -> int:
    """The least number of votes that an adversary must change until another class wins: played out, rival by rival.

    The cheapest change takes a vote from the winner, as long as it has one, and gives it to the rival.
    """
    least = sum(votes) + 1
    for rival in range(len(votes)):
        if rival == winner:
            continue
        mine, other, moved = votes[winner], votes[rival], 0
        while (mine, -winner) >= (other, -rival):
            mine, other, moved = mine - 1, other + 1, moved + 1
        least = min(least, moved)
    return least


def retrained(made: Partitioned, train: Dataset, part: int) -> bool:
    """Whether training one member again, on its part of these data, gives the same weights, bit for bit."""
    plan = dict(made.plan)
    seed, epochs = plan.pop("seed"), plan.pop("epochs")
    place, digests = part_of(train, len(made.sizes))
    again = learn(
        member_data(train, place, digests, part), made.spec.name, made.spec.width, epochs, seed + part, **plan
    )
    return fingerprint(again) == fingerprint(made.vote.members[part])


def certified_accuracy(made: Partitioned, data: Dataset, most: int) -> Float[Tensor, " R"]:
    """The share of the data that is right and stays so with r = 0 ... `most` poisoned training examples."""
    x, y = data.batch(slice(None))
    answer, radius = poison_radius(made.vote.votes(x))
    right = answer == y
    return torch.stack([(right & (radius >= r)).float().mean() for r in range(most + 1)])


KINDS["poisoning"] = Kind(Poisoning, judge)
