"""Is a certificate true?  Every claim is verified anew, by another method than the one that made it.

Who checks whom (`CHECKERS`), cheapest first; the claim stands when one of them proves it:

    made by              checked by
    ibp                  zonotope, crown, milp
    zonotope             crown, milp
    crown, alpha-crown   zonotope, dual, milp
    complete             zonotope, dual, milp    (branch and bound rests on the same linear bounds as crown)
    dual, milp           ibp, crown, complete    (both programs begin with ends from zonotopes)
    lipschitz            zonotope, crown, milp
    a broken point       the network itself, in its own precision, at that point
    smoothing            fresh samples, of another seed, with a confidence of their own

Methods share the reading of the network as a graph (`graph`), which is itself compared with the network at random
inputs. A claim is refuted by evidence against it only: a point of the ball where its verdict or its margin fails.
Other kinds of certificate join by an entry in `KINDS`.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from stackelberg import attacks
from stackelberg.attacks.oracle import Oracle
from stackelberg.certify.certificate import Unsupported
from stackelberg.certify.claiming import METHODS, errs, gaps, within
from stackelberg.certify.document import (
    SCHEMA,
    Claim,
    Document,
    Robustness,
    SmoothedClaim,
    Smoothing,
    example_digest,
    unpacked,
)
from stackelberg.certify.graph import graph_of
from stackelberg.certify.smoothing import ABSTAIN, counts, lower_bound
from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError, unknown
from stackelberg.models.weights import fingerprint
from stackelberg.threat import Ball, chance

Outcome = Literal["confirmed", "refuted", "unsettled"]
Tell = Callable[[int, int, str], None]

CHECKERS: dict[str, tuple[str, ...]] = {
    "ibp": ("zonotope", "crown", "milp"),
    "zonotope": ("crown", "milp"),
    "crown": ("zonotope", "dual", "milp"),
    "alpha-crown": ("zonotope", "dual", "milp"),
    "complete": ("zonotope", "dual", "milp"),
    "dual": ("ibp", "crown", "complete"),
    "milp": ("ibp", "crown", "complete"),
    "lipschitz": ("zonotope", "crown", "milp"),
}

_LOOKS = 5  # at fresh samples: n, 2 n, ... 16 n of them; the confidence is shared among the looks
_CLOSE = 1e-4  # relative: how far the graph may be from the float network at random inputs


@dataclass(frozen=True)
class Judgement:
    """What became of one claim: by which method it was confirmed or refuted, and why, in words."""

    index: int
    outcome: Outcome
    by: str
    why: str


@dataclass(frozen=True)
class Checked:
    """What became of a certificate.

    Attributes:
        faults: what is wrong with it as a whole: another network, a changed file.
        judgements: one per claim; none where there are faults that leave nothing to check.
    """

    faults: tuple[str, ...]
    judgements: tuple[Judgement, ...]

    def count(self, outcome: Outcome) -> int:
        """How many claims had this outcome."""
        return sum(judgement.outcome == outcome for judgement in self.judgements)

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the certificate; claims may be unsettled."""
        return not self.faults and not self.count("refuted")


@dataclass(frozen=True)
class Kind:
    """A kind of certificate: how it is written, and how one of its claims is judged.

    Attributes:
        document: its record; must have `claims`, each with `index`, `example` and `label`.
        judge: (document, claim, model, x [1, *shape], y [1], seconds) -> judgement.
    """

    document: type[Document]
    judge: Callable[[Any, Any, nn.Module, Tensor, Tensor, float], Judgement]


