"""Clouds in a report: three views, the way of each point, and words that fit."""

import base64
import xml.etree.ElementTree as ElementTree

import pytest
import torch
from torch import Tensor, nn

from stackelberg import report
from stackelberg.data import Dataset
from stackelberg.report.clouds import is_drawing, pictures_of_cloud, views
from stackelberg.report.words import threat_words
from stackelberg.threat import Ball

SVG = "{http://www.w3.org/2000/svg}"
BALL = Ball("linf", 0.3, -1, 1)


def test_each_point_is_drawn_in_three_views_at_its_place() -> None:
    points = torch.tensor([[0.5, -0.5, 1.0], [-1.0, 0.0, 0.0]])
    root = ElementTree.fromstring(views(points))
    dots = [(float(dot.get("cx", "")), float(dot.get("cy", ""))) for dot in root.iter(f"{SVG}circle")]
    assert len(dots) == 6
    assert {(75.0, 0.0), (125.0, 0.0), (275.0, 75.0)} <= set(dots)  # front (x, z), side (y, z), top (x, y)
    assert [text.text for text in root.iter(f"{SVG}text")] == ["front", "side", "top"]


def test_many_points_are_thinned_and_none_leaves_the_picture() -> None:
    root = ElementTree.fromstring(views(3 * torch.randn(2000, 3), most=100))
    dots = [(float(dot.get("cx", "")), float(dot.get("cy", ""))) for dot in root.iter(f"{SVG}circle")]
    assert len(dots) == 300
    assert all(0 <= x <= 300 and 0 <= y <= 100 for x, y in dots)


def test_small_ways_are_drawn_longer_and_pictures_are_known_as_drawings() -> None:
    x = torch.zeros(5, 3)
    moved = x.clone()
    moved[2, 0] = 0.01
    image, way, after, times = pictures_of_cloud(x, moved, BALL)
    assert times == pytest.approx(25.0)
    assert all(is_drawing(picture) for picture in (image, way, after))
    root = ElementTree.fromstring(base64.b64decode(way).decode())
    assert len(list(root.iter(f"{SVG}path"))) == 3
    assert not is_drawing(base64.b64encode(b"\x89PNG\r\n\x1a\n").decode())


class Widest(nn.Module):
    """Along which axis a cloud is widest: three classes, and a little noise changes many answers."""

    def forward(self, x: Tensor) -> Tensor:
        return 5 * x.square().mean(1)


def test_an_audit_of_clouds_speaks_of_clouds(tmp_path) -> None:
    x = (torch.randn(24, 16, 3, generator=torch.Generator().manual_seed(0)) / 4).clamp(-1, 1)
    net = Widest()
    data = Dataset(x, net(x).argmax(1), ["lamp", "sofa", "bath"], "rooms")
    found = report.audit(net, data, BALL, 24, effort="fast", radii=[])
    assert found.gallery, "nothing fell, so nothing is shown"
    assert is_drawing(found.gallery[0].image)
    found.to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "data:image/svg+xml;base64," in page
    assert "Clouds that fell" in page
    assert "every coordinate by up to 0.3" in page
    assert "24 clouds" in page.replace("\u202f", " ")


def test_the_adversary_of_clouds_in_words() -> None:
    words = threat_words(Ball("l2", 0.5, -1, 1))
    assert words == "an adversary who may move a cloud by a Euclidean distance of up to 0.5"
    assert "pixel" in threat_words(Ball("linf", 0.1))
