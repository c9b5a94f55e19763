"""How do the findings of all batches become one report?  By counting; and a contradiction stops it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stackelberg.attacks.suite import CLEAN
from stackelberg.errors import StackelbergError
from stackelberg.report.caveats import Seen, caveats
from stackelberg.report.finding import BatchFinding, Plan, Timing
from stackelberg.report.gallery import Fallen, varied
from stackelberg.report.records import (
    AttackRow,
    Bracket,
    CertificateRow,
    CurvePoint,
    DataRecord,
    Environment,
    Exhibit,
    ModelRecord,
    Outcomes,
    Report,
    Settings,
    Threat,
)  # fmt: skip
from stackelberg.threat import clopper_pearson


class Contradiction(StackelbergError):
    """An example is both proved safe and broken: the proof or the attack is wrong, so no number may be reported."""


@dataclass(frozen=True)
class Subject:
    """Who is audited: the same for every batch.

    Attributes:
        model: which network.
        data: which examples.
        trained: whether the model came in training mode.
        jpeg: whether the images bear the traces of JPEG compression.
        batch_size: examples per batch.
    """

    model: ModelRecord
    data: DataRecord
    trained: bool
    jpeg: bool
    batch_size: int


def merge(
    findings: Sequence[tuple[BatchFinding, Timing]], plan: Plan, subject: Subject, environment: Environment
) -> Report:
    """The report from the findings of all batches, in any order.

    Raises:
        Contradiction: an example that is certified at a radius was broken at it or at a smaller one.
    """
    findings = sorted(findings, key=lambda pair: pair[0].index)
    batches = [finding for finding, _ in findings]
    proved = [_union(batch) for batch in batches]
    for batch, depths in zip(batches, proved, strict=True):
        _refuse_contradiction(batch, depths, plan)
    n = sum(len(batch.index) for batch in batches)
    broken_from = [place for batch in batches for place in batch.broken_from]
    depths = [depth for part in proved for depth in part]
    curve = tuple(
        CurvePoint(
            radius=radius,
            upper=clopper_pearson(sum(at > place for at in broken_from), n),
            lower=clopper_pearson(sum(depth > place for depth in depths), n),
        )
        for place, radius in enumerate(plan.radii)
    )
    rows = _attack_rows(findings, curve[0].upper.hits, n)
    return Report(
        threat=Threat.model_validate(vars(plan.ball)),
        n=n,
        clean=curve[0].upper,
        robust=Bracket(upper=curve[plan.place].upper, lower=curve[plan.place].lower),
        attacks=rows,
        certificates=_certificate_rows(findings, plan, n),
        warnings=caveats(_seen(batches, plan, subject, curve, rows)),
        curve=curve,
        gallery=_gallery([item for batch in batches for item in batch.gallery], plan, subject),
        examples=Outcomes(
            label=tuple(label for batch in batches for label in batch.label),
            fell_to=tuple(_fell_to(batch, at) for batch in batches for at in batch.fell_to),
            broken_from=tuple(broken_from),
            certified=tuple(depths),
        ),
        model=subject.model,
        data=subject.data,
        settings=Settings(
            seed=plan.seed, effort=plan.effort, batch_size=subject.batch_size, radii=plan.radii, gallery=plan.gallery
        ),
        environment=environment,
    )


def _union(batch: BatchFinding) -> list[int]:
    """Per example, how many leading radii some method proves."""
    return [max(depths) for depths in zip(*batch.certified.values(), strict=True)]


def _refuse_contradiction(batch: BatchFinding, depths: Sequence[int], plan: Plan) -> None:
    for place, (depth, at) in enumerate(zip(depths, batch.broken_from, strict=True)):
        if depth > at:
            method = next(name for name, own in batch.certified.items() if own[place] == depth)
            raise Contradiction(
                f"example {batch.index[place]} is certified by {method} up to radius {plan.radii[depth - 1]:g} and was"
                f" broken at radius {plan.radii[at]:g}: the proof or the attack is wrong, so nothing is reported;"
                " please file this with the model"
            )


def _fell_to(batch: BatchFinding, at: int) -> str | None:
    return batch.steps[at].name if at >= 0 else "" if at == CLEAN else None


def _keys(batch: BatchFinding) -> list[tuple[str, int]]:
    """The steps of a batch, told apart where an attack ran twice."""
    names = [step.name for step in batch.steps]
    return [(name, names[:place].count(name)) for place, name in enumerate(names)]


def _order(batches: Sequence[BatchFinding]) -> list[tuple[str, int]]:
    """All steps in an order that agrees with every batch's: a step new in a batch follows its predecessor there."""
    order: list[tuple[str, int]] = []
    for batch in batches:
        after = 0
        for key in _keys(batch):
            if key not in order:
                order.insert(after, key)
            after = order.index(key) + 1
    return order


