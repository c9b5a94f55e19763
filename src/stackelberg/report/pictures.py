"""How does a bracket look?  Hand-made SVG whose text keeps its size when the picture shrinks to a phone.

Horizontal places are percentages of the width, vertical ones pixels; lines and bands live in an inner picture that is
stretched. Colours are classes that the page's style sheet defines for light and dark.
"""

from collections.abc import Mapping, Sequence
from html import escape

from stackelberg.report.records import CurvePoint, Report
from stackelberg.report.words import percent, radius_words
from stackelberg.threat import Rate

_BAR, _BAR_HEIGHT = 56.0, 30.0
_HEIGHT = 150
_SCALE = (0.0, 0.25, 0.5, 0.75, 1.0)


def _anchor(share: float, edge: float = 0.2) -> str:
    return "start" if share < edge else "end" if share > 1 - edge else "middle"


def _text(share: float, y: float, words: str, css: str = "", anchor: str | None = None) -> str:
    return (
        f'<text x="{100 * share:.2f}%" y="{y:g}" text-anchor="{anchor or _anchor(share)}" class="{css}">'
        f"{escape(words)}</text>"
    )


def _line(a: float, b: float, y1: float, y2: float, css: str) -> str:
    return f'<line x1="{100 * a:.2f}%" x2="{100 * b:.2f}%" y1="{y1:g}" y2="{y2:g}" class="{css}"/>'


def _part(start: float, end: float, css: str) -> str:
    width = max(0.0, end - start)
    return (
        f'<rect x="{100 * start:.2f}%" width="{100 * width:.2f}%" y="{_BAR:g}" height="{_BAR_HEIGHT:g}" class="{css}"/>'
        if width
        else ""
    )


def _whisker(low: float, high: float, y: float, css: str) -> str:
    ends = "".join(_line(x, x, y - 4, y + 4, css) for x in (low, high))
    return _line(low, high, y, y, css) + ends


def bracket(report: Report, name: str = "") -> str:
    """certified <= true <= attacked on a scale from 0 to 100 %, each end with its interval."""
    lower, upper, clean = report.robust.lower, report.robust.upper, report.clean
    bottom = _BAR + _BAR_HEIGHT
    parts = [
        _part(0.0, lower.value, "proved"),
        _part(lower.value, upper.value, "open"),
        _part(upper.value, clean.value, "broken"),
        _part(clean.value, 1.0, "wrong"),
        _line(upper.value, upper.value, 34.0, _BAR, "edge attacked"),
        _whisker(upper.low, upper.high, _BAR - 9, "whisker attacked"),
        _text(upper.value, 28.0, f"attacked {percent(upper.value)}", "label attacked"),
        _line(lower.value, lower.value, bottom, bottom + 22, "edge certified"),
        _whisker(lower.low, lower.high, bottom + 9, "whisker certified"),
        _text(lower.value, bottom + 37, f"certified {percent(lower.value)}", "label certified"),
    ]
    axis = "".join(
        _line(x, x, bottom + 46, bottom + 50, "axis") + _text(x, bottom + 64, f"{100 * x:.0f} %", "tick", _ends(x))
        for x in _SCALE
    )
    words = (
        f"{name + ': ' if name else ''}certified {percent(lower.value)}, attacked {percent(upper.value)},"
        f" right unmoved {percent(clean.value)}; the true robust accuracy lies between the first two"
    )
    return (
        f'<svg class="picture bracket" role="img" width="100%" height="{_HEIGHT}" aria-label="{escape(words)}">'
        f"{''.join(parts)}{_line(0.0, 1.0, bottom + 46, bottom + 46, 'axis')}{axis}</svg>"
    )


def _ends(share: float) -> str:
    return "start" if share == 0 else "end" if share == 1 else "middle"


_TOP, _FLOOR, _LEFT, _RIGHT = 14.0, 250.0, 0.09, 0.98


def _path(points: Sequence[tuple[float, float]], css: str) -> str:
    corners = " ".join(f"{100 * x:.3f},{100 * (1 - y):.3f}" for x, y in points)
    return f'<polyline points="{corners}" class="{css}"/>'


def _band(curve: Sequence[CurvePoint], end: float, css: str) -> str:
    over = [(point.radius / end, point.upper.value) for point in curve]
    under = [(point.radius / end, point.lower.value) for point in reversed(curve)]
    corners = " ".join(f"{100 * x:.3f},{100 * (1 - y):.3f}" for x, y in over + under)
    return f'<polygon points="{corners}" class="{css}"/>'


