"""Which property is asked?  VNN-LIB files, the format of the verification competition, as boxes and half-spaces.

A file describes the *unsafe* set: the property is violated ("sat") where some x and y = network(x) satisfy every
assertion, and holds ("unsat") where none do. The grammar of VNN-LIB 1.0, a part of SMT-LIB 2:

    file       := command*                    command := (declare-const NAME Real) | (assert formula)
    formula    := (and formula*) | (or formula*) | (<= term term) | (>= term term)
    term       := NUMBER | NAME | (+ term+) | (- term+) | (* term+)          NAME := X_i | Y_j

";" begins a comment. Terms are linear; each constraint on inputs bounds one X_i, so that inputs lie in boxes.
"""

import gzip
import itertools
import math
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from stackelberg.errors import StackelbergError

MOST_CASES = 100_000
"""Of a property's disjunctive normal form; beyond it a file is refused instead of filling the memory."""

_TOKEN = re.compile(r";[^\n]*|[()]|\|[^|]*\||[^\s();|]+")
_NAME = re.compile(r"([XY])_(\d+)")
_IGNORED = ("set-logic", "set-info", "set-option", "check-sat", "get-model", "exit")
Tree = tuple[str | list, int]  # a token or a list of trees, and its line
Atom = tuple[dict[tuple[str, int], float], float, int]  # sum of coefficient * variable + constant <= 0, and its line


@dataclass(frozen=True, eq=False)
class Halfspaces:
    """The set {y : weight y + offset <= 0 in every row}, outputs flattened."""

    weight: Float64[np.ndarray, "M K"]
    offset: Float64[np.ndarray, " M"]

    def excess(self, y: Float64[np.ndarray, " K"]) -> float:
        """max over rows of weight y + offset: y lies inside exactly where this is <= 0."""
        return float((self.weight @ y + self.offset).max(initial=-math.inf))


@dataclass(frozen=True, eq=False)
class Case:
    """Inputs in the box [low, high] whose outputs lie in one of `unsafe`, inputs flattened."""

    low: Float64[np.ndarray, " n"]
    high: Float64[np.ndarray, " n"]
    unsafe: tuple[Halfspaces, ...]


@dataclass(frozen=True, eq=False)
class Property:
    """The unsafe set: the union of `cases`.

    Attributes:
        inputs: how many X_i.
        outputs: how many Y_j.
        cases: boxes with what is unsafe over them; none if no input satisfies the assertions.
    """

    inputs: int
    outputs: int
    cases: tuple[Case, ...]

    def violated(self, x: Float64[np.ndarray, " n"], y: Float64[np.ndarray, " K"], tolerance: float = 0.0) -> bool:
        """Whether (x, y) is in the unsafe set: x in a box up to `tolerance`, y in the set exactly."""
        return any(
            bool((x >= case.low - tolerance).all() and (x <= case.high + tolerance).all())
            and any(part.excess(y) <= 0 for part in case.unsafe)
            for case in self.cases
        )


def read_property(path: str | os.PathLike[str]) -> Property:
    """The property in a .vnnlib file, or in a .vnnlib.gz one.

    Raises:
        StackelbergError: the file cannot be read, or holds what the grammar does not; the line is named.
    """
    try:
        raw = Path(path).read_bytes()
        raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
        text = raw.decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise StackelbergError(f"cannot read {path}: {error}; pass a .vnnlib file, or one packed by gzip") from error
    return parse_property(text, str(path))


def parse_property(text: str, name: str = "property") -> Property:
    """The property that `text` describes; `name` stands before the line number in errors.

    Raises:
        StackelbergError: see `read_property`.
    """
    return _Parser(name).property(text)


