"""Which exhibits are there?"""

from typing import Any

from pydantic import TypeAdapter, ValidationError

from stackelberg.errors import StackelbergError, unknown
from stackelberg.exhibits.aimed import Aimed
from stackelberg.exhibits.any_label import AnyLabel
from stackelberg.exhibits.backdoored import Backdoors
from stackelberg.exhibits.bracket import Bracket
from stackelberg.exhibits.by_heart import ByHeart
from stackelberg.exhibits.cloud_accuracy import CloudAccuracy
from stackelberg.exhibits.cloud_frequencies import CloudFrequencies
from stackelberg.exhibits.cloud_poison import CloudPoison
from stackelberg.exhibits.convex_nash import ConvexNash
from stackelberg.exhibits.deep_confused import DeepConfused
from stackelberg.exhibits.disguises import Disguises
from stackelberg.exhibits.double_descent import DoubleDescent
from stackelberg.exhibits.every_model import EveryModel
from stackelberg.exhibits.exhibit import Exhibit
from stackelberg.exhibits.few_pixels import FewPixels
from stackelberg.exhibits.four_cells import FourCells
from stackelberg.exhibits.generalized import Generalized
from stackelberg.exhibits.lipschitz_memorized import LipschitzMemorized
from stackelberg.exhibits.marked import MarkedData
from stackelberg.exhibits.memorized import Memorized
from stackelberg.exhibits.one_step import OneStep
from stackelberg.exhibits.other_pictures import OtherPictures
from stackelberg.exhibits.poisoned_bounds import PoisonedBounds
from stackelberg.exhibits.robust_optima import RobustOptima
from stackelberg.exhibits.robust_overfitting import RobustOverfitting
from stackelberg.exhibits.separated import Separated
from stackelberg.exhibits.shifted_tests import ShiftedTests
from stackelberg.exhibits.stability_fails import StabilityFails
from stackelberg.exhibits.tiny_change import TinyChange
from stackelberg.exhibits.too_narrow import TooNarrow
from stackelberg.exhibits.two_neurons import TwoNeurons
from stackelberg.exhibits.unavoidable import Unavoidable
from stackelberg.exhibits.uniform_fails import UniformFails
from stackelberg.exhibits.unlearnable import Unlearnable
from stackelberg.exhibits.width_and_samples import WidthAndSamples

_KINDS: tuple[type[Exhibit], ...] = (
    Aimed,
    AnyLabel,
    Backdoors,
    Bracket,
    ByHeart,
    CloudAccuracy,
    CloudFrequencies,
    CloudPoison,
    ConvexNash,
    DeepConfused,
    Disguises,
    DoubleDescent,
    EveryModel,
    FewPixels,
    FourCells,
    Generalized,
    LipschitzMemorized,
    MarkedData,
    Memorized,
    OneStep,
    OtherPictures,
    PoisonedBounds,
    RobustOptima,
    RobustOverfitting,
    Separated,
    ShiftedTests,
    StabilityFails,
    TinyChange,
    TooNarrow,
    TwoNeurons,
    Unavoidable,
    UniformFails,
    Unlearnable,
    WidthAndSamples,
)

EXHIBITS: dict[str, type[Exhibit]] = {kind.id: kind for kind in sorted(_KINDS, key=lambda kind: kind.id)}


def named(id: str, **settings: Any) -> Exhibit:
    """The exhibit with an id, at its own settings but for those given.

    Text is read as its field's type; for several values they are written with commas between: "8,16".

    Raises:
        StackelbergError: no such exhibit or setting, or a value that does not fit.
    """
    if id not in EXHIBITS:
        raise unknown("exhibit", id, EXHIBITS)
    kind = EXHIBITS[id]
    known = kind().settings
    for name in settings:
        if name not in known:
            raise unknown(f"setting of {id}", name, known)
        if isinstance(known[name], tuple) and isinstance(settings[name], str):
            settings[name] = tuple(settings[name].split(",")) if settings[name] else ()
    try:
        return TypeAdapter(kind).validate_python(known | settings)
    except ValidationError as error:
        first = error.errors()[0]
        raise StackelbergError(f"{id}: {first['loc'][0]} got {first['input']!r}: {first['msg'].lower()}") from None
