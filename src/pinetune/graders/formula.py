"""The formulas of `multi` graders (`calculate_output`): + - * / ^, parentheses, numbers, names of parts, a few functions.

Parsed by descent into a closure, never by Python's eval: `0.85 * a + 0.15 * min(1, b)`. As in mathematics, ^ binds
tighter than a minus in front of it and to the right: -2^2 = -4, 2^3^2 = 512. `log` is natural.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from pinetune.errors import GraderError, GradingFailed

Value = Callable[[Mapping[str, float]], float]
TOKEN = re.compile(r"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([^\W\d]\w*)|(\*\*|[-+*/^(),]))")
MAX_CHARS = 10_000
MAX_DEPTH = 100  # nesting a person would write; beyond it Python's own stack is at risk

# name -> (function, fewest arguments, most arguments)
FUNCTIONS: dict[str, tuple[Callable[..., float], int, int]] = {
    "min": (lambda *values: min(values), 1, 100),
    "max": (lambda *values: max(values), 1, 100),
    "abs": (abs, 1, 1),
    "floor": (math.floor, 1, 1),
    "ceil": (math.ceil, 1, 1),
    "exp": (math.exp, 1, 1),
    "sqrt": (math.sqrt, 1, 1),
    "log": (math.log, 1, 1),
}


@dataclass(frozen=True, slots=True)
class Formula:
    """A parsed formula; `names` are the variables it reads.

    >>> Formula.parse("0.75 * a + b ^ 2", {"a", "b"}, "grader.calculate_output").value({"a": 1.0, "b": 0.5})
    1.0
    """

    text: str
    names: frozenset[str]
    _value: Value

    @classmethod
    def parse(cls, text: str, known: set[str], where: str) -> Formula:
        """Raises GraderError, starting with the JSON path `where`, for anything that is no formula over `known`."""
        parser = _Parser(text, known, where)
        value = parser.whole()
        return cls(text, frozenset(parser.names), value)

    def value(self, variables: Mapping[str, float]) -> float:
        """Raises GradingFailed("formula_parse_error") where the result is no finite real number (a division by zero)."""
        try:
            result = float(self._value(variables))
        except (ArithmeticError, ValueError) as error:
            raise self._failure(str(error), variables) from None
        if not math.isfinite(result):
            raise self._failure(f"the result is {result}", variables)
        return result

    def _failure(self, what: str, variables: Mapping[str, float]) -> GradingFailed:
        text = self.text if len(self.text) <= 200 else self.text[:200] + "..."
        return GradingFailed("formula_parse_error", f"{text}: {what}, with {dict(variables)}")


class _Parser:
    """Grammar: sum = product (+- product)*; product = signed (*/ signed)*; signed = -signed | power; power = atom [^ signed]."""

    def __init__(self, text: str, known: set[str], where: str) -> None:
        self.text, self.known, self.where = text, known, where
        self.names: set[str] = set()
        self.position = 0
        self.depth = 0
        self.number, self.name, self.sign = "", "", ""  # the token at hand; all empty at the end
        self.start = 0

    def whole(self) -> Value:
        if len(self.text) > MAX_CHARS:
            raise GraderError(f"{self.where}: the formula has {len(self.text)} characters, more than {MAX_CHARS}")
        self.advance()
        value = self.sum()
        if self.number or self.name or self.sign:
            self.fail("unexpected")
        return value

    def advance(self) -> None:
        self.number, self.name, self.sign = "", "", ""
        rest = self.text[self.position :]
        self.start = self.position + len(rest) - len(rest.lstrip())
        if not rest.strip():
            return
        match = TOKEN.match(self.text, self.position)
        if match is None:
            self.fail("cannot read")
        self.number, self.name, self.sign = (group or "" for group in match.groups())
        self.position = match.end()

    def fail(self, what: str) -> NoReturn:
        found = self.text[self.start : self.start + 20]
        at = f"{found!r} at character {self.start + 1}" if found else "at its end"
        allowed = f"there are + - * / ^ ( ), the functions {' '.join(FUNCTIONS)} and the graders {', '.join(sorted(self.known))}"
        raise GraderError(f"{self.where}: {what} {at} of the formula; {allowed}")

    def sum(self) -> Value:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise GraderError(f"{self.where}: the formula is nested deeper than {MAX_DEPTH}")
        terms = [(1.0, self.product())]
        while self.sign in ("+", "-"):
            factor = 1.0 if self.sign == "+" else -1.0
            self.advance()
            terms.append((factor, self.product()))
        self.depth -= 1
        if len(terms) == 1:
            return terms[0][1]
        return lambda v: sum(factor * term(v) for factor, term in terms)

    def product(self) -> Value:
        first = self.signed()
        factors: list[tuple[str, Value]] = []
        while self.sign in ("*", "/"):
            operator = self.sign
            self.advance()
            factors.append((operator, self.signed()))
        if not factors:
            return first

        def value(v: Mapping[str, float]) -> float:
            result = first(v)
            for operator, factor in factors:
                result = result * factor(v) if operator == "*" else result / factor(v)
            return result

        return value

    def signed(self) -> Value:
        negative = False
        while self.sign in ("+", "-"):
            negative ^= self.sign == "-"
            self.advance()
        value = self.power()
        return (lambda v: -value(v)) if negative else value

    def power(self) -> Value:
        base = self.atom()
        if self.sign not in ("^", "**"):
            return base
        self.advance()
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise GraderError(f"{self.where}: the formula is nested deeper than {MAX_DEPTH}")
        exponent = self.signed()
        self.depth -= 1
        return lambda v: math.pow(base(v), exponent(v))

    def atom(self) -> Value:
        if self.number:
            constant = float(self.number)
            self.advance()
            return lambda v: constant
        if self.name:
            return self.named()
        if self.sign == "(":
            self.advance()
            value = self.sum()
            self.closing()
            return value
        self.fail("a number, a grader or ( is missing")

    def named(self) -> Value:
        name, start = self.name, self.start
        self.advance()
        if self.sign != "(" or (name in self.known and name not in FUNCTIONS):
            if name not in self.known:
                self.start = start
                self.fail("no grader is named")
            self.names.add(name)
            return lambda v: v[name]
        if name not in FUNCTIONS:
            self.start = start
            self.fail("unknown function")
        function, fewest, most = FUNCTIONS[name]
        arguments: list[Value] = []
        while not arguments or self.sign == ",":
            self.advance()
            arguments.append(self.sum())
        self.closing()
        if not fewest <= len(arguments) <= most:
            raise GraderError(f"{self.where}: {name} takes {fewest} argument{'s' * (fewest > 1)}, not {len(arguments)}")
        return lambda v: function(*(argument(v) for argument in arguments))

    def closing(self) -> None:
        if self.sign != ")":
            self.fail("a ) is missing")
        self.advance()
