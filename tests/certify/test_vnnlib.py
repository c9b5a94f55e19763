"""VNN-LIB files: what they say, and what is said about a wrong one."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from stackelberg.certify.vnnlib import parse_property, read_property
from stackelberg.errors import StackelbergError

DECLARED = "".join(f"(declare-const {name} Real)\n" for name in ("X_0", "X_1", "Y_0", "Y_1", "Y_2"))
BOX = "(assert (<= X_0 0.5)) (assert (>= X_0 -0.5)) (assert (and (<= X_1 1) (>= X_1 1e-1)))\n"


def test_a_conjunction_is_one_case_with_one_set() -> None:
    found = parse_property(DECLARED + BOX + "; unsafe if Y_0 is maximal\n(assert (<= Y_1 Y_0))\n(assert (<= Y_2 Y_0))")
    assert (found.inputs, found.outputs) == (2, 3)
    (case,) = found.cases
    assert case.low.tolist() == [-0.5, 0.1]
    assert case.high.tolist() == [0.5, 1.0]
    (part,) = case.unsafe
    assert part.weight.tolist() == [[-1, 1, 0], [-1, 0, 1]]
    assert part.offset.tolist() == [0, 0]


def test_a_disjunction_of_outputs_is_one_case_with_several_sets() -> None:
    found = parse_property(DECLARED + BOX + "(assert (or (and (<= Y_1 Y_0)) (and (>= Y_2 3.5) (<= Y_0 -1))))")
    (case,) = found.cases
    assert [part.weight.tolist() for part in case.unsafe] == [[[-1, 1, 0]], [[0, 0, -1], [1, 0, 0]]]
    assert [part.offset.tolist() for part in case.unsafe] == [[0], [3.5, 1]]


def test_a_disjunction_of_boxes_times_one_of_outputs() -> None:
    first, second = (f"(and (<= X_0 {a + 1}) (>= X_0 {a}) (<= X_1 0) (>= X_1 0))" for a in (-1, 1))
    boxes = f"(assert (or {first} {second}))"
    found = parse_property(DECLARED + boxes + "(assert (or (<= Y_0 Y_1) (<= Y_0 Y_2)))")
    assert [(case.low[0], case.high[0], len(case.unsafe)) for case in found.cases] == [(-1, 0, 2), (1, 2, 2)]


def test_boxes_may_stand_beside_their_outputs() -> None:
    text = "(assert (or (and (<= X_0 0) (>= X_0 -1) (<= Y_0 0)) (and (<= X_0 2) (>= X_0 0) (>= Y_0 0))))"
    found = parse_property(DECLARED + "(assert (<= X_1 1)) (assert (>= X_1 0))" + text)
    assert found.violated(np.array([-0.5, 0.5]), np.array([-1.0, 0, 0]))
    assert not found.violated(np.array([-0.5, 0.5]), np.array([1.0, 0, 0]))
    assert found.violated(np.array([1.5, 0.5]), np.array([1.0, 0, 0]))
    assert not found.violated(np.array([3.0, 0.5]), np.array([1.0, 0, 0]))
    assert found.violated(np.array([2.05, 0.5]), np.array([1.0, 0, 0]), tolerance=0.1)


@pytest.mark.parametrize(
    ("term", "weight", "offset"),
    [
        ("(<= (+ Y_0 (* 2 Y_1) -1) 3)", [1, 2, 0], -4),
        ("(>= (- Y_0 Y_1 Y_2) (- 0.5))", [-1, 1, 1], -0.5),
        ("(<= (* (+ Y_0 1) 2 (- 3)) (+ Y_0 Y_0))", [-8, 0, 0], -6),
        ("(<= (- Y_2) 0)", [0, 0, -1], 0),
    ],
)
def test_linear_terms(term: str, weight: list[float], offset: float) -> None:
    part = parse_property(DECLARED + BOX + f"(assert {term})").cases[0].unsafe[0]
    assert part.weight.tolist() == [weight]
    assert part.offset.tolist() == [offset]


def test_an_empty_box_leaves_no_case_and_so_nothing_unsafe() -> None:
    assert parse_property(DECLARED + BOX + "(assert (>= X_0 2)) (assert (<= Y_0 0))").cases == ()
    assert parse_property(DECLARED + BOX + "(assert (or))").cases == ()
    assert parse_property(DECLARED + BOX + "(assert (<= 1 0))").cases == ()


def test_without_output_constraints_every_input_is_unsafe() -> None:
    assert parse_property(DECLARED + BOX).violated(np.array([0.0, 0.5]), np.zeros(3))


def test_a_packed_file_reads_the_same(tmp_path: Path) -> None:
    text = DECLARED + BOX + "(assert (<= Y_0 Y_1))"
    (tmp_path / "p.vnnlib").write_text(text)
    (tmp_path / "p.vnnlib.gz").write_bytes(gzip.compress(text.encode()))
    plain, packed = (read_property(tmp_path / name) for name in ("p.vnnlib", "p.vnnlib.gz"))
    assert np.array_equal(plain.cases[0].unsafe[0].weight, packed.cases[0].unsafe[0].weight)
    (tmp_path / "cut.gz").write_bytes(gzip.compress(text.encode())[:-9])
    with pytest.raises(StackelbergError, match=r"cannot read .*cut\.gz"):
        read_property(tmp_path / "cut.gz")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("(assert (<= Y_0 Y_9))", "line 7: Y_9 is not declared"),
        ("(assert (<= Y_0 Z_1))", "line 7: 'Z_1' is no variable"),
        ("(assert (< Y_0 1))", r"line 7: \(< ...\) is no formula"),
        ("(assert (<= Y_0 1 2))", r"line 7: \(<= ...\) is no formula"),
        ("(assert (<= (* Y_0 Y_1) 1))", "line 7: two variables are multiplied"),
        ("(assert (<= (/ Y_0 2) 1))", r"line 7: \(/ ...\) is no linear term"),
        ("(assert (<= X_0 Y_1))", "line 7: an input stands beside another variable"),
        ("\n(assert (<= Y_0 1)", "line 8: this '\\(' is never closed"),
        ("(assert (<= Y_0 1)))", "line 7: this '\\)' closes nothing"),
        ("(vnnlib-version <2.0>)", "line 7: 'vnnlib-version' is no command of VNN-LIB 1.0"),
        ("(assert (<= Y_0 inf))", "line 7: inf is no finite number"),
        ("(declare-const X_3 Real)", "X_2 is not declared"),
        ("hello", "line 7: a command in parentheses is needed"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, sentence: str) -> None:
    with pytest.raises(StackelbergError, match=sentence):
        parse_property(DECLARED + BOX + text)


def test_an_input_without_a_bound_is_named() -> None:
    with pytest.raises(StackelbergError, match="X_1 has no upper bound"):
        parse_property(DECLARED + "(assert (<= X_0 1)) (assert (>= X_0 0)) (assert (>= X_1 0)) (assert (<= Y_0 0))")


def test_alternatives_that_multiply_beyond_memory_are_refused() -> None:
    many = "(or " + " ".join(f"(<= Y_0 {i})" for i in range(50)) + ")"
    with pytest.raises(StackelbergError, match="multiply to more than 100000 cases"):
        parse_property(DECLARED + BOX + f"(assert (and {many} {many} {many}))")
