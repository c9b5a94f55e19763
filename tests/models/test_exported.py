"""The .pt2 gate: what an honest export holds passes, and each way a file could run code is tried and refused."""

import io
import json
import pickle
import zipfile

import pytest
import torch
from torch import nn

from stackelberg import models
from stackelberg.errors import StackelbergError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
ANY = ({0: torch.export.Dim("batch")},)
X = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def network(name="resnet18", width=4):
    return models.build(name, 10, (3, 16, 16), width=width, mean=[0.1] * 3, std=[0.5] * 3, seed=0).eval()


def export(model, path, dynamic_shapes=ANY, x=X):
    torch.export.save(torch.export.export(model, (x,), dynamic_shapes=dynamic_shapes), path)
    return path


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    return export(network(), tmp_path_factory.mktemp("pt2") / "net.pt2")


@pytest.fixture(scope="module")
def answer(honest):
    return models.load(honest)(X)


def tampered(honest, path, change=None, add=None):
    """A copy of an archive, its program changed by a function of (program, root) and records added."""
    with zipfile.ZipFile(honest) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if change and name.endswith("models/model.json"):
                program = json.loads(data)
                change(program)
                data = json.dumps(program).encode()
            if change and name.endswith("weights_config.json"):
                table = json.loads(data)
                change(table)
                data = json.dumps(table).encode()
            if add is None or name.split("/", 1)[1] not in add:
                new.writestr(name, data)
        for name, data in (add or {}).items():
            new.writestr("net/" + name, data)
    return path


@pytest.mark.parametrize(("name", "width"), [("resnet18", 4), ("vit", 16), ("vgg16", 4), ("mlp", 8)])
def test_an_exported_network_answers_as_the_network_did(tmp_path, name, width):
    model = network(name, width)
    again = models.load(export(model, tmp_path / "net.pt2"))
    x = torch.rand(7, 3, 16, 16, requires_grad=True)
    logits = again(x)
    assert torch.allclose(logits, model(x), atol=1e-6)
    logits.sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    models.check_output(again, X, 10)
    assert not again.training


def test_a_users_network_with_common_layers_passes(tmp_path):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, padding="same", padding_mode="reflect")
            self.norm = nn.GroupNorm(2, 8)
            self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
            self.drop = nn.Dropout(0.5)
            self.register_buffer("scale", torch.tensor([2.0]))
            self.head = nn.Linear(8, 10)

        def forward(self, x):
            x = nn.functional.gelu(self.norm(self.stem(x * self.scale)), approximate="tanh")
            x = nn.functional.interpolate(x, scale_factor=0.5, mode="bilinear")
            tokens = torch.einsum("bchw->bhwc", x).reshape(x.shape[0], -1, 8)
            tokens = tokens + self.attend(tokens, tokens, tokens, need_weights=False)[0]
            return self.head(self.drop(tokens.mean(1))) + torch.arange(10, device=x.device)

    model = Own().eval()
    again = models.load(export(model, tmp_path / "own.pt2"))
    assert torch.allclose(again(X[:3]), model(X[:3]), atol=1e-5)


def test_training_mode_is_said(tmp_path):
    with pytest.raises(StackelbergError, match=r"was exported in training mode .*\.eval\(\)"):
        models.load(export(network().train(), tmp_path / "net.pt2"))
    dropping = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(768, 10)).train()
    with pytest.raises(StackelbergError, match="was exported in training mode"):
        models.load(export(dropping, tmp_path / "drop.pt2"))


def test_a_fixed_batch_is_said(tmp_path):
    with pytest.raises(StackelbergError, match="was exported for batches of exactly 4: export it again"):
        models.load(export(network(), tmp_path / "net.pt2", dynamic_shapes=None))


def test_two_inputs_are_said(tmp_path):
    class Two(nn.Module):
        def forward(self, x, y):
            return x.flatten(1) + y.flatten(1)

    torch.export.save(
        torch.export.export(Two(), (X, X), dynamic_shapes=({0: torch.export.Dim("b")},) * 2), tmp_path / "t.pt2"
    )
    with pytest.raises(StackelbergError, match="takes 2 inputs, one tensor of images is needed"):
        models.load(tmp_path / "t.pt2")