@dataclass
class _Parser:
    name: str

    def wrong(self, line: int, what: str) -> StackelbergError:
        return StackelbergError(f"{self.name}, line {line}: {what}")

    def property(self, text: str) -> Property:
        declared: dict[str, set[int]] = {"X": set(), "Y": set()}
        alternatives: list[list[list[Atom]]] = []
        for tree, line in self.trees(text):
            match tree:
                case [("declare-const" | "declare-fun", _), (str(name), at), *_]:
                    kind, number = self.variable(name, at)
                    declared[kind].add(number)
                case [("assert", _), formula]:
                    alternatives.append(self.normal_form(formula, declared))
                case [(str(command), _), *_] if command in _IGNORED:
                    pass
                case [(str(command), _), *_]:
                    raise self.wrong(
                        line, f"{command!r} is no command of VNN-LIB 1.0; known are declare-const and assert"
                    )
                case _:
                    raise self.wrong(line, "a command in parentheses is needed, like (assert (<= X_0 1))")
        counts = {kind: self.count(kind, declared[kind]) for kind in "XY"}
        return Property(counts["X"], counts["Y"], self.cases(alternatives, counts["X"], counts["Y"]))

    def count(self, kind: str, numbers: set[int]) -> int:
        missing = next((i for i in range(len(numbers)) if i not in numbers), None)
        if missing is not None or not numbers:
            raise StackelbergError(
                f"{self.name}: {kind}_{missing or 0} is not declared; the variables of a network are declared from"
                f" {kind}_0 on without a gap"
            )
        return len(numbers)

    def trees(self, text: str) -> Iterator[Tree]:
        """The commands as nested lists."""
        stack: list[Tree] = []
        line, seen = 1, 0
        for token in _TOKEN.finditer(text):
            line += text.count("\n", seen, token.start())
            seen = token.start()
            word = token.group()
            if word.startswith(";"):
                continue
            if word == "(":
                stack.append(([], line))
                continue
            done: Tree = (word, line)
            if word == ")":
                if not stack:
                    raise self.wrong(line, "this ')' closes nothing; remove it")
                done = stack.pop()
            if stack:
                stack[-1][0].append(done)  # pyright: ignore[reportAttributeAccessIssue]  # only lists are stacked
            else:
                yield done
        if stack:
            raise self.wrong(stack[-1][1], "this '(' is never closed; is the file complete?")

    def variable(self, name: str, line: int) -> tuple[str, int]:
        match = _NAME.fullmatch(name)
        if match is None:
            raise self.wrong(line, f"{name!r} is no variable; inputs are called X_0, X_1, ..., outputs Y_0, Y_1, ...")
        return match[1], int(match[2])

    def normal_form(self, tree: Tree, declared: dict[str, set[int]]) -> list[list[Atom]]:
        """The disjunctive normal form of a formula: alternatives, each a list of atoms that hold together."""
        node, line = tree
        match node:
            case [("and", _), *parts]:
                return self.product([self.normal_form(part, declared) for part in parts], line)
            case [("or", _), *parts]:
                return [atoms for part in parts for atoms in self.normal_form(part, declared)]
            case [("<=" | ">=" as sign, _), left, right]:
                small, large = (left, right) if sign == "<=" else (right, left)
                return [[self.atom(small, large, line, declared)]]
            case [(str(operator), _), *_]:
                raise self.wrong(line, f"({operator} ...) is no formula; known are and, or, <= and >= with two sides")
            case _:
                raise self.wrong(line, "a formula in parentheses is needed, like (<= X_0 1)")

    def product(self, parts: list[list[list[Atom]]], line: int) -> list[list[Atom]]:
        if math.prod(len(part) for part in parts) > MOST_CASES:
            raise self.wrong(line, f"the alternatives multiply to more than {MOST_CASES} cases; split the property")
        return [list(itertools.chain(*chosen)) for chosen in itertools.product(*parts)]

    def atom(self, small: Tree, large: Tree, line: int, declared: dict[str, set[int]]) -> Atom:
        """small - large <= 0."""
        (a, p), (b, q) = self.term(small), self.term(large)
        terms = dict(a)
        for variable, factor in b.items():
            terms[variable] = terms.get(variable, 0.0) - factor
        for kind, number in terms:
            if number not in declared[kind]:
                raise self.wrong(
                    line, f"{kind}_{number} is not declared; add (declare-const {kind}_{number} Real) above"
                )
        return {variable: factor for variable, factor in terms.items() if factor}, p - q, line

    def term(self, tree: Tree) -> tuple[dict[tuple[str, int], float], float]:
        """(coefficients, constant) of a linear term."""
        node, line = tree
        if isinstance(node, str):
            return self.leaf(node, line)
        match node:
            case [("+" | "-" | "*" as operator, _), first, *rest]:
                terms = [self.term(first), *(self.term(part) for part in rest)]
                return self.times(terms, line) if operator == "*" else _sum(terms, operator)
            case [(str(operator), _), *_]:
                raise self.wrong(line, f"({operator} ...) is no linear term; known are + - and *")
            case _:
                raise self.wrong(line, "a number, a variable or a term like (+ Y_0 1) is needed")

    def leaf(self, word: str, line: int) -> tuple[dict[tuple[str, int], float], float]:
        try:
            value = float(word)
        except ValueError:
            return {self.variable(word, line): 1.0}, 0.0
        if not math.isfinite(value):
            raise self.wrong(line, f"{word} is no finite number")
        return {}, value

    def times(
        self, terms: list[tuple[dict[tuple[str, int], float], float]], line: int
    ) -> tuple[dict[tuple[str, int], float], float]:
        factor = math.prod(constant for weights, constant in terms if not weights)
        with_variables = [term for term in terms if term[0]]
        if len(with_variables) > 1:
            raise self.wrong(line, "two variables are multiplied; terms must be linear")
        weights, constant = with_variables[0] if with_variables else ({}, 1.0)
        return {variable: factor * weight for variable, weight in weights.items()}, factor * constant

    def cases(self, alternatives: list[list[list[Atom]]], inputs: int, outputs: int) -> tuple[Case, ...]:
        """All assertions together: alternatives with the same box are one case."""
        common = [atom for parts in alternatives if len(parts) == 1 for atom in parts[0]]
        low, high = self.box(common, np.full(inputs, -math.inf), np.full(inputs, math.inf))
        found: dict[bytes, tuple[np.ndarray, np.ndarray, list[Halfspaces]]] = {}
        for atoms in self.product([parts for parts in alternatives if len(parts) != 1], 1):
            own_low, own_high = self.box(atoms, low, high)
            if (own_low > own_high).any():
                continue
            unbounded = np.flatnonzero(~(np.isfinite(own_low) & np.isfinite(own_high)))
            if len(unbounded):
                raise StackelbergError(
                    f"{self.name}: X_{unbounded[0]} has no {'upper' if np.isfinite(own_low[unbounded[0]]) else 'lower'}"
                    " bound; every input needs both"
                )
            key = own_low.tobytes() + own_high.tobytes()
            parts = found.setdefault(key, (own_low, own_high, []))[2]
            parts.append(_halfspaces([*common, *atoms], outputs))
        return tuple(Case(low, high, tuple(parts)) for low, high, parts in found.values())

    def box(self, atoms: list[Atom], low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[low, high] cut by the atoms that speak of inputs."""
        low, high = low.copy(), high.copy()
        for terms, constant, line in atoms:
            if not terms and constant > 0:
                low[0], high[0] = math.inf, -math.inf  # a false statement about numbers: no input satisfies it
            kinds = {kind for kind, _ in terms}
            if "X" not in kinds:
                continue
            if len(terms) > 1:
                raise self.wrong(
                    line, "an input stands beside another variable; each constraint on inputs bounds one X_i"
                )
            ((_, number), factor) = next(iter(terms.items()))
            if factor > 0:
                high[number] = min(high[number], -constant / factor)
            else:
                low[number] = max(low[number], -constant / factor)
        return low, high


def _sum(
    terms: list[tuple[dict[tuple[str, int], float], float]], operator: str
) -> tuple[dict[tuple[str, int], float], float]:
    """The sum; or the first less the others, and of one term its negative."""
    signs = [1.0] * len(terms) if operator == "+" else [-1.0] if len(terms) == 1 else [1.0] + [-1.0] * (len(terms) - 1)
    weights: dict[tuple[str, int], float] = {}
    for sign, (part, _) in zip(signs, terms, strict=True):
        for variable, weight in part.items():
            weights[variable] = weights.get(variable, 0.0) + sign * weight
    return weights, sum(sign * constant for sign, (_, constant) in zip(signs, terms, strict=True))


def _halfspaces(atoms: list[Atom], outputs: int) -> Halfspaces:
    rows = [(terms, constant) for terms, constant, _ in atoms if any(kind == "Y" for kind, _ in terms)]
    weight, offset = np.zeros((len(rows), outputs)), np.zeros(len(rows))
    for row, (terms, constant) in enumerate(rows):
        offset[row] = constant
        for (_, number), factor in terms.items():
            weight[row, number] = factor
    return Halfspaces(weight, offset)
