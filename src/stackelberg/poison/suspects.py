"""Which examples of a received data set look poisoned?  Two looks at the features of a network trained on it."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from stackelberg.data import Dataset
from stackelberg.errors import StackelbergError
from stackelberg.poison.asking import check_images
from stackelberg.poison.learner import all_features
from stackelberg.threat import Rate, clopper_pearson

_MOST = 10  # directions in which the clusters of a class are looked for


@dataclass(frozen=True, eq=False)
class Suspects:
    """What a detector says of every example.

    Attributes:
        method: "spectral" or "clustering".
        score: of each example, larger for stranger; comparable within a class.
        flagged: whether to drop it.
        classes: labels of the classes that look poisoned; all that have flagged examples.
        evidence: a number per class, by which it is judged: spectral: how far the strangest lie beyond the bulk;
            clustering: the silhouette of the two clusters.
    """

    method: str
    score: Float[Tensor, " N"]
    flagged: Bool[Tensor, " N"]
    classes: tuple[int, ...]
    evidence: Float[Tensor, " K"]

    def rates(self, poisoned: Int64[Tensor, " P"]) -> tuple[Rate, Rate]:
        """(found, falsely flagged): the flagged shares of the examples at `poisoned`, and of all others.

        Raises:
            StackelbergError: no example is poisoned, or all are.
        """
        bad = torch.zeros_like(self.flagged)
        bad[poisoned.to(bad.device)] = True
        good = ~bad
        if not bad.any() or not good.any():
            raise StackelbergError("the two rates need examples of both kinds, poisoned and clean; pass their places")
        return (
            clopper_pearson(int(self.flagged[bad].sum()), int(bad.sum())),
            clopper_pearson(int(self.flagged[good].sum()), int(good.sum())),
        )

    @property
    def share(self) -> Rate:
        """The flagged share of all examples: on clean data the false-positive rate."""
        return clopper_pearson(int(self.flagged.sum()), len(self.flagged))


def spectral_signatures(model: nn.Module, data: Dataset, share: float | None = 0.05) -> Suspects:
    """Spectral signatures (Tran, Li and Madry 2018, Algorithm 1).

    In each class the features are centred; the score is the squared component along the top right singular vector. The
    1.5 share of the class with the largest scores is flagged, so on clean data that many are falsely flagged by
    construction. With share None only what lies beyond the bulk is: scores above median + 10 median deviations, and
    only in classes where these are fewer than half the examples.

    Args:
        model: trained on the data.
        data: as received, with its labels.
        share: upper bound of the poisoned share of a class, in (0, 1/2); None where nothing is known.

    Raises:
        StackelbergError: points, one class only, or a share outside (0, 1/2).
    """
    check_images(data)
    if share is not None and not 0 < share < 0.5:
        raise StackelbergError(f"the poisoned share of a class must lie in (0, 0.5), got {share:g}; pass 0.05 or None")
    phi, y = all_features(model, data)
    score, flagged = torch.zeros(len(y)), torch.zeros(len(y), dtype=torch.bool)
    evidence = torch.zeros(len(data.classes))
    for label in y.unique().tolist():
        places = (y == label).nonzero()[:, 0]
        centred = phi[places] - phi[places].mean(0)
        vector = torch.linalg.svd(centred, full_matrices=False).Vh[0]
        own = (centred @ vector) ** 2
        score[places] = own
        bulk, spread = own.median(), (own - own.median()).abs().median().clamp(min=1e-12)
        evidence[label] = (own.quantile(0.99) - bulk) / spread
        if share is None:
            strange = own > bulk + 10 * spread
            flagged[places] = strange & (strange.sum() < len(places) / 2)
        else:
            count = min(len(places), round(1.5 * share * len(places)))
            flagged[places[own.topk(count).indices]] = True
    return Suspects("spectral", score, flagged, _with_flags(y, flagged), evidence)


def activation_clustering(model: nn.Module, data: Dataset, silhouette: float = 0.25, most: float = 0.35) -> Suspects:
    """Activation clustering (Chen et al. 2019): the features of a poisoned class fall into two clusters.

    In each class the ten first principal components of the features are split by 2-means. The class is poisoned where
    the clusters are far apart (silhouette score above the threshold) and the smaller one has at most the share `most`;
    then that cluster is flagged. The score is how much nearer an example is to the smaller cluster's centre.

    Args:
        model: trained on the data.
        data: as received, with its labels.
        silhouette: threshold, in (-1, 1); the paper sees 0.10 to 0.15 at clean classes of its networks.
        most: share of the class that poison may have.

    Raises:
        StackelbergError: points, one class only, or a threshold outside its range.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    check_images(data)
    if not -1 < silhouette < 1 or not 0 < most <= 0.5:
        raise StackelbergError(
            f"silhouette must lie in (-1, 1) and most in (0, 0.5], got {silhouette:g} and {most:g}; pass 0.25 and 0.35"
        )
    phi, y = all_features(model, data)
    score, flagged = torch.zeros(len(y)), torch.zeros(len(y), dtype=torch.bool)
    evidence = torch.full((len(data.classes),), -1.0)
    for label in y.unique().tolist():
        places = (y == label).nonzero()[:, 0]
        if len(places) < 3:
            continue
        centred = phi[places] - phi[places].mean(0)
        size = min(_MOST, *centred.shape)
        low = centred @ torch.linalg.svd(centred, full_matrices=False).Vh[:size].T
        clusters = KMeans(2, random_state=0).set_params(n_init=4).fit(low.numpy())
        member = torch.from_numpy(clusters.labels_).long()
        if len(member.unique()) < 2:  # all features alike: there is nothing to tell apart
            continue
        small = int(member.sum() * 2 < len(member))
        centres = torch.from_numpy(clusters.cluster_centers_).to(low.dtype)
        away = torch.cdist(low, centres)
        score[places] = away[:, 1 - small] - away[:, small]
        sample = min(len(places), 1000)
        evidence[label] = float(silhouette_score(low.numpy(), member.numpy(), sample_size=sample, random_state=0))
        if evidence[label] > silhouette and (member == small).float().mean() <= most:
            flagged[places] = member == small
    return Suspects("clustering", score, flagged, _with_flags(y, flagged), evidence)


def _with_flags(y: Tensor, flagged: Tensor) -> tuple[int, ...]:
    return tuple(y[flagged].unique().tolist())
