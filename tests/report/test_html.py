"""The pages: self-contained, complete, and seen by a browser to fit a phone."""

import io
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.report import Report, audit, compare
from stackelberg.report.page import comparison, headline, page, paired
from stackelberg.report.words import radius_words
from stackelberg.threat import Ball, clopper_pearson

pytestmark = pytest.mark.usefixtures("brief_searches")
_QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip


@pytest.fixture(scope="module")
def other(net: nn.Module, digits: Dataset) -> Report:
    return audit(net, digits, Ball("linf", 0.1), n=120, effort="fast", seed=0, batch_size=120)


@pytest.fixture(params=["one", "two"])
def html(request: pytest.FixtureRequest, report: Report, other: Report) -> str:
    return page(report) if request.param == "one" else comparison({"first": report, "<second>": other})


def _run(browser: str, folder: Path, url: str, *options: str) -> str:
    done = subprocess.run(
        [browser, *_QUIET, f"--user-data-dir={folder / 'profile'}", *options, url],
        capture_output=True, timeout=120, check=True, text=True,
    )  # fmt: skip
    return done.stdout


def test_page_asks_nothing_of_the_network(html: str) -> None:
    for link in re.findall(r"""(?:src|href|srcset|action)\s*=\s*["']?([^"'\s>]+)""", html) + re.findall(
        r"url\(([^)]+)\)", html
    ):
        assert link.startswith(("data:", "#")), link
    assert "<script" not in html
    assert "@import" not in html


def test_page_is_semantic(html: str) -> None:
    assert html.startswith("<!doctype html>")
    assert '<html lang="en">' in html
    assert re.search(r"<title>Robustness \w+", html)
    assert html.count("<h1>") == 1
    images = re.findall(r"<img [^>]+>", html)
    assert images
    assert all(re.search(r'alt="[^"]{10,}"', image) for image in images)
    assert all("aria-label=" in picture for picture in re.findall(r'<svg class="picture[^>]+>', html))
    identities = re.findall(r'\bid="([^"]+)"', html)
    assert len(identities) == len(set(identities))
    for labelled in re.findall(r'aria-labelledby="([^"]+)"', html):
        assert labelled in identities


def test_names_are_escaped(report: Report, other: Report) -> None:
    html = comparison({"first": report, "<second>": other})
    assert "<second>" not in html
    assert "&lt;second&gt;" in html


def test_page_tells_the_numbers(report: Report) -> None:
    html = page(report).replace("\u202f", " ")
    for rate in (report.clean, report.robust.upper, report.robust.lower):
        assert f"{100 * rate.value:.1f} %" in html
    assert f"{100 * report.robust.upper.low:.1f} to {100 * report.robust.upper.high:.1f} %" in html
    assert all(row.name in html for row in report.attacks)
    assert html.count("<figure ") == len(report.gallery) > 0
    assert f'sb.Ball("linf", {report.threat.radius})' in html


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1200, "dark")])
def test_browser_draws_the_page_without_overflow(
    html: str, width: int, scheme: str, browser: str, tmp_path: Path
) -> None:
    """The page, in a frame of the given width, tells its own scroll width; then its picture has ink on its paper."""
    if scheme == "dark":
        html = html.replace("@media screen and (prefers-color-scheme: dark)", "@media all")
    tell = "<script>onload = () => parent.postMessage(document.documentElement.scrollWidth, '*')</script>"
    (tmp_path / "page.html").write_text(html.replace("</body>", tell + "</body>"), encoding="utf-8")
    host = (
        f"<body style='margin:0'><iframe src='page.html' style='border:0;width:{width}px;height:1000px'></iframe>"
        "<script>onmessage = (told) => document.title = 'wide ' + told.data</script>"
    )
    (tmp_path / "host.html").write_text(host, encoding="utf-8")
    url = (tmp_path / "host.html").as_uri()
    dom = _run(browser, tmp_path, url, "--virtual-time-budget=3000", f"--window-size={width},1000", "--dump-dom")
    told = re.search(r"<title>wide (\d+)</title>", dom)
    assert told is not None, dom[:500]
    assert int(told[1]) == width
    shot = tmp_path / "shot.png"
    _run(browser, tmp_path, url, f"--window-size={max(width, 500)},1000", f"--screenshot={shot}")
    grey = np.asarray(Image.open(io.BytesIO(shot.read_bytes())).convert("L").crop((0, 0, width, 1000)), float)
    paper = np.median(grey)
    assert (paper > 230) if scheme == "light" else (paper < 40)
    assert 0.01 < (np.abs(grey - paper) > 60).mean() < 0.6


