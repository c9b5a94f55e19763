import pytest
import torch
from safetensors.torch import save_file

from stackelberg.errors import StackelbergError
from stackelberg.models import build, load_weights, save_weights
from stackelberg.models.weights import read_spec


def model(classes=5, width=8):
    return build("mlp", classes, (1, 4, 4), width=width, seed=0)


def test_weights_go_into_a_network_of_the_users_own(tmp_path):
    first, second = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    save_weights(first, tmp_path / "w.safetensors")
    assert read_spec(tmp_path / "w.safetensors") is None
    load_weights(second, tmp_path / "w.safetensors")
    assert torch.equal(first.weight, second.weight)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod."])
def test_the_names_of_a_parallel_or_compiled_network_are_understood(tmp_path, wrapper):
    first, second = model(), build("mlp", 5, (1, 4, 4), width=8, seed=1)
    save_file({wrapper + name: value for name, value in first.state_dict().items()}, tmp_path / "w.safetensors")
    load_weights(second, tmp_path / "w.safetensors")
    assert torch.equal(first(torch.ones(1, 1, 4, 4)), second(torch.ones(1, 1, 4, 4)))


@pytest.mark.parametrize("cut", [0, 4, 30, -1, -500])
def test_a_truncated_file_is_named(tmp_path, cut):
    path = tmp_path / "w.safetensors"
    save_weights(model(), path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(StackelbergError, match=r"w\.safetensors is truncated or no safetensors file"):
        load_weights(model(), path)


def changed(**tensors):
    return {name: value for name, value in {**model().state_dict(), **tensors}.items() if value is not None}


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (changed(**{"layers.3.bias": None}), "has no tensor 'layers.3.bias'; name the network"),
        (changed(**{"layers.3.bias": None, "other": torch.ones(1)}), "it has 'other', which the network does not know"),
        (changed(other=torch.ones(1)), "has a tensor 'other' that the network does not know"),
        (changed(**{"layers.5.bias": torch.ones(7)}), r"'layers.5.bias' has the shape \[7\], the network needs \[5\]"),
        (
            changed(**{"layers.5.bias": torch.tensor([1.0, torch.nan, torch.inf, 0, 0])}),
            "2 of the 5 numbers in 'layers.5.bias'",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named_and_change_nothing(tmp_path, tensors, said):
    save_file(tensors, tmp_path / "w.safetensors")
    target = build("mlp", 5, (1, 4, 4), width=8, seed=1)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(StackelbergError, match=said):
        load_weights(target, tmp_path / "w.safetensors")
    assert all(torch.equal(before[name], value) for name, value in target.state_dict().items())


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    save_weights(model(), path)
    before = path.read_bytes()

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(StackelbergError, match="No space left on device"):
        save_weights(model(width=16), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["w.safetensors"]
