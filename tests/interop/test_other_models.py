"""Networks of other libraries: estimators, records with logits, modules with extra methods, folders of weights."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from stackelberg import models
from stackelberg.attacks import PGD, suite
from stackelberg.data import Dataset, load
from stackelberg.errors import StackelbergError
from stackelberg.report import audit
from stackelberg.threat import Ball

BALL = Ball("linf", 0.1)


def rows(data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    x, y = data.batch(slice(None))
    return x.flatten(1).numpy(), y.numpy()


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(*rows(load("digits", "train")))


def test_a_pipeline_of_scikit_learn_is_audited(pipeline: Any, digits: Dataset) -> None:
    box = models.of_estimator(pipeline)
    few = digits.take(6)
    report = audit(box, few, Ball("linf", 0.4), effort="fast", gallery=0, radii=())
    x, y = rows(few)
    assert report.clean.value == pytest.approx(pipeline.score(x, y))
    assert report.robust.lower.hits == 0
    assert report.robust.upper.value < report.clean.value
    ran = [row.name for row in report.attacks if row.skipped is None]
    assert ran
    assert all(name.startswith("square") for name in ran)


def test_an_estimator_without_probabilities_gives_labels(digits: Dataset) -> None:
    machine = LinearSVC().fit(*rows(load("digits", "train").take(300)))
    box = models.of_estimator(machine)
    x, _ = digits.batch(slice(0, 20))
    assert box.labels
    assert np.array_equal(box(x).argmax(1).numpy(), machine.predict(x.flatten(1).numpy()))


def test_estimators_that_cannot_be_asked_are_refused() -> None:
    with pytest.raises(StackelbergError, match="no fitted classifier"):
        models.of_estimator(LogisticRegression())
    named = SimpleNamespace(predict=lambda x: x, classes_=np.array(["cat", "dog"]))
    with pytest.raises(StackelbergError, match=r"must be 0 to 1, got \['cat', 'dog'\]"):
        models.of_estimator(named)


def test_code_that_gives_an_estimator_is_a_network(
    pipeline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Dataset
) -> None:
    (tmp_path / "own_estimators.py").write_text(
        "import numpy as np\nfrom types import SimpleNamespace\n"
        "def ask(x):\n    return (9 * x.mean(1)).astype(int)\n"
        "def bright():\n    return SimpleNamespace(classes_=np.arange(10), predict=ask)\n"
    )
    monkeypatch.chdir(tmp_path)
    found = models.load("own_estimators:bright")
    x, _ = digits.batch(slice(0, 5))
    assert found(x).argmax(1).tolist() == (9 * x.flatten(1).double().mean(1)).long().tolist()


@dataclass
class Record:
    logits: Tensor
    hidden_states: None = None


class LikeTransformers(nn.Module):
    """A network that answers with a record, and declares the name of its input."""

    main_input_name = "pixel_values"

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.config = net, SimpleNamespace(model_type="tiny")

    def forward(self, pixel_values: Tensor) -> Record:
        return Record(self.net(pixel_values))


def test_a_network_that_answers_with_a_record_is_attacked_like_its_logits(net: nn.Module, digits: Dataset) -> None:
    x, y = digits.batch(slice(0, 40))
    other = LikeTransformers(net).eval()
    assert torch.equal(PGD(BALL, 5)(other, x, y), PGD(BALL, 5)(net, x, y))
    assert (
        suite(BALL, "fast", patience=50).run(other, x, y).robust
        == suite(BALL, "fast", patience=50).run(net, x, y).robust
    )
    few, wide = digits.take(6), Ball("linf", 0.4)
    mine, theirs = (audit(model, few, wide, effort="fast", gallery=0, radii=()) for model in (net, other))
    assert mine.robust == theirs.robust


def test_another_record_is_refused_with_the_mend(net: nn.Module, digits: Dataset) -> None:
    class Undeclared(nn.Module):
        def forward(self, x: Tensor) -> Record:
            return Record(net(x))

    x, _ = digits.batch(slice(0, 4))
    with pytest.raises(StackelbergError, match=r"returns a Record, .*; pass models.LogitsOf\(network\)"):
        models.check_output(Undeclared(), x, 10)
    models.check_output(models.LogitsOf(Undeclared()), x, 10)
    with pytest.raises(StackelbergError, match="answers with a Tensor without logits"):
        models.LogitsOf(net)(x)


@pytest.mark.filterwarnings("default")  # of the other library, whatever it has to say
def test_a_vit_of_transformers_is_audited(digits: Dataset) -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers, which is not installed here")
    config = transformers.ViTConfig(
        image_size=8, patch_size=4, num_channels=1, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, num_labels=10,
    )  # fmt: skip
    torch.manual_seed(0)
    vit = transformers.ViTForImageClassification(config).eval()
    report = audit(vit, digits, Ball("linf", 0.4), 6, effort="fast", gallery=0, radii=())
    x, y = digits.take(torch.tensor(report.data.index)).batch(slice(None))
    with torch.no_grad():
        assert report.clean.hits == int((vit(x).logits.argmax(1) == y).sum())


class LikeTimm(nn.Module):
    """A module in the style of timm: features and head apart, and a configuration."""

    default_cfg = {"input_size": (1, 8, 8), "num_classes": 10}  # noqa: RUF012  # as timm has it

    def __init__(self) -> None:
        super().__init__()
        self.num_classes = 10
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.SiLU())
        self.global_pool, self.fc = nn.AdaptiveAvgPool2d(2), nn.Linear(32, 10)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.stem(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = self.global_pool(x).flatten(1)
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def test_a_module_in_the_style_of_timm_is_attacked_and_left_as_it_was(digits: Dataset) -> None:
    torch.manual_seed(0)
    net = LikeTimm().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x, y = digits.batch(slice(0, 20))
    moved = PGD(BALL, 3)(models.Normalized(net, (0.3,), (0.4,)), x, y)
    assert BALL.contains(moved, x).all()
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_a_folder_with_one_file_of_weights_is_a_network(net: nn.Module, tmp_path: Path, digits: Dataset) -> None:
    """As collections of robust models lay them out: a folder a model, its state in one file, its name elsewhere."""
    folder = tmp_path / "digits" / "Linf" / "Someone2026"
    folder.mkdir(parents=True)
    save_file(net.state_dict(), folder / "model.safetensors")
    x, _ = digits.batch(slice(0, 5))
    found = models.load(folder, "mlp", classes=10, shape=(1, 8, 8), width=32)
    assert torch.equal(found(x), net(x))
    save_file(net.state_dict(), folder / "other.safetensors")
    with pytest.raises(StackelbergError, match="holds 2 files of weights"):
        models.load(folder, "mlp", classes=10, shape=(1, 8, 8), width=32)
    for path in folder.iterdir():
        path.unlink()
    torch.save(net.state_dict(), folder / "Someone2026.pt")
    with pytest.raises(StackelbergError, match="is a pickle"):
        models.load(folder, "mlp", classes=10, shape=(1, 8, 8), width=32)