def _attack_rows(findings: Sequence[tuple[BatchFinding, Timing]], right: int, n: int) -> tuple[AttackRow, ...]:
    rows, standing = [], right
    for key in _order([batch for batch, _ in findings]):
        broken = forwards = backwards = passed_over = 0
        seconds, reasons = 0.0, []
        for batch, timing in findings:
            keys = _keys(batch)
            if key not in keys:
                continue
            place = keys.index(key)
            step = batch.steps[place]
            broken += batch.fell_to.count(place)
            forwards, backwards = forwards + step.forwards, backwards + step.backwards
            passed_over += step.passed_over
            seconds += timing.attacks[place]
            reasons.append(step.skipped)
        standing -= broken
        rows.append(
            AttackRow(
                name=key[0],
                robust_after=standing / n,
                broken=broken,
                seconds=round(seconds, 3),
                forwards=forwards,
                backwards=backwards,
                skipped=reasons[0] if all(reasons) else None,
                passed_over=passed_over,
            )
        )
    return tuple(rows)


def _certificate_rows(
    findings: Sequence[tuple[BatchFinding, Timing]], plan: Plan, n: int
) -> tuple[CertificateRow, ...]:
    rows = []
    for method in findings[0][0].certified:
        proved = sum(depth > plan.place for batch, _ in findings for depth in batch.certified[method])
        reasons = [batch.unsupported[method] for batch, _ in findings if method in batch.unsupported]
        seconds = sum(timing.proofs[method] for _, timing in findings)
        rows.append(
            CertificateRow(
                method=method, certified=proved, n=n, seconds=round(seconds, 3), unsupported=next(iter(reasons), None)
            )
        )
    return tuple(rows)


def _seen(
    batches: Sequence[BatchFinding],
    plan: Plan,
    subject: Subject,
    curve: Sequence[CurvePoint],
    rows: Sequence[AttackRow],
) -> Seen:
    labels = [label for batch in batches for label in batch.label]
    counts = [labels.count(label) for label in range(len(subject.data.classes))]
    return Seen(
        ball=plan.ball,
        n=len(labels),
        right=curve[0].upper.hits,
        upper=curve[plan.place].upper,
        shape=subject.data.shape,
        absent=tuple(name for name, count in zip(subject.data.classes, counts, strict=True) if not count),
        commonest=max(counts),
        even_standing=sum(batch.even_standing for batch in batches),
        signs=_signs(batches),
        fallen=sum(at >= 0 for batch in batches for at in batch.fell_to),
        mends=tuple(sorted({mend for batch in batches for mend in batch.mends})),
        random=any(batch.random for batch in batches),
        skipped=tuple((row.name, row.skipped) for row in rows if row.skipped),
        unsupported=batches[0].unsupported,
        trained=subject.trained,
        jpeg=subject.jpeg,
    )


def _signs(batches: Sequence[BatchFinding]) -> dict[str, tuple[int, int]]:
    total: dict[str, tuple[int, int]] = {}
    for batch in batches:
        for code, (seen, asked) in batch.signs.items():
            before = total.get(code, (0, 0))
            total[code] = before[0] + seen, before[1] + asked
    return total


def _gallery(items: Sequence[Fallen], plan: Plan, subject: Subject) -> tuple[Exhibit, ...]:
    chosen = [items[place] for place in varied([item.label for item in items], plan.gallery)]
    name = _names(subject.data.classes)
    return tuple(
        Exhibit(
            index=item.index,
            label=name(item.label),
            before=name(item.label),
            before_confidence=round(item.before_confidence, 6),
            after=name(item.after),
            after_confidence=round(item.after_confidence, 6),
            attack=item.attack,
            distance=item.distance,
            image=item.image,
            difference=item.difference,
            moved=item.moved,
            amplified=item.amplified,
        )
        for item in chosen
    )


def _names(classes: Sequence[str]) -> Callable[[int], str]:
    """Class names by number; a model may have more outputs than the data has names."""
    return lambda number: classes[number] if number < len(classes) else f"class {number}"
