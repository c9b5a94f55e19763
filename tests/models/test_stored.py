import json
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from stackelberg import models
from stackelberg.errors import StackelbergError


def network(seed=0):
    return models.build("small-cnn", 10, (1, 8, 8), width=4, mean=[0.3], std=[0.4], seed=seed).eval()


X = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def run(folder, best=True, last=True, model: object = "spec"):
    """A run's directory as training leaves it."""
    folder.mkdir()
    spec = models.spec_of(network())
    assert spec is not None
    record = {"schema": "stackelberg.run/1", "model": spec.model_dump() if model == "spec" else model}
    (folder / "run.json").write_text(json.dumps(record))
    if best:
        save_file(network(seed=1).state_dict(), folder / "best.safetensors")
    if last:
        save_file(network(seed=2).state_dict(), folder / "last.safetensors")
    return folder


def test_a_run_gives_its_best_weights_else_its_last(tmp_path):
    best, last = models.load(run(tmp_path / "a")), models.load(run(tmp_path / "b", best=False))
    assert torch.equal(best(X), network(seed=1)(X))
    assert torch.equal(last(X), network(seed=2)(X))
    assert not best.training


def test_a_truncated_best_checkpoint_falls_back_and_says_so(tmp_path):
    folder = run(tmp_path / "a")
    os.truncate(folder / "best.safetensors", 2000)
    with pytest.warns(UserWarning, match=r"best\.safetensors is truncated .* last\.safetensors is used instead"):
        model = models.load(folder)
    assert torch.equal(model(X), network(seed=2)(X))
    os.truncate(folder / "last.safetensors", 2000)
    with (
        pytest.warns(UserWarning, match="is used instead"),
        pytest.raises(StackelbergError, match=r"last\.safetensors is truncated"),
    ):
        models.load(folder)


def test_a_checkpoint_of_a_run_is_read_by_itself(tmp_path):
    folder = run(tmp_path / "a")
    assert torch.equal(models.load(folder / "last.safetensors")(X), network(seed=2)(X))


def test_what_a_run_lacks_is_named(tmp_path):
    with pytest.raises(StackelbergError, match=r"holds no checkpoint \(best\.safetensors or last\.safetensors\)"):
        models.load(run(tmp_path / "a", best=False, last=False))
    with pytest.raises(StackelbergError, match="trained from your own code"):
        models.load(run(tmp_path / "b", model=None))
    with pytest.raises(StackelbergError, match=r"run\.json: classes: Field required"):
        models.load(run(tmp_path / "c", model={"name": "mlp", "shape": [1, 8, 8]}))
    (tmp_path / "a" / "run.json").write_text('{"model": {"na')
    with pytest.raises(StackelbergError, match=r"run\.json is truncated or no JSON"):
        models.load(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StackelbergError, match=r"empty is no run: it has no run\.json"):
        models.load(tmp_path / "empty")


def test_bare_weights_need_their_networks_name(tmp_path):
    path = tmp_path / "w.safetensors"
    bare = models.build("small-cnn", 10, (1, 8, 8), width=4, seed=3).eval()
    save_file(bare.state_dict(), path)
    with pytest.raises(
        StackelbergError, match="does not say which network it belongs to: pass its name, classes, shape"
    ):
        models.load(path)
    model = models.load(path, "small-cnn", classes=10, shape=(1, 8, 8), width=4)
    assert torch.equal(model(X), bare(X))
    with pytest.raises(StackelbergError, match="unknown model 'smal-cnn': did you mean 'small-cnn'"):
        models.load(path, "smal-cnn", classes=10, shape=(1, 8, 8))
    with pytest.raises(StackelbergError, match=r"has the shape \[4, 1, 3, 3\], the network needs \[32, 1, 3, 3\]"):
        models.load(path, "small-cnn", classes=10, shape=(1, 8, 8))


def test_a_normalisation_among_the_weights_is_taken_from_them(tmp_path):
    save_file(network().state_dict(), tmp_path / "w.safetensors")
    model = models.load(tmp_path / "w.safetensors", "small-cnn", classes=10, shape=(1, 8, 8), width=4)
    assert torch.equal(model(X), network()(X))


def test_what_is_asked_must_agree_with_what_was_trained(tmp_path):
    path = tmp_path / "w.safetensors"
    models.save_weights(network(), path)
    assert torch.equal(models.load(path, classes=10, shape=[1, 8, 8])(X), network()(X))
    with pytest.raises(StackelbergError, match="was trained with classes 10, asked is 100"):
        models.load(path, classes=100)
    with pytest.raises(StackelbergError, match="was trained with name small-cnn, asked is mlp"):
        models.load(path, "mlp")


class Bomb:
    """A pickle that would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("ending", [".pt", ".pth", ".bin", ".ckpt", ".pkl", ".safetensors", "", ".weights"])
@pytest.mark.parametrize("kind", ["torch", "torch legacy", "plain"])
def test_pickles_are_refused_unread_under_any_name(tmp_path, ending, kind):
    path = tmp_path / f"w{ending}"
    bomb = Bomb(str(tmp_path / "burst"))
    if kind == "plain":
        path.write_bytes(pickle.dumps(bomb))
    else:
        torch.save(bomb, path, _use_new_zipfile_serialization=kind == "torch")
    with pytest.raises(StackelbergError, match=r"is a pickle, which can run any code .* convert it with safetensors"):
        models.load(path)
    assert not (tmp_path / "burst").exists()


def test_other_files_and_places_are_named(tmp_path):
    (tmp_path / "notes.txt").write_text("about")
    with pytest.raises(StackelbergError, match=r"notes\.txt is no network: .* \.safetensors, \.pt2 or \.onnx"):
        models.load(tmp_path / "notes.txt")
    with pytest.raises(StackelbergError, match="there is no network nowhere: pass a run's directory"):
        models.load("nowhere")


@pytest.mark.parametrize("width", [10**5, 2**40, 2**63, 10**30])
def test_a_record_that_lies_about_the_size_takes_no_memory_for_it(tmp_path, width):
    """Such networks would fill any machine; names and shapes are compared before one is built."""
    folder = run(tmp_path / "run", last=False)
    record = json.loads((folder / "run.json").read_text())
    record["model"] |= {"name": "mlp", "width": width}
    (folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(StackelbergError, match=r"has no tensor|cannot be built|has the shape"):
        models.load(folder)


def test_a_record_that_nests_without_end_is_no_record(tmp_path):
    folder = run(tmp_path / "run")
    (folder / "run.json").write_text("[" * 100_000)
    with pytest.raises(StackelbergError, match="it nests too deeply"):
        models.load(folder)


def test_an_outline_has_the_names_and_shapes_of_the_network_and_no_numbers():
    spec = models.spec_of(network())
    assert spec is not None
    outline, built = spec.outline().state_dict(), spec.build(0).state_dict()
    assert {name: value.shape for name, value in outline.items()} == {n: v.shape for n, v in built.items()}
    assert {value.device.type for name, value in outline.items() if name.startswith("net")} == {"meta"}
