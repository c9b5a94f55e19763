"""What every network must pass, at a small width; and the standard ones against the literature's numbers."""

from typing import Any

import pytest
import torch

from stackelberg import models
from stackelberg.errors import StackelbergError

WIDTHS = {"mlp": 16, "lenet5": 6, "small-cnn": 4, "vit": 16, "wrn-28-10": 1}
SHARPNESS = {"distance-net": 10}  # its logits move no faster than its input
SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 24, 40)]

every_model = pytest.mark.parametrize("name", models.IMAGE_NAMES)


def small(name, shape=(3, 32, 32), classes=7, **options):
    return models.build(name, classes, shape, width=WIDTHS.get(name, 4), **{"seed": 0, **options})


def images(shape, count=5):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


@every_model
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_have_their_shape_and_gradients_are_finite(name, shape):
    model = small(name, shape)
    x = images(shape).requires_grad_()
    logits = model(x)
    assert logits.shape == (5, 7)
    torch.nn.functional.cross_entropy(logits, torch.arange(5)).backward()
    gradients = [x.grad, *(parameter.grad for parameter in model.parameters())]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


@every_model
def test_the_seed_decides_the_weights_and_leaves_the_global_generator(name):
    state = torch.random.get_rng_state()
    first, again, other = (torch.cat([p.flatten() for p in small(name, seed=s).parameters()]) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.random.get_rng_state())


@every_model
def test_without_a_seed_the_global_generator_decides(name):
    weights = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        weights.append(torch.cat([p.flatten() for p in small(name, seed=None).parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@every_model
def test_weights_survive_a_safetensors_file(name, tmp_path):
    model = small(name, mean=[0.1, 0.2, 0.3], std=[0.5, 0.6, 0.7])
    model(images((3, 32, 32)))  # batch statistics move
    models.save_weights(model, tmp_path / "w.safetensors")
    again = models.load(tmp_path / "w.safetensors")
    assert not again.training
    assert models.spec_of(again) == models.spec_of(model)
    x = images((3, 32, 32))
    assert torch.equal(again(x), model.eval()(x))


@every_model
def test_an_answer_in_evaluation_mode_belongs_to_the_image_alone(name):
    model = small(name).eval()
    x = images((3, 32, 32), 16)
    with torch.no_grad():
        assert torch.equal(model(x), model(x))
        assert torch.allclose(model(x)[3:5], model(x[3:5]), atol=1e-5)
    models.check_output(model, x, 7)


@every_model
def test_torch_fx_traces_it_to_known_layers(name):
    model = small(name, mean=[0.1, 0.2, 0.3], std=[0.5, 0.6, 0.7]).eval()
    graph = torch.fx.symbolic_trace(model)
    x = images((3, 32, 32))
    assert torch.equal(graph(x), model(x))
    modules = dict(graph.named_modules())
    layers = {type(modules[str(node.target)]).__module__ for node in graph.graph.nodes if node.op == "call_module"}
    assert all(layer.startswith("torch.nn.modules") for layer in layers)


@pytest.mark.parametrize(
    ("name", "shape", "count"),
    [
        ("resnet18", (3, 32, 32), 11_173_962),
        ("wrn-28-10", (3, 32, 32), 36_479_194),
        ("preact-resnet18", (3, 32, 32), 11_172_170),
        ("vgg16", (3, 32, 32), 14_724_042),
        ("lenet5", (1, 28, 28), 61_706),
        ("lenet5", (1, 32, 32), 61_706),
        ("small-cnn", (1, 28, 28), 861_610),
        ("vit", (3, 32, 32), 810_890),
    ],
)
def test_the_standard_sizes_are_the_literatures(name, shape, count):
    # ResNet-18 11.17 M, WRN-28-10 36.5 M, VGG-16 14.7 M on CIFAR-10; LeNet-5 about 60,000
    with torch.device("meta"):
        model = models.build(name, 10, shape)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_residual_blocks_do_what_their_formula_says():
    model = small("resnet18").eval()
    block: Any = model.get_submodule("blocks.2")
    x = images((4, 8, 8))
    inner = torch.relu(block.bn1(block.conv1(x)))
    assert torch.equal(block(x), torch.relu(block.bn2(block.conv2(inner)) + block.shortcut(x)))
    block = small("preact-resnet18").eval().get_submodule("blocks.1")
    active = torch.relu(block.bn1(x))
    assert torch.equal(block(x), x + block.conv2(torch.relu(block.bn2(block.conv1(active)))))


def test_a_transformer_needs_whole_patches_and_whole_heads():
    with pytest.raises(StackelbergError, match="multiples of 4, got 30x32"):
        models.build("vit", 10, (3, 30, 32))
    with pytest.raises(StackelbergError, match="multiple of 4"):
        models.build("vit", 10, (3, 32, 32), width=18)


@every_model
def test_it_can_learn(name):
    # every family must fit a handful of images: a dead layer or a lost gradient cannot
    model = small(name, (1, 8, 8), classes=3)
    x, y = images((1, 8, 8), 12), torch.arange(12) % 3
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(model(x) * SHARPNESS.get(name, 1), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5
