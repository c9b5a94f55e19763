"""When are the numbers not to be believed?  Each sign says what was found, what it means and what was done.

The signs of masked gradients are those of Athalye, Carlini and Wagner 2018, section 3.1.
"""

from collections.abc import Callable
from dataclasses import dataclass

from stackelberg.report.radii import even_radius
from stackelberg.report.records import Caveat
from stackelberg.report.words import percent, threat_words
from stackelberg.threat import Ball, Rate


@dataclass(frozen=True)
class Seen:
    """What the warnings look at: counts over all batches, and who was audited.

    Attributes:
        ball: the threat.
        n: examples.
        right: of them right unmoved.
        upper: the upper end.
        shape: of one example.
        absent: classes without an example.
        commonest: examples of the commonest class.
        even_standing: standing after a gradient attack at the radius at which all inputs can be made alike.
        zero_gradient: with an input gradient of exactly zero.
        one_step_probed: broken by one step, and asked again with ten.
        one_step_beats_many: of those, not broken by ten.
        square_beats_gradients: broken by score-based search alone.
        fallen: broken by any attack.
        probabilities: whether the model returns probabilities.
        skipped: (attack, why) for attacks that could not run.
        unsupported: per method of proof, why it proved nothing.
        trained: whether the model came in training mode.
        jpeg: whether the images bear traces of JPEG.
    """

    ball: Ball
    n: int
    right: int
    upper: Rate
    shape: tuple[int, ...]
    absent: tuple[str, ...]
    commonest: int
    even_standing: int
    zero_gradient: int
    one_step_probed: int
    one_step_beats_many: int
    square_beats_gradients: int
    fallen: int
    probabilities: bool
    skipped: tuple[tuple[str, str], ...]
    unsupported: dict[str, str]
    trained: bool
    jpeg: bool


def caveats(seen: Seen) -> tuple[Caveat, ...]:
    """All warnings, doubts first."""
    found = [caveat for sign in _SIGNS if (caveat := sign(seen)) is not None]
    return tuple(sorted(found, key=lambda caveat: caveat.weight))  # "doubt" < "note", and sorting keeps the order


def _even(seen: Seen) -> Caveat | None:
    """A true statement about any classifier: at the even radius it keeps at most the commonest class."""
    if seen.even_standing <= seen.commonest + 0.02 * seen.n:
        return None
    radius = even_radius(seen.ball, seen.shape)
    return Caveat(
        code="large-radius",
        weight="doubt",
        found=f"At radius {radius:g}, where every input can be turned into the same grey one, a gradient attack still"
        f" left {percent(seen.even_standing / seen.n)} standing.",
        means=f"No classifier can keep more than {percent(seen.commonest / seen.n)} there, so gradients do not lead the"
        " attack to the errors that exist: they are masked.",
        done="The suite also used losses that do not vanish and search without gradients; the upper end may still be"
        " too high. Look at the certified end.",
    )


def _zero_gradient(seen: Seen) -> Caveat | None:
    if seen.zero_gradient <= 0.02 * max(seen.right, 1):
        return None
    return Caveat(
        code="zero-gradient",
        weight="doubt",
        found=f"On {seen.zero_gradient} of {seen.right} rightly classified examples the input gradient of the loss is"
        " exactly zero.",
        means="An attack by that gradient cannot start there; saturated logits, quantisation or a non-differentiable"
        " layer are common causes.",
        done="Margin-based attacks, which do not saturate, and search without gradients with more queries were used.",
    )


def _square(seen: Seen) -> Caveat | None:
    if seen.square_beats_gradients <= max(1, 0.01 * seen.n):
        return None
    return Caveat(
        code="black-box-beats-gradients",
        weight="doubt",
        found=f"Search without gradients broke {seen.square_beats_gradients} examples that every gradient attack had"
        " left standing.",
        means="Gradients carry more information than scores, so they should not lose: they are masked or noisy.",
        done="The search was given more queries and its successes count; more of them would probably find more.",
    )


