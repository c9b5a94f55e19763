"""Malformed inputs for `fuzz.py`: which valid file or line is spoiled, how (see `fuzz_inputs`), and who reads it."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fuzz_inputs import (
    Rng,
    spoiled_bytes,
    spoiled_json,
    spoiled_npz,
    spoiled_onnx,
    spoiled_parquet,
    spoiled_pt2,
    spoiled_safetensors,
    spoiled_text,
)


@dataclass(frozen=True)
class Case:
    """One input: files to lay down (path -> bytes) and the words of the command line.

    In words `{in}` stands for the folder of the files, `{out}` for one that is not there yet, `{materials}` for that of
    the valid files.
    """

    files: dict[str, bytes]
    words: tuple[str, ...]


AUDIT = ("--eps", "0.1", "--n", "2", "--effort", "fast", "--device", "cpu", "--out", "{out}")
OWN = ("--data", "{materials}/images.npz", *AUDIT)
DATA = ("audit", "{materials}/run", "--split", "train", *AUDIT)


@dataclass(frozen=True)
class Way:
    """One way to spoil an input of a kind: the material (a path in `materials`), how, and who reads the result."""

    material: str
    spoil: Callable[[Rng, bytes], bytes]
    words: tuple[str, ...]
    beside: tuple[str, ...] = ()


def raw(rng: Rng, data: bytes) -> bytes:
    """Spoiled as bytes, whatever it holds."""
    return spoiled_bytes(rng, data, data)


_CERTIFY = ("certify", "--onnx", "{materials}/pair.onnx", "--timeout", "1", "--vnnlib", "{in}/property.vnnlib")
WAYS: dict[str, tuple[Way, ...]] = {
    "parquet": tuple(
        Way("train.parquet", spoil, words)
        for spoil in (raw, spoiled_parquet)
        for words in (
            (*DATA, "--data", "{in}/train.parquet"),
            ("memorize", "--data", "{in}/train.parquet", "--claims", "2", "--out", "{out}"),
        )
    ),
    "npz": tuple(Way("images.npz", spoil, (*DATA, "--data", "{in}/images.npz")) for spoil in (raw, spoiled_npz)),
    "safetensors": (
        Way("weights.safetensors", raw, ("audit", "{in}/weights.safetensors", *OWN)),
        Way("weights.safetensors", spoiled_safetensors, ("audit", "{in}/weights.safetensors", *OWN)),
        Way("plain.safetensors", spoiled_safetensors,
            ("audit", "{in}/plain.safetensors", "--model", "mlp", "--width", "4", *OWN)),
    ),
    "pt2": tuple(
        Way("model.pt2", spoil, ("audit", "{in}/model.pt2", *OWN)) for spoil in (raw, spoiled_pt2, spoiled_pt2)
    ),
    "onnx": tuple(
        way
        for spoil in (raw, spoiled_onnx)
        for way in (
            Way("model.onnx", spoil, ("audit", "{in}/model.onnx", *OWN)),
            Way("pair.onnx", spoil, ("certify", "--onnx", "{in}/pair.onnx", "--timeout", "1", "--vnnlib",
                                     "{materials}/property.vnnlib")),
        )
    ),
    "vnnlib": tuple(Way("property.vnnlib", spoil, _CERTIFY) for spoil in (raw, spoiled_text, spoiled_text)),
    "json": (
        Way("certificate.json", spoiled_json, ("check", "{in}/certificate.json", "--timeout", "1")),
        Way("run/run.json", spoiled_json, ("audit", "{in}/run", *OWN), ("run/best.safetensors",)),
        Way("mem/memorizer.json", spoiled_json, ("audit", "{in}/mem", *OWN), ("mem/points.safetensors",)),
        Way("results/X02.json", spoiled_json, ("reproduce", "--table", "--out", "{in}/results")),
    ),
}  # fmt: skip

LINES: tuple[tuple[str, ...], ...] = (
    ("audit", "{materials}/run", *OWN),
    ("audit", "{materials}/weights.safetensors", "--fail-under", "0.5", "--seed", "3", *OWN),
    ("certify", "{materials}/run", "--method", "ibp", "--timeout", "1", "--data", "{materials}/images.npz", "--eps",
     "0.1", "--n", "2", "--out", "{out}"),
    ("certify", "--onnx", "{materials}/pair.onnx", "--vnnlib", "{materials}/property.vnnlib", "--timeout", "1"),
    ("check", "{materials}/certificate.json", "--timeout", "1", "--strict"),
    ("memorize", "--data", "{materials}/images.npz", "--kind", "optimal", "--norm", "linf", "--n", "8", "--claims", "2",
     "--test-n", "4", "--out", "{out}", "--seed", "1"),
    ("train", "--data", "{materials}/images.npz", "--model", "mlp", "--width", "4", "--game", "at", "--eps", "0.1",
     "--steps", "1", "--check-steps", "1", "--epochs", "1", "--batch-size", "8", "--learning-rate", "0.01",
     "--device", "cpu", "--test-n", "4", "--out", "{out}"),
    ("reproduce", "--list", "nope", "--set", "n=5", "nopf", "nopg"),
    ("demo", "--seed", "x", "--device", "y", "--nothing"),
)  # fmt: skip
"""Valid ones, but for the last two, of which three changes make no long piece of work."""
WORDS = (
    "", " ", "-", "--", "---", "-1", "0", "1", "0.5", "1e999", "nan", "inf", "eight", "8/0", "8/255", "1/", "0x10",
    "99999999999999999999", "é", "\u2028", "a\nb", "--help=1", "--nothing", "--eps", "--data", "--n",
    "--seed", "--out", "--width", "--device", "--norm", "--effort", "--split", "mnits", "digit", "linf", "l2", "l0",
    "l7", "mlp", "resnet18", "sr-wdro", "trades", "test", "train", "tpu", "cuda:99", "{materials}", "{in}", "{in}/no",
    "{materials}/run/run.json", "{materials}/images.npz", "{materials}/model.pt2", "{materials}/property.vnnlib",
    "/dev/null", "/", ".", "os:getcwd", "json:loads", "no.module:f", ":", "a:", "audit", "check", "a" * 5000,
)  # fmt: skip
"""Replacements; numbers that only ask for much work are left out: that is no malformed input."""
_UNLIMITED = ("--epochs", "--steps", "--check-steps", "--timeout")
KINDS = (*WAYS, "words")


def case(kind: str, number: int, materials: Path) -> Case:
    """The input of a kind with a number."""
    rng = np.random.default_rng([KINDS.index(kind), number])
    if kind == "words":
        return Case({}, _spoiled_line(rng))
    ways = WAYS[kind]
    way = ways[number % len(ways)]
    data = (materials / way.material).read_bytes()
    files = {way.material: way.spoil(rng, data)}
    words = way.words if number // len(ways) % 4 == 0 else _proved(way.words)
    return Case(files | {name: (materials / name).read_bytes() for name in way.beside}, words)


def _proved(words: tuple[str, ...]) -> tuple[str, ...]:
    """An audit becomes a proof, which asks the same readers and is sooner done."""
    if words[0] != "audit":
        return words
    left = [word for word in words[1:] if word not in ("--effort", "fast", "--device", "cpu")]
    return ("certify", *left, "--method", "ibp", "--timeout", "1")


def _spoiled_line(rng: Rng) -> tuple[str, ...]:
    words = list(LINES[int(rng.integers(len(LINES)))])
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(words)))
        if words[at] in _UNLIMITED or words[max(at - 1, 0)] in _UNLIMITED:
            continue
        match int(rng.integers(5)):
            case 0 if len(words) > 1:
                del words[at]
            case 1:
                words.insert(at, str(rng.choice(WORDS)))
            case 2:
                words[at] = spoiled_bytes(rng, words[at].encode()).decode("utf-8", "replace").replace("\0", "")
            case _:
                words[at] = str(rng.choice(WORDS))
    return tuple(words)


def environment(folder: Path) -> dict[str, str]:
    """The variables a worker runs with: its own places, and no way to fetch anything."""
    keep = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG", "PYTHONPATH")}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return keep | threads | {
        "TMPDIR": str(folder / "tmp"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE",
    }  # fmt: skip
