"""When are the numbers not to be believed?  Each sign says what was found, what it means and what was done.

The signs of masked gradients are those of Athalye, Carlini and Wagner 2018, section 3.1.
"""

from collections.abc import Callable
from dataclasses import dataclass

from stackelberg.attacks.masking import fires
from stackelberg.attacks.order import OTHER_UNITS
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
        signs: (examples that show it, examples asked) for each sign of masked gradients.
        fallen: broken by any attack.
        mends: what hid the gradients and was undone.
        random: whether the model answers at random.
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
    signs: dict[str, tuple[int, int]]
    fallen: int
    mends: tuple[str, ...]
    random: bool
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
        return _far(seen)
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


_THOROUGH = "From then on every attack ran on every standing example, and search without gradients twice as long."


def _sign(code: str, found: str, means: str, done: str = _THOROUGH) -> Callable[[Seen], Caveat | None]:
    """A warning for a sign of masked gradients; `found` names the counts {seen} and {asked}."""

    def sign(seen: Seen) -> Caveat | None:
        if not fires(code, seen.signs):
            return None
        shown, asked = seen.signs[code]
        return Caveat(
            code=code, weight="doubt", found=found.format(seen=shown, asked=asked), means=means, done=done
        )  # fmt: skip

    return sign


_zero_gradient = _sign(
    "zero-gradient",
    "On {seen} of {asked} rightly classified examples the input gradient of the loss is exactly zero.",
    "An attack by that gradient cannot start there; rounding in code of its own, or a layer without slope, are common"
    " causes.",
)
_square = _sign(
    "black-box-beats-gradients",
    "Search without gradients broke {seen} of {asked} examples, which every gradient attack had left standing.",
    "Gradients carry more information than scores, so they should not lose: they are masked or noisy.",
    "The search was given twice its queries, from the worst points once more, and its successes count; still more would"
    " probably find more.",
)
_one_step = _sign(
    "one-step-beats-many",
    "Of {asked} examples that one gradient step broke, ten steps from the same start failed on {seen}.",
    "The loss surface around the examples is jagged, as after training against one-step attacks only; the gradient"
    " points the wrong way nearby.",
)
_no_rise = _sign(
    "no-rise",
    "On {seen} of {asked} standing examples ten gradient steps did not raise the margin at all.",
    "The gradient does not point where the margin grows: part of the way from input to output is hidden from it.",
)
_seeds = _sign(
    "moves-between-seeds",
    "Ten steps from another random start came to another result on {seen} of {asked} examples.",
    "On a smooth loss the start matters little: here the steps are led astray by its roughness.",
)
_far = _sign(
    "large-radius",
    "In a sample of {asked} standing examples, {seen} beyond the commonest class stood a gradient attack at the radius"
    " where every input can be turned into the same grey one.",
    "They are broken there for certain, so gradients do not lead the attack to the errors that exist: they are masked.",
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


_UNDONE = {
    "softmax": "a last softmax was taken off",
    "sigmoid": "a last sigmoid was taken off",
    "tanh": "a last tanh was taken off",
    "clipping": "a last clipping was taken off",
    "labels alone": "the scores that a last choice is made by were attacked",
    "probabilities": "the logarithms of the answers were attacked, in 64 bits where the model allows",
    "rounding": "the gradient was passed straight through rounding",
    "threshold": "the gradient was passed straight through a comparison",
    "stopped gradient": "a gradient that the model stops was let through",
    "trip out of torch": "a trip out of torch and back was taken for the identity by the gradient",
}


def _probabilities(seen: Seen) -> Caveat | None:
    undone = [mend for mend in seen.mends if mend in OTHER_UNITS]
    if not undone:
        return None
    return Caveat(
        code="probabilities",
        weight="note",
        found="The model returns probabilities, clipped scores or a choice, not logits.",
        means="Those near their ends have no gradient in float32, which blinds gradient attacks.",
        done=f"For the attack {', '.join(_UNDONE[mend] for mend in undone)}; every success is one of the model itself.",
    )


def _mended(seen: Seen) -> Caveat | None:
    undone = [mend for mend in seen.mends if mend not in OTHER_UNITS]
    if not undone:
        return None
    return Caveat(
        code="hidden-gradient",
        weight="note",
        found=f"The model hides its gradient: {', '.join(undone)} between input and output.",
        means="An attack by the model's own gradient would find far too little, and its number would be too high.",
        done=f"For the attack {', '.join(_UNDONE[mend] for mend in undone)}; every success is one of the model itself.",
    )


def _random(seen: Seen) -> Caveat | None:
    if not seen.random:
        return None
    return Caveat(
        code="random-answers",
        weight="note",
        found="The model answers at random: two answers to the same inputs differ.",
        means="One gradient, or one lucky success, says little; an example counts as right where most answers are.",
        done="Gradients were averaged over draws, and every success had to hold in most of fresh ones. The numbers"
        " repeat with the same batches only.",
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
    _even, _zero_gradient, _no_rise, _square, _one_step, _seeds, _skipped, _vacuous, _probabilities, _mended, _random,
    _trained, _wide, _absent, _unproved, _jpeg,
)  # fmt: skip
