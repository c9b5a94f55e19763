"""Security and generalization of deep networks, as one game.

    import stackelberg as sb

    ball = sb.Ball("linf", 8 / 255)
    sb.solve(sb.games.Adversarial(ball), model, train, out="runs/a")
    sb.audit(model, test, ball).to_html("report.html")

Everything is imported when it is first asked for, so that `stackelberg --help` need not wait for torch.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stackelberg import attacks, bounds, certify, data, games, memorize, models, poison, report, threat
    from stackelberg.errors import StackelbergError
    from stackelberg.games import Equilibrium, solve
    from stackelberg.report import Report, audit
    from stackelberg.threat import Ball, Rate

__version__ = version("stackelberg")

_ROOMS = ("attacks", "bounds", "certify", "data", "games", "memorize", "models", "poison", "report", "threat")
_HOME = {
    "Ball": "threat",
    "Rate": "threat",
    "solve": "games",
    "Equilibrium": "games",
    "audit": "report",
    "Report": "report",
    "StackelbergError": "errors",
}

__all__ = [
    "Ball",
    "Equilibrium",
    "Rate",
    "Report",
    "StackelbergError",
    "attacks",
    "audit",
    "bounds",
    "certify",
    "data",
    "games",
    "memorize",
    "models",
    "poison",
    "report",
    "solve",
    "threat",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"stackelberg.{name}")
    if name in _HOME:
        return getattr(import_module(f"stackelberg.{_HOME[name]}"), name)
    raise AttributeError(f"module 'stackelberg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
