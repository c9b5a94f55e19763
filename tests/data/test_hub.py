import sys

import pytest
import torch

from stackelberg.data import Dataset, load, save_parquet
from stackelberg.errors import StackelbergError

datasets = pytest.importorskip("datasets", reason="the extra hub is not installed")
huggingface_hub = pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")


@pytest.fixture(autouse=True)
def nothing_at_hand(monkeypatch, tmp_path):
    monkeypatch.delenv("STACKELBERG_DATA", raising=False)
    monkeypatch.setattr("stackelberg.data.sources.SYSTEM", tmp_path)


def hub_set(tmp_path):
    made = Dataset(
        torch.arange(80).to(torch.uint8).view(20, 1, 2, 2), torch.arange(20) % 10, list("abcdefghij"), "made"
    )
    save_parquet(made, tmp_path / "train.parquet")
    return made, datasets.Dataset.from_parquet(str(tmp_path / "train.parquet"), cache_dir=str(tmp_path / "cache"))


def test_the_cache_is_asked_first_and_without_network(tmp_path, monkeypatch):
    made, stored = hub_set(tmp_path)
    asked = []

    def load_dataset(name, split):
        asked.append((name, split, datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE))
        return stored

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    data = load("mnist", "train")
    assert asked == [("ylecun/mnist", "train", True, True)]
    assert not datasets.config.HF_HUB_OFFLINE
    assert torch.equal(data.x, made.x)
    assert data.classes[3] == "3"  # the catalogue's names, not the file's


def test_the_network_is_asked_where_the_cache_has_nothing(tmp_path, monkeypatch):
    made, stored = hub_set(tmp_path)

    def load_dataset(name, split):
        if datasets.config.HF_HUB_OFFLINE:
            raise FileNotFoundError("not cached")
        return stored

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda self, name, timeout: None)
    assert torch.equal(load("mnist").x, made.x)


def test_all_that_was_tried_is_said(monkeypatch):
    def load_dataset(name, split):
        raise FileNotFoundError("not cached")

    def dataset_info(self, name, timeout):
        raise ConnectionError("no route to the hub\nand much more")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    with pytest.raises(StackelbergError) as caught:
        load("mnist")
    assert str(caught.value).startswith("data set mnist not found: STACKELBERG_DATA is not set; ")
    assert "has no idx files; " in str(caught.value)
    assert "did not give ylecun/mnist (no route to the hub). Set STACKELBERG_DATA" in str(caught.value)


def test_without_the_extra_the_mend_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(StackelbergError, match=r"pip install 'stackelberg\[hub\]'"):
        load("cifar10")


def test_any_data_set_of_the_hub_has_an_address(tmp_path, monkeypatch):
    made, stored = hub_set(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: {"me/letters": stored}[name])
    data = load("hub:me/letters")
    assert torch.equal(data.x, made.x)
    assert data.classes == list("abcdefghij")
    assert data.name == "hub:me/letters"
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda self, name, timeout: None)
    with pytest.raises(StackelbergError, match=r"did not give me/none \('me/none'\); check the name"):
        load("hub:me/none")
