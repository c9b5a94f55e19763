"""Who cannot see, or uses no mouse, or prints: counts always, axe-core and a PDF where there is a browser."""

import json
import re
import shutil
import subprocess
import tarfile
from html.parser import HTMLParser
from pathlib import Path

import pytest

from stackelberg.report import Report
from stackelberg.report.page import comparison, page, plain_verdict, taxonomy
from stackelberg.threat import clopper_pearson

STYLE = (Path(__file__).parents[2] / "src/stackelberg/report/templates/style.css").read_text(encoding="utf-8")
AXE = "axe-core@4.10.3"
_VOID = {"meta", "link", "img", "br"}


class Outline(HTMLParser):
    """Headings in order, and for each element the elements around it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.levels: list[int] = []
        self.around: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        self.around.append((tag, dict(attrs), tuple(self._open)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.around.append((tag, dict(attrs), tuple(self._open)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open
        assert self._open.pop() == tag, f"</{tag}> closes another element"


@pytest.fixture(params=["one", "two"])
def html(request: pytest.FixtureRequest, report: Report) -> str:
    other = report.model_copy(update={"model": report.model.model_copy(update={"weights": "f" * 64})})
    return page(report) if request.param == "one" else comparison({"first": report, "second": other})


def test_headings_and_landmarks_are_in_order(html: str) -> None:
    outline = Outline(html)
    assert outline.levels[0] == 1
    assert outline.levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in zip(outline.levels, outline.levels[1:], strict=False))
    tags = [tag for tag, _, _ in outline.around]
    assert [tags.count(tag) for tag in ("header", "main", "footer")] == [1, 1, 1]
    for tag, attributes, around in outline.around:
        if tag == "section":
            assert "aria-labelledby" in attributes
        if tag == "table":
            assert "div" in around
        if tag == "th":
            assert attributes.get("scope") in ("row", "col")


def test_a_keyboard_reaches_what_a_mouse_reaches(html: str) -> None:
    outline = Outline(html)
    identities = {attributes["id"] for _, attributes, _ in outline.around if "id" in attributes}
    links = [attributes for tag, attributes, _ in outline.around if tag == "a"]
    assert links[0] == {"class": "skip", "href": "#content"}
    assert all((link["href"] or "")[1:] in identities for link in links)
    scrolled = [attributes for tag, attributes, _ in outline.around if attributes.get("class") == "scroll"]
    assert scrolled
    assert all(found.get("tabindex") == "0" and found.get("role") == "region" for found in scrolled)
    figures = sum(tag == "figure" for tag, _, _ in outline.around)
    assert figures == sum(link.get("class") == "open-full" for link in links) > 0
    assert ":focus-visible" in STYLE


def test_every_dot_of_the_curve_says_its_value(report: Report) -> None:
    titles = re.findall(r'class="reach"><title>([^<]+)</title>', page(report))
    assert len(titles) == 2 * len(report.curve)
    point = report.curve[1]
    low, high = 100 * point.upper.low, 100 * point.upper.high
    said = f"{100 * point.upper.value:.1f} % stood the attack ({low:.1f} to {high:.1f} %)"
    assert any(title.endswith(said) for title in titles)
    rows = re.findall(r"<summary>The curve as a table</summary>.*?</details>", page(report), re.DOTALL)
    assert rows[0].count("<tr>") == 1 + len(report.curve)


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_words_stand_out_from_their_ground(scheme: int) -> None:
    block = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    pairs = [
        (ink, ground)
        for ink in ("ink", "soft", "certified", "attacked", "second", "third")
        for ground in ("paper", "card")
    ]
    pairs += [("doubt", "doubt-paper"), ("ink", "doubt-paper"), ("soft", "doubt-paper")]
    poor = {pair: contrast(colours[pair[0]], colours[pair[1]]) for pair in pairs}
    assert {pair: round(ratio, 2) for pair, ratio in poor.items() if ratio < 4.5} == {}
    for line in STYLE.splitlines():
        assert " color: var(--faint)" not in line  # which is for lines alone


def with_ends(report: Report, lower: int, upper: int) -> Report:
    ends = {"lower": clopper_pearson(lower, 120), "upper": clopper_pearson(upper, 120)}
    return report.model_copy(update={"robust": report.robust.model_copy(update=ends)})


def test_the_plain_verdict_is_rounded_against_the_model(report: Report) -> None:
    assert plain_verdict(with_ends(report, 60, 60)) == (
        "Of every 100 images like these, this adversary makes the model err on at least 50. On 50 it cannot, and that"
        " is proved."
    )
    said = plain_verdict(with_ends(report, 1, 61))  # 0.83 % and 50.83 %
    assert "at least 49. For none is it proved that it cannot; about the other 51 nobody knows" in said


def test_the_record_names_who_knew_what(report: Report) -> None:
    said = taxonomy(report)
    assert "NIST AI 100-2" in said
    ran = [row.name for row in report.attacks if row.skipped is None]
    assert all(name in said for name in ran)
    black = report.model_copy(
        update={
            "attacks": tuple(
                r if r.name.startswith("square") else r.model_copy(update={"skipped": "x"}) for r in report.attacks
            )
        }
    )
    assert "white-box" not in taxonomy(black)
    assert "black-box, by queries, by square" in taxonomy(black)


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, fetched for this session alone."""
    npm, folder = shutil.which("npm"), tmp_path_factory.mktemp("axe")
    if npm is None:
        pytest.skip("needs npm to fetch axe-core")
    try:
        done = subprocess.run([npm, "pack", "--silent", AXE], cwd=folder, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        pytest.skip("needs axe-core, and the registry does not answer")
    packed = next(folder.glob("*.tgz"), None)
    if done.returncode or packed is None:
        pytest.skip(f"needs axe-core, which could not be fetched: {done.stderr.strip()[-200:]}")
    with tarfile.open(packed) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(html: str, scheme: str, axe: str, browser: str, tmp_path: Path) -> None:
    """All rules of axe-core that it runs by itself, WCAG 2.2 AA and best practice, in both schemes."""
    if scheme == "dark":
        html = html.replace("@media screen and (prefers-color-scheme: dark)", "@media all")
    ask = (
        "axe.run(document, {resultTypes: ['violations']}).then(found => { document.body.textContent = 'found: ' +"
        " JSON.stringify([found.passes.length, found.violations.map(v => [v.id, v.nodes.map(n => n.html + ' ' +"
        " n.failureSummary)])]) })"
    )
    (tmp_path / "page.html").write_text(
        html.replace("</body>", f"<script>{axe}</script><script>{ask}</script></body>"), encoding="utf-8"
    )
    dom = run_browser(browser, tmp_path, "--virtual-time-budget=20000", "--dump-dom")
    told = re.search(r"found: (.*)</body>", dom, re.DOTALL)
    assert told is not None, dom[-500:]
    passes, violations = json.loads(told[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert passes > 15
    assert violations == []


def test_it_prints(html: str, browser: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    run_browser(browser, tmp_path, f"--print-to-pdf={tmp_path / 'page.pdf'}", "--no-pdf-header-footer")
    pdf = (tmp_path / "page.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 12


def run_browser(browser: str, folder: Path, *options: str) -> str:
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
    done = subprocess.run(
        [browser, *quiet, f"--user-data-dir={folder / 'profile'}", *options, (folder / "page.html").as_uri()],
        capture_output=True, timeout=180, check=True, text=True,
    )  # fmt: skip
    return done.stdout