def test_a_browser_loads_nothing_for_it(html: str, browser: str, tmp_path: Path) -> None:
    """All that the page made the browser load, by the browser's own record, lies in the page."""
    ask = "performance.getEntriesByType('resource').map(one => one.name.slice(0, 60)).join(' ')"
    tell = f"<script>onload = () => document.title = 'loaded: ' + {ask}</script>"
    (tmp_path / "page.html").write_text(html.replace("</body>", tell + "</body>"), encoding="utf-8")
    dom = _run(browser, tmp_path, (tmp_path / "page.html").as_uri(), "--virtual-time-budget=3000", "--dump-dom")
    told = re.search(r"<title>loaded: ?([^<]*)</title>", dom)
    assert told is not None, dom[:500]
    assert [name for name in told[1].split() if not name.startswith("data:")] == []


def test_headline_says_what_is_known(report: Report) -> None:
    def with_ends(lower: int, upper: int) -> Report:
        ends = report.robust.model_copy(
            update={"lower": clopper_pearson(lower, 120), "upper": clopper_pearson(upper, 120)}
        )
        return report.model_copy(update={"robust": ends, "warnings": ()})

    assert headline(with_ends(0, 60)).startswith("At most 50.0\u202f% of its answers survive")
    assert headline(with_ends(30, 60)).startswith("Between 25.0\u202f% and 50.0\u202f%")
    assert "that is proved" in headline(with_ends(60, 60))


def test_comparison_counts_the_examples_on_which_two_differ(report: Report, other: Report) -> None:
    fell = list(report.examples.fell_to)
    standing = [place for place, attack in enumerate(fell) if attack is None]
    for place in standing[:9]:
        fell[place] = "fgsm"
    weaker = report.model_copy(update={"examples": report.examples.model_copy(update={"fell_to": tuple(fell)})})
    assert paired(report, weaker) == (9, 0, pytest.approx(2 * 0.5**9))
    assert paired(report, report) == (0, 0, 1.0)
    elsewhere = report.model_copy(update={"data": report.data.model_copy(update={"name": "other"})})
    assert paired(report, elsewhere) is None


def test_comparison_refuses_what_cannot_be_compared(report: Report, tmp_path: Path) -> None:
    with pytest.raises(StackelbergError, match="two reports or more, got 1"):
        compare({"one": report}, tmp_path / "page.html")
    wider = report.model_copy(update={"threat": report.threat.model_copy(update={"radius": 0.2})})
    with pytest.raises(StackelbergError, match=r"different threats cannot be compared, got linf 0.1, linf 0.2"):
        compare({"one": report, "two": wider}, tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_radii_are_said_in_grey_levels_where_that_is_shorter() -> None:
    said = [radius_words("linf", r) for r in (8 / 255, 4 / 255, 0.5 / 255, 0.1, 0.3, 0.0, 0.031)]
    assert said == ["8/255", "4/255", "0.5/255", "0.1", "0.3", "0", "0.031"]
    assert radius_words("l2", 128 / 255) == "0.502"


def test_out_holds_both_files(net: nn.Module, digits: Dataset, tmp_path: Path) -> None:
    found = audit(net, digits, Ball("linf", 0.1), n=20, effort="fast", out=tmp_path / "new")
    assert Report.from_json(tmp_path / "new" / "report.json") == found
    assert (tmp_path / "new" / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