def test_damage_is_one_sentence(honest, tmp_path):
    whole = honest.read_bytes()
    path = tmp_path / "net.pt2"
    for length in (0, 10, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:length])
        with pytest.raises(StackelbergError, match=r"is truncated or no program of torch\.export\.save"):
            models.load(path)
    path.write_bytes(whole[: len(whole) // 3] + b"\x00" * 64 + whole[len(whole) // 3 + 64 :])
    with pytest.raises(StackelbergError, match=r"is truncated or no program|cannot be read by torch"):
        models.load(path)


@pytest.mark.parametrize("part", ["graph", "signature", None])
def test_a_program_without_a_part_is_one_sentence(honest, tmp_path, part):
    def leave_out(record):
        if "graph_module" in record:
            whole, name = (record, "graph_module") if part is None else (record["graph_module"], part)
            del whole[name]

    with pytest.raises(StackelbergError, match="holds a program of an unknown form"):
        models.load(tampered(honest, tmp_path / "net.pt2", leave_out))


def test_a_weight_that_is_not_finite_is_named(tmp_path):
    model = network()
    with torch.no_grad():
        model.get_parameter("net.head.bias").fill_(torch.nan)
    with pytest.raises(StackelbergError, match=r"10 of the 10 numbers in '\S*head\S*bias' are NaN"):
        models.load(export(model, tmp_path / "net.pt2"))


def test_a_pickle_named_pt2_is_refused(tmp_path):
    torch.save(network().state_dict(), tmp_path / "net.pt2")
    with pytest.raises(StackelbergError, match="is not loaded: it holds a pickle"):
        models.load(tmp_path / "net.pt2")


def node(program):
    return program["graph_module"]["graph"]["nodes"][0]


def set_target(target):
    def change(program):
        if "graph_module" in program:
            node(program)["target"] = target

    return change


def set_size(expression):
    def change(program):
        if "graph_module" in program:
            sizes = program["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]
            sizes[0] = {"as_expr": {"expr_str": expression, "hint": None}}

    return change


def set_placeholder(name):
    def change(program):
        text = json.dumps(program).replace('"x"', json.dumps(name))
        program.clear()
        program.update(json.loads(text))

    return change


def set_pickled(table):
    if "config" in table:
        next(iter(table["config"].values()))["use_pickle"] = True


def set_tree(program):
    if "graph_module" in program:
        entry = program["graph_module"]["module_call_graph"][0]["signature"]
        entry["in_spec"] = entry["in_spec"].replace("builtins.tuple", "foreign.type", 1)


TAMPERINGS = {
    "a function of the operating system": set_target("torch.os.system"),
    "a loader": set_target("torch.load"),
    "a hub": set_target("torch.hub.load"),
    "an operator that reads files": set_target("torch.ops.aten.from_file.default"),
    "an operator that writes files": set_target("torch.ops.aten.save.default"),
    "a private attribute": set_target("torch.ops.aten.add.__call__"),
    "a foreign library's operator": set_target("torch.ops.foreign.run.default"),
    "an extension": set_target("#foreign.run"),
    "python's operators beyond arithmetic": set_target("_operator.methodcaller"),
    "a call among the sizes": set_size("__import__('os').mkdir('burst')"),
    "a call of a builtin among the sizes": set_size("exec(chr(97))"),
    "an attribute among the sizes": set_size("Symbol('s77').__class__"),
    "a string among the sizes": set_size("Symbol('__import__(1)')"),
    "a lambda among the sizes": set_size("(lambda: 0)()"),
    "code in the name of an input": set_placeholder("x=__import__('os').mkdir('burst')"),
    "a pickled weight": set_pickled,
    "a foreign type": set_tree,
}


@pytest.mark.parametrize("what", TAMPERINGS)
def test_a_program_that_could_run_code_is_refused(honest, tmp_path, what, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tampered(honest, tmp_path / "net.pt2", TAMPERINGS[what])
    with pytest.raises(StackelbergError, match=r"is not loaded: .* could run foreign code; export the network"):
        models.load(path)
    assert not (tmp_path / "burst").exists()


def test_records_that_could_run_code_are_refused_or_left_out(honest, answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Bomb:
        def __reduce__(self):
            import os

            return os.mkdir, ("burst",)

    buffer = io.BytesIO()
    torch.save(Bomb(), buffer)
    path = tampered(honest, tmp_path / "compiled.pt2", add={"data/aotinductor/model/model.so": b"\x7fELF"})
    with pytest.raises(StackelbergError, match="is not loaded: it holds compiled code"):
        models.load(path)
    for name in ("data/sample_inputs/model.pt", "data/weights/model.pt", "data/constants/model.pt"):
        path = tampered(honest, tmp_path / "net.pt2", add={name: buffer.getvalue()})
        assert torch.equal(models.load(path)(X), answer)
    constants = {
        "config": {"c": {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}}
    }
    records = {
        "data/constants/model_constants_config.json": json.dumps(constants),
        "data/constants/opaque_obj_0": pickle.dumps(Bomb()),
    }
    with pytest.raises(StackelbergError, match="c is stored as a pickle"):
        models.load(tampered(honest, tmp_path / "opaque.pt2", add=records))
    assert not (tmp_path / "burst").exists()


def test_guards_and_remarks_do_not_reach_torch(honest, answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def change(program):
        if "graph_module" in program:
            program["guards_code"] = ["__import__('os').mkdir('burst')"]
            for each in program["graph_module"]["graph"]["nodes"]:
                each["metadata"] = {"stack_trace": "'''\nimport os; os.mkdir('burst')\n'''"}

    path = tampered(honest, tmp_path / "net.pt2", change)
    assert torch.equal(models.load(path)(X), answer)
    assert not (tmp_path / "burst").exists()


def test_the_plain_loader_would_have_run_them(honest, tmp_path, monkeypatch):
    # the gate is needed: torch itself runs a guard that a file brings along
    monkeypatch.chdir(tmp_path)

    def change(program):
        if "graph_module" in program:
            program["guards_code"] = ["__import__('os').mkdir('burst') is None"]

    path = tampered(honest, tmp_path / "net.pt2", change)
    torch.export.load(path).module()(X)
    assert (tmp_path / "burst").exists()