def _one_step(seen: Seen) -> Caveat | None:
    if seen.one_step_beats_many <= 0.1 * max(seen.one_step_probed, 10):
        return None
    return Caveat(
        code="one-step-beats-many",
        weight="doubt",
        found=f"Of {seen.one_step_probed} examples that one gradient step broke, ten steps from the same start failed"
        f" on {seen.one_step_beats_many}.",
        means="The loss surface around the examples is jagged, as after training against one-step attacks only; the"
        " gradient points the wrong way nearby.",
        done="All attacks ran with several losses and from random starts; the worst result per example counts.",
    )


def _skipped(seen: Seen) -> Caveat | None:
    if not seen.skipped:
        return None
    names = ", ".join(name for name, _ in seen.skipped)
    return Caveat(
        code="no-gradient",
        weight="doubt",
        found=f"These attacks could not run: {names} ({seen.skipped[0][1]}).",
        means="The upper end rests on search without gradients alone, which is far weaker.",
        done="Audit the differentiable part of the model, or a differentiable substitute, as well.",
    )


def _vacuous(seen: Seen) -> Caveat | None:
    radius = even_radius(seen.ball, seen.shape)
    if seen.ball.radius < radius:
        return None
    return Caveat(
        code="vacuous-radius",
        weight="note",
        found=f"The radius {seen.ball.radius:g} is so large that every input can be turned into the same one"
        f" (from {radius:g} on).",
        means=f"No classifier can be right on more than {percent(seen.commonest / seen.n)} of these examples, so the"
        " number says little about this one.",
        done="Audit at a radius at which a person would still give the right answer.",
    )


def _probabilities(seen: Seen) -> Caveat | None:
    if not seen.probabilities:
        return None
    return Caveat(
        code="probabilities",
        weight="note",
        found="The model returns probabilities, not logits.",
        means="Probabilities near 0 and 1 have no gradient in float32, which blinds gradient attacks.",
        done="Their logarithms were attacked. Audit the model without its last softmax to be sure.",
    )


def _trained(seen: Seen) -> Caveat | None:
    if not seen.trained:
        return None
    return Caveat(
        code="train-mode",
        weight="note",
        found="The model was handed over in training mode.",
        means="Dropout and batch statistics would have made its answers random and dependent on the batch.",
        done="It was attacked in evaluation mode and given back in training mode, unchanged.",
    )


def _wide(seen: Seen) -> Caveat | None:
    width = seen.upper.high - seen.upper.low
    if width <= 0.1:
        return None
    return Caveat(
        code="few-examples",
        weight="note",
        found=f"{seen.n} examples were audited.",
        means=f"That leaves an interval of {100 * width:.1f} points around the upper end.",
        done="Raise n: four times the examples halve the interval.",
    )


def _absent(seen: Seen) -> Caveat | None:
    if not seen.absent:
        return None
    names = ", ".join(seen.absent[:5]) + (f" and {len(seen.absent) - 5} more" if len(seen.absent) > 5 else "")
    return Caveat(
        code="absent-classes",
        weight="note",
        found=f"No example of these classes was audited: {names}.",
        means="The numbers say nothing about them.",
        done="Raise n, or audit a set that holds every class.",
    )


def _unproved(seen: Seen) -> Caveat | None:
    if not seen.unsupported:
        return None
    method, reason = next(iter(seen.unsupported.items()))
    return Caveat(
        code="nothing-proved",
        weight="note",
        found=f"The method {method} proved nothing: {reason}.",
        means="The lower end is 0 for want of a proof, not because the model was broken.",
        done=f"Read the upper end alone, as what {threat_words(seen.ball)} was seen to do.",
    )


def _jpeg(seen: Seen) -> Caveat | None:
    if not seen.jpeg:
        return None
    return Caveat(
        code="jpeg",
        weight="note",
        found="Most high-frequency coefficients of the images' 8x8 blocks are zero, as JPEG compression leaves them.",
        means="If these images are a compressed copy of exact ones (CIFAR-10 is published exact), the copy's error can"
        " be as large as 8/255, and accuracies differ from those published for the exact images.",
        done="The numbers here stand for the images as they are; compare them with others on the same copy only.",
    )


_SIGNS: tuple[Callable[[Seen], Caveat | None], ...] = (
    _even, _zero_gradient, _square, _one_step, _skipped, _vacuous, _probabilities, _trained, _wide, _absent, _unproved,
    _jpeg,
)  # fmt: skip
