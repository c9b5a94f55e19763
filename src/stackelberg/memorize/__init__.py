"""What is the most robust network there can be for this data?"""

from stackelberg.memorize.answers import Answers
from stackelberg.memorize.by_heart import Recall, by_heart, keep, recall
from stackelberg.memorize.catalogue import KINDS, load, made, save
from stackelberg.memorize.certificate import certificate
from stackelberg.memorize.compact import Compact, compact
from stackelberg.memorize.distance_net import distance_net
from stackelberg.memorize.generalizable import GeneralizableMemorizer, generalizable
from stackelberg.memorize.lipschitz import Certified, LipschitzMemorizer, lipschitz
from stackelberg.memorize.memorizer import NO_ANSWER, Memorizer
from stackelberg.memorize.nearest import Neighbours, class_distances
from stackelberg.memorize.optimal import OptimalMemorizer, optimal
from stackelberg.memorize.separation import Separation, separation
from stackelberg.memorize.thinning import Condensed, condensed, medoids, missing_mass, nearby_set_of, uncovered

__all__ = [
    "KINDS",
    "NO_ANSWER",
    "Answers",
    "Certified",
    "Compact",
    "Condensed",
    "GeneralizableMemorizer",
    "LipschitzMemorizer",
    "Memorizer",
    "Neighbours",
    "OptimalMemorizer",
    "Recall",
    "Separation",
    "by_heart",
    "certificate",
    "class_distances",
    "compact",
    "condensed",
    "distance_net",
    "generalizable",
    "keep",
    "lipschitz",
    "load",
    "made",
    "medoids",
    "missing_mass",
    "nearby_set_of",
    "optimal",
    "recall",
    "save",
    "separation",
    "uncovered",
]
