"""Do the talk's figures and tables come out?

X.-S. Gao, "Mathematical Theory of Deep Learning: Security and Generalization" (2024). One file for each figure or
table; each measures it anew, puts the published number beside ours, and says what came out with its intervals.
"""

from stackelberg.exhibits.catalogue import EXHIBITS, named
from stackelberg.exhibits.exhibit import Exhibit, Measured, Outcome, Result
from stackelberg.exhibits.many import Failed, reproduce_all
from stackelberg.exhibits.networks import Network
from stackelberg.exhibits.reproducing import read_results, reproduce
from stackelberg.exhibits.stage import Stage
from stackelberg.exhibits.table import table

__all__ = [
    "EXHIBITS",
    "Exhibit",
    "Failed",
    "Measured",
    "Network",
    "Outcome",
    "Result",
    "Stage",
    "named",
    "read_results",
    "reproduce",
    "reproduce_all",
    "table",
]
