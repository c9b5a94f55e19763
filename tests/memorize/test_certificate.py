"""A memorizer's certificate: true ones are confirmed, by distances and through the network; tampered ones fail."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stackelberg import memorize, models
from stackelberg.certify.checking import Checked, check, read_certificate
from stackelberg.data import Dataset, load
from stackelberg.memorize.certificate import Memory


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits", "train")


def written(folder: Path, data: Dataset, kind: str, norm: str, n: int) -> Path:
    kept = data.take(n)
    memorizer = memorize.made(kind, kept.x, kept.y, norm)
    memorize.save(memorizer, folder)
    radius = 0.99 * memorizer.radius
    memorize.certificate(memorizer, str(folder), data, "train", [0, 2, n - 1], radius).to_json(folder / "c.json")
    return folder / "c.json"


def told(path: Path, data: Dataset) -> Checked:
    return check(read_certificate(path), models.load(path.parent), data, 20.0)


@pytest.mark.parametrize(
    ("kind", "norm"), [("optimal", "linf"), ("lipschitz", "linf"), ("lipschitz", "l2"), ("generalizable", "l2")]
)
def test_a_true_certificate_is_confirmed(tmp_path: Path, digits: Dataset, kind: str, norm: str) -> None:
    found = told(written(tmp_path, digits, kind, norm, 300), digits)
    assert found.passed
    assert [judgement.by for judgement in found.judgements] == ["distances"] * 3


@pytest.mark.parametrize("kind", ["optimal", "lipschitz"])
def test_a_small_one_is_proved_through_the_literal_network(tmp_path: Path, kind: str) -> None:
    x = torch.tensor([[[[0, 90]]], [[[200, 20]]], [[[40, 250]]], [[[180, 200]]]], dtype=torch.uint8)
    data = Dataset(x, torch.tensor([0, 1, 2, 1]), ["a", "b", "c"], "four")
    found = told(written(tmp_path, data, kind, "linf", 4), data)
    assert found.passed
    assert [judgement.by for judgement in found.judgements] == ["milp"] * 3


def _first(document: Memory, **changes: Any) -> Memory:
    return document.model_copy(update={"claims": (document.claims[0].model_copy(update=changes), *document.claims[1:])})


TAMPERINGS: dict[str, Callable[[Memory], Memory]] = {
    "radius": lambda d: d.model_copy(update={"radius": d.separation / 2}),
    "separation": lambda d: d.model_copy(update={"separation": d.separation * 1.01}),
    "pair": lambda d: d.model_copy(update={"pair": (d.pair[0], d.pair[0])}),
    "norm": lambda d: d.model_copy(update={"norm": "l2"}),
    "kind": lambda d: d.model_copy(update={"memorizer": "lipschitz"}),
    "label": lambda d: _first(d, label=(d.claims[0].label + 1) % 10),
    "enemy": lambda d: _first(d, enemy=(d.claims[0].enemy + 1) % 300),
    "distance": lambda d: _first(d, distance=d.claims[0].distance + 0.01),
    "example": lambda d: _first(d, index=d.claims[0].index + 1),
    "weights": lambda d: d.model_copy(update={"model": d.model.model_copy(update={"weights": "0" * 64})}),
}


@pytest.mark.parametrize("what", TAMPERINGS)
def test_a_tampered_one_fails_even_with_a_digest_that_fits(tmp_path: Path, digits: Dataset, what: str) -> None:
    path = written(tmp_path, digits, "optimal", "linf", 300)
    document = read_certificate(path)
    assert isinstance(document, Memory)
    TAMPERINGS[what](document).to_json(path)
    assert not told(path, digits).passed


def test_another_stored_point_is_another_network(tmp_path: Path, digits: Dataset) -> None:
    path = written(tmp_path, digits, "optimal", "linf", 300)
    memorizer = memorize.load(tmp_path)
    memorizer.points[7, 20] += 1
    memorize.save(memorizer, tmp_path)
    found = told(path, digits)
    assert any("not the certified one" in fault for fault in found.faults)


def test_what_was_saved_is_what_is_loaded(tmp_path: Path, digits: Dataset) -> None:
    kept = digits.take(50)
    for kind in ("optimal", "lipschitz"):
        made = memorize.made(kind, kept.x, kept.y)
        memorize.save(made, tmp_path)
        again = memorize.load(tmp_path)
        x, _ = digits.batch(range(40, 90))
        assert torch.equal(again.scores(x), made.scores(x))
        assert (again.kind, again.radius, again.separation.value) == (made.kind, made.radius, made.separation.value)
