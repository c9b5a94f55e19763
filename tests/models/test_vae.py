"""A VAE: its loss is the closed forms' sum, its parts fit, and its file holds no code and refuses what does not fit."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import distributions as laws

from stackelberg import models
from stackelberg.errors import StackelbergError
from stackelberg.models import VAE, load_vae, save_vae
from stackelberg.models.vae import Seen, divergence

DRAW = torch.Generator().manual_seed(0)
X = torch.rand(5, 1, 8, 8, generator=DRAW).round()


def vae(critic: bool = False) -> VAE:
    torch.manual_seed(0)
    return VAE((1, 8, 8), latent=3, width=4, critic=critic).eval()


def test_the_divergence_is_that_of_two_normal_laws() -> None:
    mean, log_variance = torch.randn(6, 4, generator=DRAW), torch.randn(6, 4, generator=DRAW)
    posterior = laws.Normal(mean, (log_variance / 2).exp())
    expected = laws.kl_divergence(posterior, laws.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(divergence(mean, log_variance), expected)
    torch.testing.assert_close(divergence(torch.zeros(1, 4), torch.zeros(1, 4)), torch.zeros(1))


def test_the_loss_is_minus_the_bound_of_bernoulli_pixels() -> None:
    net = vae()
    seen = net.seen(net(X))
    nats = -laws.Bernoulli(logits=seen.logits).log_prob(X).flatten(1).sum(1)
    kl = laws.kl_divergence(laws.Normal(seen.mean, (seen.log_variance / 2).exp()), laws.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(net.loss(seen, X), nats + kl)


def test_the_bound_is_below_the_evidence() -> None:
    """One binary latent's worth of checking: E_q log p(x|z) - KL <= log E_p p(x|z), both by many draws."""
    net = vae()
    mean, log_variance = net.encode(X[:1])
    z = mean + (log_variance / 2).exp() * torch.randn(4000, 3, generator=DRAW)
    with torch.no_grad():
        bound = -net.distortion(net.decode(z), X[:1].expand(4000, -1, -1, -1)).mean() - divergence(mean, log_variance)
        prior = torch.randn(4000, 3, generator=DRAW)
        each = -net.distortion(net.decode(prior), X[:1].expand(4000, -1, -1, -1))
    assert float(bound) <= float(each.logsumexp(0) - torch.tensor(4000.0).log()) + 0.05


def test_what_forward_says_is_what_its_parts_are() -> None:
    net = vae()
    seen = net.seen(net(X))
    mean, log_variance = net.encode(X)
    assert isinstance(seen, Seen)
    torch.testing.assert_close(seen.mean, mean)
    torch.testing.assert_close(seen.log_variance, log_variance)
    torch.testing.assert_close(seen.logits.sigmoid(), net.reconstruct(X))
    assert torch.equal(net.sample(4, seed=1), net.sample(4, seed=1))
    assert not torch.equal(net.sample(4, seed=1), net.sample(4, seed=2))


def test_a_critic_counts_features_and_not_pixels() -> None:
    net = vae(critic=True)
    logits = torch.logit(X.clamp(1e-6, 1 - 1e-6))
    assert (net.distortion(logits, X) < 1e-3).all()
    assert (net.distortion(-logits, X) > 1).all()
    assert (net.distortion(-logits, X) <= 2 * net.critic.features(X).flatten(1).shape[1]).all()  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize("critic", [False, True])
def test_a_file_gives_the_same_network_back(critic: bool, tmp_path: Path) -> None:
    net = vae(critic)
    save_vae(net, tmp_path / "vae.safetensors")
    back = load_vae(tmp_path / "vae.safetensors")
    assert not back.training
    assert (back.critic is not None) == critic
    torch.testing.assert_close(back(X), net(X), rtol=0, atol=0)


def test_files_that_are_no_vae_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(StackelbergError, match="holds no VAE"):
        load_vae(tmp_path / "other.safetensors")
    (tmp_path / "half.safetensors").write_bytes(b"\x08")
    with pytest.raises(StackelbergError, match="truncated"):
        load_vae(tmp_path / "half.safetensors")
    net = vae()
    with torch.no_grad():
        next(net.parameters())[0] = torch.nan
    save_vae(net, tmp_path / "nan.safetensors")
    with pytest.raises(StackelbergError, match="NaN or infinite"):
        load_vae(tmp_path / "nan.safetensors")
    with pytest.raises(StackelbergError, match="multiples of 4"):
        VAE((1, 9, 8))
    assert models.VAE is VAE
