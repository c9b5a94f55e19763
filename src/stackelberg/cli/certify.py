"""`stackelberg certify`: what can be proved about these examples, or about this property?"""

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stackelberg.cli import options, voting
from stackelberg.cli.output import show
from stackelberg.cli.progress import Ticker
from stackelberg.errors import StackelbergError

if TYPE_CHECKING:
    from torch import nn

    from stackelberg.certify.document import DataSource, Document, ModelSource
    from stackelberg.certify.property import Answer
    from stackelberg.data import Dataset
    from stackelberg.threat import Ball


def command(
    source: Annotated[
        str | None,
        typer.Argument(help="A run directory, weights.safetensors, model.pt2, model.onnx, or pkg.mod:function."),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="A named data set (mnist), or a .parquet or .npz file, or a folder.")
    ] = None,
    eps: Annotated[str | None, typer.Option(help="Radius in input units, for example 8/255.")] = None,
    norm: options.Norm = "linf",
    method: Annotated[
        str,
        typer.Option(
            help="ibp, lipschitz, zonotope, crown, alpha-crown, complete, dual, milp; or smoothing (l2, statistical)."
        ),
    ] = "alpha-crown",
    timeout: Annotated[float, typer.Option(min=0, help="Seconds: per example, or for the whole property.")] = 30.0,
    n: Annotated[int, typer.Option("--n", min=1, help="How many examples, chosen at random by the seed.")] = 100,
    sigma: Annotated[float, typer.Option(help="Of smoothing's noise, in input units.")] = 0.25,
    samples: Annotated[int, typer.Option(min=1, help="Of smoothing, per example.")] = 10_000,
    onnx: Annotated[Path | None, typer.Option(help="A network; with --vnnlib, in the place of all the above.")] = None,
    vnnlib: Annotated[Path | None, typer.Option(help="A property of it, .vnnlib or .vnnlib.gz.")] = None,
    model: Annotated[str | None, typer.Option(help="The network whose weights a .safetensors file holds.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Of that network; its standard one if left out.")] = None,
    split: Annotated[str, typer.Option(help="Of the data: test or train.")] = "test",
    poison: Annotated[
        bool, typer.Option("--poison", help="Against poison in the training data: train a vote of networks instead.")
    ] = False,
    partitions: Annotated[int, typer.Option(min=2, help="Networks of the vote, each on its part of the data.")] = 50,
    epochs: Annotated[int, typer.Option(min=1, help="Of each of their trainings.")] = 10,
    out: Annotated[Path | None, typer.Option("--out", help="Directory, or with --vnnlib the file, to write.")] = None,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Prove that a network keeps its answers, example by example, or decide a property of VNN-LIB.

    Examples: each is broken (an attack found a point), proved (by the method) or open; certificate.json in --out lists
    them, and stackelberg check verifies it by other methods. Property: prints sat with a counterexample that
    onnxruntime confirms, unsat, or unknown. Poison: --poison trains a vote of networks on parts of the training data
    that a hash decides, and proves how many poisoned training examples leave each answer as it is.

    \b
    Example:
      stackelberg certify runs/a --data mnist --eps 0.1 --n 100 --method crown --out runs/a/certify
      stackelberg certify runs/a --data mnist --eps 0.5 --norm l2 --method smoothing
      stackelberg certify --onnx net.onnx --vnnlib property.vnnlib --timeout 120 --out result.txt
      stackelberg certify --poison --data mnist --partitions 50 --model small-cnn --width 8 --out vote
    """
    if poison:
        if source is not None or onnx is not None or vnnlib is not None or data is None:
            raise StackelbergError("--poison trains its own networks: pass --data, and no network, --onnx or --vnnlib")
        voting.certify(data, split, model or "small-cnn", width, partitions, epochs, n, out or Path("vote"), seed, json)
        return
    if onnx is not None or vnnlib is not None:
        if onnx is None or vnnlib is None or source is not None:
            raise StackelbergError(
                "a property needs both --onnx and --vnnlib, and no other network; pass the two files"
            )
        _property(onnx, vnnlib, timeout, out, json)
        return
    if source is None or data is None or eps is None:
        raise StackelbergError("examples need a network, --data and --eps; for a property pass --onnx and --vnnlib")
    _examples(source, model, width, data, split, eps, norm, method, timeout, n, sigma, samples, out, seed, json)


def _property(onnx: Path, vnnlib: Path, timeout: float, out: Path | None, as_json: bool) -> None:
    from stackelberg.files import write_text

    answer = answered(onnx, vnnlib, timeout)
    if out is not None:
        write_text(out, answer.text() + "\n")
    record: dict[str, Any] = {"result": answer.verdict, "why": answer.why}
    if answer.x is not None and answer.y is not None:
        record |= {"x": answer.x.tolist(), "y": answer.y.tolist()}
    show(record, answer.text(), as_json)


def answered(onnx: Path, vnnlib: Path, seconds: float) -> "Answer":
    """The answer about one property of the competition, `seconds` from now at the latest."""
    import numpy as np

    from stackelberg import models
    from stackelberg.certify.property import verify
    from stackelberg.certify.vnnlib import read_property
    from stackelberg.cli.output import warnings_said
    from stackelberg.models.onnx_file import read

    end = time.monotonic() + seconds
    question = read_property(vnnlib)
    with warnings_said():
        network = models.load(onnx)
    file = read(onnx)
    session, whole = file.session(), tuple(size or 1 for size in file.shape)

    def ask(x: np.ndarray) -> np.ndarray:
        answer = session.run([file.output], {file.input: x.reshape(whole).astype(file.dtype)})[0]
        return answer.reshape(-1).astype(np.float32)

    if isinstance(network, models.Onnx):
        return verify(network.net, network.inner, question, end - time.monotonic(), ask)
    box = models.BlackBox(lambda rows: np.stack([ask(row) for row in rows]), arrays=True)
    return verify(box, (math.prod(whole),), question, end - time.monotonic(), ask)


def _examples(
    source: str, name: str | None, width: int | None, data: str, split: str, eps: str, norm: str, method: str,
    timeout: float, n: int, sigma: float, samples: int, out: Path | None, seed: int, as_json: bool,
) -> None:  # fmt: skip
    from stackelberg import data as sets
    from stackelberg import models
    from stackelberg.certify.document import DataSource, ModelSource
    from stackelberg.cli.audit import asked_network
    from stackelberg.report.auditing import choose
    from stackelberg.threat import Ball, parse_radius

    ball = Ball(norm, parse_radius(eps))  # pyright: ignore[reportArgumentType]  # the ball checks the norm
    examples = sets.load(data, split)
    if examples.text:
        raise StackelbergError(
            f"{data} holds texts; certify.enumerate_letters proves by asking every exchange of letters"
        )
    network = asked_network(source, name, width, examples)
    said = ModelSource(
        source=source, name=name, width=width, parameters=sum(p.numel() for p in network.parameters()),
        weights=models.fingerprint(network),
    )  # fmt: skip
    where = DataSource(source=data, split=split, size=len(examples))
    index, _ = choose(len(examples), n, seed)
    chosen = examples.take(index)
    if method == "smoothing":
        document = _smoothed(network, chosen, index.tolist(), ball, sigma, samples, seed, said, where)
    else:
        document = _proved(network, chosen, index.tolist(), ball, method, timeout, seed, said, where)
    path = (out or (Path(source) if Path(source).is_dir() else Path()) / "certify") / "certificate.json"
    document.to_json(path)
    record, words = _told(document, ball.radius)
    show(record | {"certificate": str(path)}, f"{words}\n{path}", as_json)


def _proved(
    network: "nn.Module", chosen: "Dataset", index: list[int], ball: "Ball", method: str, timeout: float, seed: int,
    said: "ModelSource", where: "DataSource",
) -> "Document":  # fmt: skip
    from stackelberg.certify.claiming import claims
    from stackelberg.certify.document import Robustness, Threat, head

    x, y = chosen.batch(slice(None))
    with Ticker("certify") as ticker:
        made = claims(
            network, x, y, tuple(index), ball, method, timeout, seed,
            lambda done, words: ticker(done, len(index), words),
        )  # fmt: skip
    threat = Threat.model_validate(vars(ball))
    return Robustness(**head(said, where), method=method, threat=threat, claims=made)


def _smoothed(
    network: "nn.Module", chosen: "Dataset", index: list[int], ball: "Ball", sigma: float, samples: int, seed: int,
    said: "ModelSource", where: "DataSource",
) -> "Document":  # fmt: skip
    from stackelberg.certify.document import SmoothedClaim, Smoothing, example_digest, head
    from stackelberg.certify.smoothing import smooth

    if ball.norm != "l2":
        raise StackelbergError(f"smoothing speaks of l2 only, got the norm {ball.norm}; pass --norm l2")
    x, y = chosen.batch(slice(None))
    votes, alpha = 100, 0.001
    found = smooth(network, x, y, sigma, votes, samples, alpha, seed)
    made = tuple(
        SmoothedClaim(index=i, example=example_digest(one), label=label, predicted=predicted, radius=radius)
        for i, one, label, predicted, radius in zip(
            index, x, y.tolist(), found.predicted.tolist(), found.radius.tolist(), strict=True
        )
    )
    return Smoothing(**head(said, where), sigma=sigma, n0=votes, n=samples, alpha=alpha, seed=seed, claims=made)


def _told(document: "Document", radius: float) -> tuple[dict[str, Any], str]:
    """(the answer for a program, the answer for a reader)."""
    from stackelberg.certify.document import Robustness, Smoothing

    if isinstance(document, Robustness):
        total = len(document.claims)
        counts = {v: document.count(v) for v in ("proved", "broken", "open")}
        threat = f"{document.threat.norm} {document.threat.radius:g}"
        lines = [
            f"proved   {counts['proved']} of {total} keep their right label in {threat}, by {document.method}",
            f"broken   {counts['broken']} by a point that is in the certificate",
            f"open     {counts['open']}",
        ]
        return {"n": total, "method": document.method, **counts}, "\n".join(lines)
    assert isinstance(document, Smoothing)
    held = sum(claim.predicted == claim.label and claim.radius > radius for claim in document.claims)
    total, sure = len(document.claims), 1 - document.alpha
    words = (
        f"{held} of {total} are right and stay so within l2 {radius:g} when smoothed by sigma {document.sigma:g},\n"
        f"each with confidence {100 * sure:g} %: a statistical statement about the smoothed network, no proof"
    )
    return {"n": total, "method": "smoothing", "held": held, "confidence": sure}, words
