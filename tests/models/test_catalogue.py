import json

import pytest
import torch

from stackelberg import models
from stackelberg.errors import StackelbergError


def test_a_record_builds_the_same_network_after_json():
    model = models.build("small-cnn", 10, (1, 8, 8), width=4, mean=[0.3], std=[0.4], seed=5)
    spec = models.spec_of(model)
    assert spec is not None
    again = models.Spec.read(json.loads(spec.model_dump_json()))
    assert again == spec
    assert str(again.build()) == str(model)
    assert torch.equal(again.build(seed=5)(torch.ones(1, 1, 8, 8)), model(torch.ones(1, 1, 8, 8)))


def test_a_foreign_module_has_no_record():
    assert models.spec_of(torch.nn.Linear(2, 2)) is None


def test_normalisation_comes_only_when_asked():
    assert not isinstance(models.build("mlp", 3, (1, 8, 8)), models.Normalized)
    assert isinstance(models.build("mlp", 3, (1, 8, 8), mean=[0.1], std=[0.2]), models.Normalized)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "resnet"}, r"unknown model 'resnet': did you mean 'resnet18'\?"),
        ({"classes": 0}, "classes: .* greater than or equal to 1, got 0"),
        ({"shape": (3, 32)}, "shape"),
        ({"shape": (3, 32, 0)}, "shape: 2: .* got 0"),
        ({"width": -1}, "width: .* got -1"),
        ({"mean": [0.1]}, "mean and std must both have 3 numbers"),
        ({"mean": [0.1], "std": [0.2]}, "mean and std must both have 3 numbers"),
    ],
)
def test_arguments_out_of_range_are_named(change, said):
    with pytest.raises(StackelbergError, match=said):
        models.build(**{"name": "resnet18", "classes": 10, "shape": (3, 32, 32), **change})


def test_a_field_that_no_record_has_is_named():
    with pytest.raises(StackelbergError, match=r"run\.json: depth: Extra inputs are not permitted"):
        models.Spec.read({"name": "mlp", "classes": 2, "shape": [1, 2, 2], "depth": 3}, "run.json")
