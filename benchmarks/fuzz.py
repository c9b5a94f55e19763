"""Does every malformed input get one line and exit status 2?  Thousands of them, through the whole command line.

    python benchmarks/fuzz.py [--n 10000] [--kinds parquet npz ...] [--first 0] [--scratch DIR] [--alone]
    python benchmarks/fuzz.py --again
    python benchmarks/fuzz.py --show KIND NUMBER

Each input (see `fuzz_ways`) is given to `stackelberg` in a worker process, in an empty folder. It must be refused, with
exit status 2, nothing on standard output, one line of error, no file left behind, and at most 5 seconds of processor
time; or be accepted, exit status 0 or 1, since some accidents leave a valid input. Anything else is a defect: a trace,
another status, several lines, something left on disk, a hang, a crash. A worker has 3 GiB of address space beyond what
it starts with, so that a file that announces more than it holds cannot take the machine. What was found is written to
--out all the while, and a run that was stopped goes on there; defects are listed with what reproduces them. --again
runs the defects of the record anew and lists those that are none any more as mended, with what they were.
"""

import argparse
import contextlib
import io
import json
import os
import resource
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fuzz_ways import KINDS, Case, case, environment

SECONDS, PATIENCE = 5, 600
"""Of processor time, after which an input hangs; of the clock, after which its worker is ended whatever it does."""
ROOM = 3 << 30
EVERY = 50
"""Inputs between two writings of the result."""
_WARNED = ("is asked as a black box", "is used instead", "batches of an audit with another")
_SAID_ON_THE_WAY = ("audit, ", "check, ", "certify, ", "epoch ", "demo, ", "train, ")


@dataclass(frozen=True)
class Outcome:
    """What became of one input: `what` is "refused", "accepted", or the kind of defect; `said` the last words."""

    kind: str
    number: int
    what: str
    said: str
    seconds: float