def _place(radius: float, end: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * radius / end


def _height(value: float) -> float:
    return _FLOOR - (_FLOOR - _TOP) * value


def curves(reports: Mapping[str, Report]) -> str:
    """Accuracy against radius: each report's upper end as a line, its lower end dashed, the unknown between shaded."""
    end = max((point.radius for report in reports.values() for point in report.curve), default=0.0) or 1.0
    shapes, marks = [], []
    for number, (name, report) in enumerate(reports.items()):
        hue = f"series-{number}" if len(reports) > 1 else "single"
        shapes.append(_band(report.curve, end, f"band {hue}"))
        shapes.append(_path([(p.radius / end, p.lower.value) for p in report.curve], f"line lower {hue}"))
        shapes.append(_path([(p.radius / end, p.upper.value) for p in report.curve], f"line upper {hue}"))
        for point in report.curve:
            place = _place(point.radius, end)
            for rate, css in ((point.upper, "upper"), (point.lower, "lower")):
                marks.append(_line(place, place, _height(rate.low), _height(rate.high), f"interval {css} {hue}"))
                marks.append(_dot(place, rate, f"{css} {hue}", _hover(name, report, point.radius, rate, css)))
    first = next(iter(reports.values()))
    return (
        f'<svg class="picture curve" role="img" width="100%" height="300" aria-label="{escape(_told(reports))}">'
        f"{_grid(first, end)}"
        f'<svg x="{100 * _LEFT:.2f}%" y="{_TOP}" width="{100 * (_RIGHT - _LEFT):.2f}%" height="{_FLOOR - _TOP}"'
        f' viewBox="0 0 100 100" preserveAspectRatio="none">{"".join(shapes)}</svg>{"".join(marks)}</svg>'
    )


def _dot(place: float, rate: Rate, css: str, words: str) -> str:
    """A dot, and around it a larger unseen one over which the value is said."""
    at = f'cx="{100 * place:.2f}%" cy="{_height(rate.value):.1f}"'
    reach = f'<circle {at} r="9" class="reach"><title>{escape(words)}</title></circle>'
    return f'<circle {at} r="3" class="dot {css}"/>{reach}'


def _hover(name: str, report: Report, radius: float, rate: Rate, end: str) -> str:
    did = "stood the attack" if end == "upper" else "proved to hold"
    return (
        f"{name} at radius {_said(report, radius)}: {percent(rate.value)} {did}"
        f" ({100 * rate.low:.1f} to {percent(rate.high)})"
    )


def _grid(report: Report, end: float) -> str:
    """Axes; the radius of the audit is marked, the others named where there is room."""
    threat = report.threat
    rows = "".join(
        _line(_LEFT, _RIGHT, _height(y), _height(y), "grid" if y else "axis")
        + _text(_LEFT - 0.012, _height(y) + 4, f"{100 * y:.0f}", "tick", "end")
        for y in _SCALE
    )
    own = _place(threat.radius, end)
    radii, shown = [point.radius for point in report.curve], []
    for radius in sorted(radii, key=lambda radius: (radius != threat.radius, radius != 0, -radius)):
        if all(abs(_place(radius, end) - _place(other, end)) > 0.14 for other in shown):
            shown.append(radius)
    columns = "".join(
        _text(_place(radius, end), _FLOOR + 20, _said(report, radius), "tick", "end" if radius == end else "middle")
        for radius in shown
    )
    return (
        rows
        + columns
        + _line(own, own, _TOP, _FLOOR, "own")
        + _text(_RIGHT, _FLOOR + 42, f"radius, {threat.norm}", "tick", "end")
    )


def _said(report: Report, radius: float) -> str:
    return radius_words(report.threat.norm, radius, report.threat.high)


def _told(reports: Mapping[str, Report]) -> str:
    parts = []
    for name, report in reports.items():
        last = report.curve[-1]
        parts.append(
            f"{name}: from {percent(report.clean.value)} at radius 0 to between {percent(last.lower.value)} and"
            f" {percent(last.upper.value)} at radius {_said(report, last.radius)}"
        )
    return "Robust accuracy against radius. " + "; ".join(parts)
