"""What does a report say about changed weights?  Frozen records, an optional part of report.json."""

from typing import Literal

from stackelberg.certify.document import Record
from stackelberg.threat import Rate


class WeightRow(Record):
    """One way of changing the weights, and how the network fares with them.

    Attributes:
        change: "none", "random", "adversarial, accuracy", "adversarial, robustness", "stored", "random bits" or
            "chosen bits".
        format: in which the weights are stored: "float32", "bf16" or "int8"; None where they are not.
        flips: bits flipped; None where bits are not what changes.
        trials: independent random changes; 1 where nothing is random.
        clean: accuracy on the examples unmoved, of the worst trial.
        clean_mean: mean over the trials.
        robust: accuracy under the attack on the examples, of the same trial as `clean`.
    """

    change: str
    format: str | None = None
    flips: int | None = None
    trials: int = 1
    clean: Rate
    clean_mean: float
    robust: Rate


class WeightRobustness(Record):
    """How the network fares when its weights are changed; measured, so the truth may be worse.

    Attributes:
        norm: of the change of weights, relative, see `threat.WeightBall`; bits are flipped whatever the norm.
        size: of it.
        attack: with which the robust accuracy is measured, in the report's threat.
        n: examples on which all rows are measured, a random part of those audited.
        known: other examples of the audit, which the attacker of the weights knew.
        rows: one per change.
        measured: always true: an adversary that was not tried may do worse.
    """

    norm: str
    size: float
    attack: str
    n: int
    known: int
    rows: tuple[WeightRow, ...]
    measured: Literal[True] = True