def run(kind: str, number: int, materials: Path) -> Outcome:
    """Give one input to the command line, in this process, in a folder of its own that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=materials.parent) as name:
        root = Path(name)
        for part in ("in", "here", "tmp"):
            (root / part).mkdir()
        given = case(kind, number, materials)
        words = lay_down(given, root, materials)
        os.environ["TMPDIR"] = tempfile.tempdir = str(root / "tmp")
        os.chdir(root / "here")
        begun = time.process_time()
        status, out, err, trace = ask(words)
        seconds = time.process_time() - begun
        os.chdir(materials)
        tempfile.tempdir = None
        left = sorted(
            str(path.relative_to(root))
            for part in ("out", "here", "tmp")
            for path in (root / part).rglob("*")
            if path.name != ".ses"  # onnxruntime's own, written as it is imported
        )
        left += ["out"] if (root / "out").is_dir() and not left else []
        what = judged(status, out, err, trace, left, seconds)
    said = trace or "; ".join(left if what == "left behind" else err.strip().splitlines()[-3:])
    said = said[:2000].replace(str(root), ".").replace(str(Path(__file__).parents[1]), ".")
    return Outcome(kind, number, what, said, round(seconds, 3))


def lay_down(given: Case, root: Path, materials: Path) -> list[str]:
    """Write the files; the words with their folders."""
    for name, data in given.files.items():
        path = root / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    places = {"{in}": str(root / "in"), "{out}": str(root / "out"), "{materials}": str(materials)}
    words = []
    for word in given.words:
        for place, folder in places.items():
            word = word.replace(place, folder)
        words.append(word)
    return words


def ask(words: list[str]) -> tuple[int, str, str, str]:
    """(exit status, standard output, standard error, the trace of what escaped) of one command."""
    from stackelberg.cli import main

    out, err, trace, status = io.StringIO(), io.StringIO(), "", 0
    before = list(sys.path)
    sys.argv = ["stackelberg", *words]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
        except BaseException:
            status, trace = 1, traceback.format_exc(limit=-6)
    sys.path[:] = before
    return status, out.getvalue(), err.getvalue(), trace


def judged(status: int, out: str, err: str, trace: str, left: list[str], seconds: float) -> str:
    """The outcome in a word or two."""
    if trace or "Traceback" in err:
        return "trace"
    if seconds > SECONDS:
        return "hang"
    if any(path.startswith("tmp") for path in left):
        return "left behind"
    if status in (0, 1):
        return "accepted"
    lines = [line for line in err.splitlines() if not line.startswith(_SAID_ON_THE_WAY)]
    lines = [line for line in lines if not any(warned in line for warned in _WARNED)]
    if status != 2:
        return f"status {status}"
    if out or len(lines) != 1 or not lines[0].startswith("stackelberg: ") or len(lines[0]) > 1000:
        return "not one line"
    return "left behind" if left else "refused"


def work(materials: Path, numbers: Iterable[tuple[str, int]], tell: int) -> None:
    """A worker: runs its inputs one by one, and says before each which it is, and after each what became of it."""
    import torch

    import stackelberg.cli

    for module in ("stackelberg.report", "stackelberg.exhibits", "stackelberg.memorize", "onnxruntime", "onnx"):
        __import__(module)
    torch.set_num_threads(1)
    assert stackelberg.cli
    warm(materials)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + ROOM, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with os.fdopen(tell, "w", buffering=1) as report:
        for kind, number in numbers:
            report.write(json.dumps({"kind": kind, "number": number}) + "\n")
            resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + SECONDS + 2, resource.RLIM_INFINITY))
            report.write(json.dumps(asdict(run(kind, number, materials))) + "\n")


def warm(materials: Path) -> None:
    """An audit of what is right, so that no input pays for what is compiled once in a process."""
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=materials.parent) as name:
        words = ["audit", str(materials / "run"), "--data", str(materials / "images.npz"), "--eps", "0.1"]
        status, _, err, trace = ask([*words, "--effort", "fast", "--device", "cpu", "--out", f"{name}/out"])
    assert status == 0, trace or err


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 4 << 20
    return pages * resource.getpagesize()


def outcomes(materials: Path, numbers: list[tuple[str, int]]) -> Iterator[Outcome]:
    """The outcome of each input, in order; a worker that dies or hangs is replaced, and its input is a defect."""
    left = list(numbers)
    while left:
        done: list[tuple[str, int]] = []
        begun, ended = None, ""
        for line in _said_by_worker(materials, left):
            if line.startswith("!"):
                ended = line[1:]
                continue
            said = json.loads(line)
            if "what" in said:
                begun = None
                done.append((said["kind"], said["number"]))
                yield Outcome(**said)
            else:
                begun = (said["kind"], said["number"])
        if begun is not None:
            what = "hang" if ended in ("patience", "-24") else f"crash {ended}"
            yield Outcome(*begun, what, f"the worker ended: {ended}", float(SECONDS))
            done.append(begun)
        if not done:
            raise SystemExit(f"a worker ended ({ended}) before its first input")
        left = left[len(done) :]


def _said_by_worker(materials: Path, numbers: list[tuple[str, int]]) -> Iterator[str]:
    """The lines of one worker, and at the end "!" and how it ended."""
    read, write = os.pipe()
    errors = materials.parent / "worker.err"
    with errors.open("ab") as log, subprocess.Popen(
        [sys.executable, __file__, "--work", str(write), "--materials", str(materials)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log, pass_fds=[write], text=True,
        env=environment(materials.parent),
    ) as worker:  # fmt: skip
        os.close(write)
        assert worker.stdin
        worker.stdin.write(json.dumps(numbers))
        worker.stdin.close()
        pending = b""
        with selectors.DefaultSelector() as ready:
            ready.register(read, selectors.EVENT_READ)
            while ready.select(PATIENCE):
                part = os.read(read, 1 << 16)
                if not part:
                    break
                *lines, pending = (pending + part).split(b"\n")
                yield from (line.decode() for line in lines)
            else:
                worker.kill()
                os.close(read)
                yield "!patience"
                return
        os.close(read)
        worker.wait()
        yield f"!{worker.returncode}"


def make_materials(folder: Path, here: bool = False) -> Path:
    """Small valid files of every kind, made once, in a process of its own or `here`."""
    materials = folder / "materials"
    if not (materials / "done").exists():
        shutil.rmtree(materials, ignore_errors=True)
        materials.mkdir(parents=True)
        if here:
            from fuzz_materials import make

            os.chdir(materials)
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                make(materials)
        else:
            command = [sys.executable, str(Path(__file__).with_name("fuzz_materials.py")), str(materials)]
            subprocess.run(command, check=True, env=environment(folder), stdout=subprocess.DEVNULL)
    return materials


def measure(kinds: list[str], first: int, n: int, scratch: Path, out: Path, workers: bool = True) -> int:
    """Run n inputs, the kinds in turn, from where `out` says that an earlier run stopped; the number of defects."""
    from attack_step import conditions

    scratch.mkdir(parents=True, exist_ok=True)
    materials = make_materials(scratch.resolve(), here=not workers)
    order = [(kind, number) for number in range(first, first + -(-n // len(kinds))) for kind in kinds][:n]
    asked = {"kinds": kinds, "first": first, "n": n}
    record = json.loads(out.read_text()) if out.exists() else {}
    if record.get("asked") != asked:
        record = {"asked": asked, "done": 0, "counts": {}, "slowest_seconds": 0.0, "defects": []}
    left = order[record["done"] :]
    for outcome in outcomes(materials, left) if workers else (run(*one, materials) for one in left):
        counts = record["counts"].setdefault(outcome.kind, {})
        counts[outcome.what] = counts.get(outcome.what, 0) + 1
        record["done"] += 1
        record["slowest_seconds"] = max(record["slowest_seconds"], outcome.seconds)
        if outcome.what not in ("refused", "accepted"):
            record["defects"].append(asdict(outcome))
        if record["done"] % EVERY == 0 or record["done"] == n:
            write(record | {"conditions": conditions()}, out)
    return len(record["defects"])


def again(scratch: Path, out: Path) -> int:
    """Run the defects of a record anew; the number of those that are left."""
    from attack_step import conditions

    materials, record = make_materials(scratch.resolve()), json.loads(out.read_text())
    before = {(defect["kind"], defect["number"]): defect for defect in record["defects"]}
    record["defects"] = []
    for outcome in outcomes(materials, list(before)):
        defect, counts = before[outcome.kind, outcome.number], record["counts"][outcome.kind]
        counts[defect["what"]] -= 1
        counts[outcome.what] = counts.get(outcome.what, 0) + 1
        if outcome.what in ("refused", "accepted"):
            record.setdefault("mended", []).append(defect | {"now": outcome.said})
        else:
            record["defects"].append(asdict(outcome))
    record["counts"] = {kind: {w: n for w, n in found.items() if n} for kind, found in record["counts"].items()}
    write(record | {"conditions": conditions()}, out)
    return len(record["defects"])


def write(record: dict[str, Any], out: Path) -> None:
    """Keep what was found, and say it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n")
    print(record["done"], "of", record["asked"]["n"], record["counts"], len(record["defects"]), "defects", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "stackelberg-fuzz")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "fuzz.json")
    parser.add_argument("--alone", action="store_true", help="in this process: sooner begun, and a crash ends it")
    parser.add_argument("--again", action="store_true", help="the defects of --out once more")
    parser.add_argument("--show", nargs=2, metavar=("KIND", "NUMBER"))
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--materials", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work is not None:
        work(asked.materials, json.load(sys.stdin), asked.work)
    elif asked.show:
        asked.scratch.mkdir(parents=True, exist_ok=True)
        for outcome in outcomes(make_materials(asked.scratch.resolve()), [(asked.show[0], int(asked.show[1]))]):
            print(case(outcome.kind, outcome.number, asked.scratch / "materials").words)
            print(outcome.what, outcome.seconds, outcome.said, sep="\n")
    elif asked.again:
        sys.exit(again(asked.scratch, asked.out.resolve()) > 0)
    else:
        out = asked.out.resolve()
        sys.exit(measure(asked.kinds, asked.first, asked.n, asked.scratch, out, not asked.alone) > 0)


if __name__ == "__main__":
    main()
