"""How many poisoned examples leave the answer as it is?  A vote of networks that share no training example.

Deep partition aggregation (Levine and Feizi, ICLR 2021): a hash of each example alone decides in which of k parts it
lies, and k networks are trained, each on its part, by a training that depends on the part's contents only. An example
put in, taken out or (at a cost of two) altered touches the one part that its hash names, so r of them change at most r
votes, and the majority n_1 against n_2 stands as long as r <= floor((n_1 - n_2 - tie) / 2), where tie is 1 if the
runner-up would win a draw.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from safetensors.torch import save as write_tensors
from torch import Tensor, nn

from stackelberg.attacks import untouched
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.files import replacing, write_text
from stackelberg.models import Spec, build, spec_of
from stackelberg.models.stored import FOLDERS
from stackelberg.models.weights import put, read_weights
from stackelberg.poison.asking import check_images
from stackelberg.poison.learner import learn

RECORD, WEIGHTS = "partition.json", "partition.safetensors"
SCHEMA = "stackelberg.partition/1"


class Vote(nn.Module):
    """k networks that vote; the logits are the counts, a draw goes to the smaller class.

    Attributes:
        members: the networks.
        classes: K.
    """

    def __init__(self, members: list[nn.Module], classes: int) -> None:
        super().__init__()
        self.members, self.classes = nn.ModuleList(members), classes

    @torch.no_grad()
    def votes(self, x: Float[Tensor, "B C H W"]) -> Int64[Tensor, "B K"]:
        """How many networks name each class."""
        count = torch.zeros(len(x), self.classes, dtype=torch.long, device=x.device)
        one = torch.ones(len(x), 1, dtype=torch.long, device=x.device)
        with untouched(self):
            for member in self.members:
                count.scatter_add_(1, member(x).argmax(1, keepdim=True), one)
        return count

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        return self.votes(x).float()


@dataclass(frozen=True, eq=False)
class Partitioned:
    """The vote, and how it was trained.

    Attributes:
        vote: the classifier.
        sizes: examples in each part.
        spec: of every member.
        plan: settings of the training.
    """

    vote: Vote
    sizes: tuple[int, ...]
    spec: Spec
    plan: dict[str, Any]

    def certified(
        self, x: Float[Tensor, "B C H W"]
    ) -> tuple[Int64[Tensor, " B"], Int64[Tensor, " B"], Int64[Tensor, "B K"]]:
        """(class, how many poisoned examples do not change it, votes [B, K])."""
        votes = self.vote.votes(x)
        answer, radius = poison_radius(votes)
        return answer, radius, votes

    def save(self, folder: Path | str) -> None:
        """Write partition.json and partition.safetensors; the folder is a network for `models.load`."""
        where = Path(folder)
        tensors = {name: value.detach().contiguous().clone() for name, value in self.vote.state_dict().items()}
        with replacing(where / WEIGHTS) as scratch:
            scratch.write_bytes(write_tensors(tensors))
        record = {
            "schema": SCHEMA, "partitions": len(self.sizes), "sizes": self.sizes,
            "model": self.spec.model_dump(mode="json"), "plan": self.plan,
        }  # fmt: skip
        write_text(where / RECORD, json.dumps(record, indent=1) + "\n")


def part_of(train: Dataset, partitions: int) -> tuple[Int64[Tensor, " N"], list[str]]:
    """(the part of each example, its SHA-256): by its pixels and its label alone, whatever the other examples are."""
    pixels = train.x.cpu().contiguous().flatten(1).numpy()
    digests = [
        hashlib.sha256(row.tobytes() + int(label).to_bytes(8, "big")).hexdigest()
        for row, label in zip(pixels, train.y.tolist(), strict=True)
    ]
    return torch.tensor([int(digest[:15], 16) % partitions for digest in digests]), digests


def partition(
    train: Dataset, k: int = 50, model: str = "small-cnn", width: int | None = 8, epochs: int = 10, seed: int = 0,
    **recipe: Any,
) -> Partitioned:  # fmt: skip
    """Train k networks, each on the examples whose hash names it.

    Args:
        train: images of at least two classes.
        k: parts; each must hold at least two examples, and more parts certify more poison and answer worse.
        model: a name of `models.NAMES`, of every member.
        width: of it.
        epochs: of each training.
        seed: with the part's number it seeds the member's weights and batches.
        **recipe: fields of `games.Recipe`.

    Raises:
        StackelbergError: points, one class only, fewer than two parts, or a part with fewer than two examples.
    """
    check_images(train)
    if k < 2:
        raise StackelbergError(f"a vote needs at least 2 partitions, got {k}; usual are 50 to 1200")
    place, digests = part_of(train, k)
    sizes = torch.bincount(place, minlength=k)
    if int(sizes.min()) < 2:
        raise StackelbergError(
            f"with {k} partitions of {len(train)} examples one has {int(sizes.min())}, needed are 2; pass fewer"
        )
    members = [
        learn(member_data(train, place, digests, part), model, width, epochs, seed + part, **recipe)
        for part in range(k)
    ]
    spec = spec_of(members[0])
    assert spec is not None
    plan = {"seed": seed, "epochs": epochs, **recipe}
    return Partitioned(Vote(members, len(train.classes)).eval(), tuple(sizes.tolist()), spec, plan)


def member_data(train: Dataset, place: Tensor, digests: list[str], part: int) -> Dataset:
    """The examples of one part in the order of their hashes, so that their order in the data decides nothing."""
    return train.take(sorted((place == part).nonzero()[:, 0].tolist(), key=digests.__getitem__))


def poison_radius(votes: Int64[Tensor, "B K"]) -> tuple[Int64[Tensor, " B"], Int64[Tensor, " B"]]:
    """(majority class, floor((n_1 - max over others (n_c + [c < majority])) / 2)), Levine and Feizi 2021, eq. 10."""
    answer = votes.argmax(1)
    place = torch.arange(votes.shape[1], device=votes.device)
    rivals = votes + (place < answer[:, None])
    rivals.scatter_(1, answer[:, None], -1)
    return answer, (votes.gather(1, answer[:, None])[:, 0] - rivals.amax(1)).div(2, rounding_mode="floor").clamp(min=0)


def load_partitioned(folder: Path | str) -> Partitioned:
    """What `Partitioned.save` wrote.

    Raises:
        StackelbergError: it is none, or damaged.
    """
    path = Path(folder) / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        count, sizes, plan = int(record["partitions"]), tuple(record["sizes"]), dict(record["plan"])
        spec = Spec.read(record["model"], str(path))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise StackelbergError(f"{path} is no {SCHEMA} ({error}); certify with --poison again") from error
    members = [build(spec.name, spec.classes, spec.shape, spec.width, seed=0) for _ in range(count)]
    vote = Vote(members, spec.classes)
    put(read_weights(path.with_name(WEIGHTS)), vote, str(path.with_name(WEIGHTS)))
    return Partitioned(vote.eval(), sizes, spec, plan)


FOLDERS[RECORD] = lambda folder: load_partitioned(folder).vote
