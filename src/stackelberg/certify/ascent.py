"""Which slopes, and which multipliers of splits, give the best linear bound?  Projected Adam, best kept."""

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from stackelberg.certify.backward import Boxes, least, substituted
from stackelberg.certify.graph import Graph
from stackelberg.certify.region import Region
from stackelberg.certify.relaxation import adaptive


@dataclass(frozen=True)
class Search:
    """How the free parameters of linear bounds are searched.

    Attributes:
        steps: of Adam.
        rate: its step size in alpha, which lies in [0, 1].
        decay: of the step size, per step.
        stop: whether to end when every row is above zero, and to leave alone examples that need no search.
        inner: whether the intervals of neurons are searched too where the bound of the logits did not suffice.
        until: on the monotonic clock; no step begins after it.
    """

    steps: int = 20
    rate: float = 0.25
    decay: float = 0.95
    stop: bool = True
    inner: bool = True
    until: float = math.inf


@dataclass(frozen=True, eq=False)
class Found:
    """Parameters, float64, per activation: alpha [B, M, *shape] and split multipliers [B, 1, *shape]; the bound met."""

    alpha: dict[int, Tensor]
    split: dict[int, Tensor]
    bound: Tensor


def climbed(
    graph: Graph,
    region: Region,
    boxes: Boxes,
    objective: Tensor,
    offset: Tensor,
    search: Search,
    start: dict[int, Tensor] | None = None,
    signs: dict[int, Tensor] | None = None,
    node: int | None = None,
    multipliers: dict[int, Tensor] | None = None,
) -> Found:
    """The best parameters met while the bound of objective z + offset [B, M] rises, searched in float32.

    Nothing here is a proof: `substituted` with what is found, in float64 and with rounding, is.

    Args:
        graph: the network.
        region: of inputs.
        boxes: of its nodes, with the splits in them.
        objective: [B, M, K].
        offset: [B, M].
        search: steps and step size.
        start: alpha to begin at, per activation, [B, M, *shape]; else CROWN's own.
        signs: per activation, +1, -1 or 0, [B, 1, *shape]: which coordinates before it are assumed >= 0 or <= 0.
        node: number of the node that the objective is about, [B, M, *its shape]; by default the logits.
        multipliers: of the signs to begin at, >= 0, per activation, [B, 1, *shape]; else zero.
    """
    light, small = graph.to(torch.float32), boxes.to(torch.float32)
    where = _single(region)
    goal, shift = objective.float(), offset.float()
    last = len(graph.nodes) - 1 if node is None else node
    alpha = {i: a.clone().requires_grad_() for i, a in (start or begun(graph, small, goal.shape[1], last)).items()}
    first = multipliers or {i: torch.zeros_like(s, dtype=torch.float32) for i, s in (signs or {}).items()}
    split = {i: v.clone().requires_grad_() for i, v in first.items()}
    groups = [{"params": list(alpha.values()), "lr": search.rate}]
    if split:
        groups.append({"params": list(split.values()), "lr": search.rate / 2})
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.999))
    best = torch.full(goal.shape[:2], -torch.inf, device=goal.device)
    kept = {i: a.detach().clone() for i, a in alpha.items()}, {i: v.detach().clone() for i, v in split.items()}
    for step in range(search.steps + 1):
        with torch.enable_grad():
            extra = {i: v * signs[i] for i, v in split.items()} if signs else None
            function = substituted(light, small, last, goal, alpha, extra, rounding=False)
            bound = least(function, where) + shift
        improved = bound.detach() > best
        best = torch.where(improved, bound.detach(), best)
        _keep(kept[0], alpha, improved)
        _keep(kept[1], split, improved.any(1, keepdim=True))
        if step == search.steps or not bound.requires_grad or (search.stop and bool((best > 0).all())):
            break
        if time.monotonic() > search.until:
            break
        optimizer.zero_grad()
        with torch.enable_grad():
            loss = -(bound.masked_fill(best > 0, 0) if search.stop else bound).sum()
        loss.backward()
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] *= search.decay
        with torch.no_grad():
            for a in alpha.values():
                a.clamp_(0, 1)
            for v in split.values():
                v.clamp_(min=0)
    slopes = {i: a.double() for i, a in kept[0].items()}
    signed = {i: v.double() * signs[i] for i, v in kept[1].items()} if signs else {}
    return Found(slopes, signed, best)


def begun(graph: Graph, boxes: Boxes, count: int, last: int) -> dict[int, Tensor]:
    """CROWN's own alpha for `count` rows, per activation before node `last` with an open coordinate."""
    out = {}
    for place in [i for i in graph.activations if i < last]:
        node = graph.nodes[place]
        low, high = boxes.low[node.inputs[0]], boxes.high[node.inputs[0]]  # pyright: ignore[reportAttributeAccessIssue]
        piecewise = node.piecewise  # pyright: ignore[reportAttributeAccessIssue]
        if not piecewise or bool(((low < 0) & (high > 0)).any()):
            first = adaptive(low, high) if piecewise else torch.full_like(low, 0.5)
            out[place] = first[:, None].expand(-1, count, *low.shape[1:]).contiguous()
    return out


def _keep(kept: dict[int, Tensor], now: dict[int, Tensor], improved: Tensor) -> None:
    for i, a in now.items():
        mask = improved.view(*improved.shape, *[1] * (a.dim() - 2))
        kept[i] = torch.where(mask, a.detach(), kept[i])


def _single(region: Region) -> Region:
    origin = region.origin
    if origin is not None:
        parts = (origin.centre.float(), origin.scale.float(), origin.error.float())
        origin = type(origin)(origin.ball, *parts)
    return Region(region.low.float(), region.high.float(), origin)