def read_certificate(path: str | os.PathLike[str]) -> Document:
    """The certificate in a file.

    Raises:
        StackelbergError: the file cannot be read, is of an unknown kind, or does not follow the schema.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        head = Document.model_validate_json(text, extra="ignore")
    except (OSError, UnicodeDecodeError) as error:
        raise StackelbergError(f"cannot read {path}: {error}; pass a certificate.json") from error
    except ValidationError as error:
        raise _no_certificate(path, error) from error
    if head.kind not in KINDS:
        raise unknown("kind of certificate", head.kind, KINDS)
    try:
        return KINDS[head.kind].document.model_validate_json(text)
    except ValidationError as error:
        raise _no_certificate(path, error) from error


def _no_certificate(path: str | os.PathLike[str], error: ValidationError) -> StackelbergError:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return StackelbergError(f"{path} is no {SCHEMA} certificate: {place}: {first['msg']}; certify again")


def check(
    document: Document, model: nn.Module, data: Dataset, seconds: float = 30.0, tell: Tell | None = None
) -> Checked:
    """Verify every claim of a certificate anew.

    Args:
        document: the certificate.
        model: the network it speaks of; comes back as it was given.
        data: the examples it speaks of.
        seconds: per claim.
        tell: told (claims done, claims, a line of words).
    """
    faults = [*_faults(document, model, data)]
    kind, found = KINDS[document.kind], []
    listed = getattr(document, "claims")  # noqa: B009  # every kind has them, the base has none
    for claim in listed:
        found.append(_judged(kind, document, claim, model, data, seconds))
        if tell is not None:
            tell(len(found), len(listed), f"{found[-1].index}: {found[-1].outcome}")
    return Checked(tuple(faults), tuple(found))


def _faults(document: Document, model: nn.Module, data: Dataset) -> list[str]:
    faults = []
    if document.digest != document.expected_digest():
        faults.append("the file was changed after it was written: its digest does not fit its contents")
    weights = fingerprint(model)
    if weights != document.model.weights:
        faults.append(
            f"this network is not the certified one: its weights are {weights[:12]}, the certificate's"
            f" {document.model.weights[:12]}"
        )
    listed = [claim.index for claim in getattr(document, "claims")]  # noqa: B009
    if len(set(listed)) < len(listed):
        faults.append("an example is listed twice")
    if len(data) != document.data.size:
        faults.append(f"these data have {len(data)} examples, the certificate's had {document.data.size}")
    return faults


def _judged(kind: Kind, document: Document, claim: Any, model: nn.Module, data: Dataset, seconds: float) -> Judgement:
    if not 0 <= claim.index < len(data):
        return Judgement(claim.index, "refuted", "data", f"there are {len(data)} examples")
    x, y = data.batch([claim.index])
    device = next((p.device for p in model.parameters()), x.device)
    if example_digest(x[0]) != claim.example or int(y[0]) != claim.label:
        return Judgement(claim.index, "refuted", "data", "the example's numbers or its label are others")
    return kind.judge(document, claim, model, x.to(device), y.to(device), seconds)


def judge_robustness(
    document: Robustness, claim: Claim, model: nn.Module, x: Tensor, y: Tensor, seconds: float
) -> Judgement:
    """By the table above."""
    ball = Ball(**document.threat.model_dump())
    if claim.verdict == "open":
        return Judgement(claim.index, "confirmed", "", "nothing is claimed")
    if claim.verdict == "broken":
        return _broken(claim, model, x, y, ball)
    if claim.margin is None or claim.margin <= 0:
        return Judgement(claim.index, "refuted", "", f"proved with a margin of {claim.margin}")
    against = _attacked(claim, model, x, y, ball)
    return against or _proved(document.method, claim, model, x, y, ball, seconds)


def _broken(claim: Claim, model: nn.Module, x: Tensor, y: Tensor, ball: Ball) -> Judgement:
    point = None if claim.point is None else unpacked(claim.point, tuple(x.shape[1:]))
    if point is None:
        return Judgement(claim.index, "refuted", "evaluation", "the point is missing or has another shape")
    moved = point[None].to(x.device)
    if not bool(errs(model, moved, x, y, ball)):
        return Judgement(claim.index, "refuted", "evaluation", "the point is outside the ball, or breaks nothing")
    seen = float(gaps(model, moved, y))
    if claim.margin is None or abs(seen - claim.margin) > 1e-3 * max(1.0, abs(seen)):
        return Judgement(claim.index, "refuted", "evaluation", f"the margin at the point is {seen:g}")
    return Judgement(claim.index, "confirmed", "evaluation", f"margin {seen:g} at the point")


def _attacked(claim: Claim, model: nn.Module, x: Tensor, y: Tensor, ball: Ball) -> Judgement | None:
    """Evidence against a proof: a point with a smaller margin than the least one claimed."""
    found = attacks.PGD(ball, 40, restarts=2, payoff="cw", seed=1, stop=False, precision="float32")(model, x, y)
    seen = min(float(gaps(model, found, y)), float(gaps(model, x, y)))
    assert claim.margin is not None
    if seen < claim.margin:
        return Judgement(claim.index, "refuted", "attack", f"a point has the margin {seen:g}, claimed {claim.margin:g}")
    return None


def _proved(
    made_by: str, claim: Claim, model: nn.Module, x: Tensor, y: Tensor, ball: Ball, seconds: float
) -> Judgement:
    left, best, by, reason = within(seconds), -torch.inf, "", "the other methods' bounds are not tight enough"
    if made_by not in CHECKERS:
        raise unknown("method", made_by, CHECKERS)
    for number, method in enumerate(CHECKERS[made_by]):
        if left() <= 0 or (method in ("dual", "milp") and best > 0):  # the verdict stands; a dear method adds little
            break
        share = left() / (len(CHECKERS[made_by]) - number)  # the quick ones leave theirs to the others
        try:
            bound = float(METHODS[method].prove(model, x, y, ball, share)[0].margin)
        except Unsupported as error:
            reason = str(error)
            continue
        if bound > best:
            best, by = bound, method
        if best >= (claim.margin or 0):
            break
    if best <= 0:
        return Judgement(claim.index, "unsettled", "", reason)
    if not _is_read_right(model, x, ball):
        return Judgement(claim.index, "unsettled", by, "the network's graph does not answer as the network does")
    return Judgement(claim.index, "confirmed", by, f"margin at least {best:g}, claimed {claim.margin:g}")


@torch.no_grad()
def _is_read_right(model: nn.Module, x: Tensor, ball: Ball) -> bool:
    """Whether the graph that the checkers read answers like the network, at random inputs around x."""
    keys = chance.fold(chance.example_keys(x, 0).repeat(8), 0) + torch.arange(8, device=x.device)
    points = ball.sample(x.repeat(8, *[1] * (x.dim() - 1)), keys)
    with attacks.untouched(model):
        ours, truth = graph_of(model, tuple(x.shape[1:])).forward(points), model(points).double()
    return bool((ours - truth).abs().max() <= _CLOSE * truth.abs().max().clamp(min=1))


def judge_smoothing(
    document: Smoothing, claim: SmoothedClaim, model: nn.Module, x: Tensor, y: Tensor, seconds: float
) -> Judgement:
    """Fresh samples: confirmed when their lower bound reaches the claimed probability, refuted if the upper misses it.

    Up to 16 times the certificate's samples are drawn, in five looks, each at a fifth of alpha.
    """
    if claim.predicted == ABSTAIN or claim.radius <= 0:
        return Judgement(claim.index, "confirmed", "", "nothing is claimed")
    claimed = float(torch.special.ndtr(torch.tensor(claim.radius / document.sigma, dtype=torch.float64)))
    left, hits, drawn, words = within(seconds), 0, 0, ""
    with attacks.untouched(model):
        oracle = Oracle(model, "float32")
        for look in range(_LOOKS):
            fresh = document.n * 2**look - drawn
            keys = chance.fold(chance.example_keys(x, document.seed + 1), 2 + look)
            votes = counts(oracle, x, document.sigma, fresh, keys)[0]
            if claim.predicted >= len(votes):
                return Judgement(claim.index, "refuted", "fresh samples", f"there is no class {claim.predicted}")
            hits, drawn = hits + int(votes[claim.predicted]), drawn + fresh
            low = lower_bound(hits, drawn, document.alpha / _LOOKS)
            high = 1 - lower_bound(drawn - hits, drawn, document.alpha / _LOOKS)
            words = f"{hits} of {drawn} fresh samples, claimed probability {claimed:.6g}"
            if high < claimed:
                return Judgement(claim.index, "refuted", "fresh samples", words)
            if low >= claimed:
                return Judgement(claim.index, "confirmed", "fresh samples", words)
            if left() <= 0:
                break
    return Judgement(claim.index, "unsettled", "fresh samples", words)


KINDS: dict[str, Kind] = {
    "robustness": Kind(Robustness, judge_robustness),
    "smoothing": Kind(Smoothing, judge_smoothing),
}
"""The kinds of certificate by name; another room adds its own by an entry."""
