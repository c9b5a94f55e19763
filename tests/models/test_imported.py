import sys

import pytest
import torch

from stackelberg.errors import StackelbergError
from stackelberg.models import load

CODE = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(16, 3))

def plain():
    return lambda x: x.flatten(1)[:, :3]

class Net(nn.Linear):
    def __init__(self):
        super().__init__(4, 3)

class holder:
    inner = staticmethod(build)

def needs(argument):
    return build()

def fails():
    raise KeyError("checkpoint\\nand more")

def sick():
    net = build()
    nn.init.constant_(net[2].weight, float("nan"))
    return net

made = build()
number = 3
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("")
    (tmp_path / "pkg" / "mod.py").write_text(CODE)
    (tmp_path / "broken.py").write_text("import a_package_that_is_not_there\n")
    (tmp_path / "wrong.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)
    for name in ("pkg", "pkg.mod", "broken", "wrong"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield tmp_path
    for name in ("pkg", "pkg.mod"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("reference", ["pkg.mod:build", "pkg.mod:made", "pkg.mod:holder.inner"])
def test_the_users_network_is_found_from_the_current_directory(here, reference):
    path = list(sys.path)
    model = load(reference)
    assert not model.training
    assert model(torch.rand(2, 1, 4, 4)).shape == (2, 3)
    assert sys.path == path


def test_a_class_is_built_and_a_function_of_images_wrapped(here):
    assert isinstance(load("pkg.mod:Net"), torch.nn.Linear)
    x = torch.rand(2, 1, 4, 4)
    assert torch.equal(load("pkg.mod:plain")(x), x.flatten(1)[:, :3])


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("pkg.mud:build", "there is no module 'pkg.mud', seen from"),
        ("nopkg.mod:build", "there is no module 'nopkg.mod', seen from"),
        ("pkg.mod:biuld", "unknown function in pkg.mod 'biuld': did you mean 'build'"),
        ("pkg.mod:needs", r"calling pkg.mod:needs\(\) failed: TypeError: .*must need no argument"),
        ("pkg.mod:fails", r"calling pkg.mod:fails\(\) failed: KeyError"),
        ("pkg.mod:number", "pkg.mod:number gave a int, needed is an nn.Module"),
        ("pkg.mod:sick", "48 of the 48 numbers in '2.weight' are NaN"),
        ("broken:f", "importing broken failed: ModuleNotFoundError: No module named 'a_package_that_is_not_there'"),
        ("wrong:f", "importing wrong failed: SyntaxError"),
    ],
)
def test_what_goes_wrong_in_the_users_code_is_one_sentence(here, reference, said):
    with pytest.raises(StackelbergError, match=said) as caught:
        load(reference)
    assert "\n" not in str(caught.value)
