"""``--where``: a small part of SQL's conditions over runs, parsed here and never evaluated as code.

    condition  = and ("or" and)*            and   = not ("and" not)*        not = "not" not | "(" condition ")" | test
    test       = COLUMN ("=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">=") VALUE
               | COLUMN ["not"] "in" "(" VALUE ("," VALUE)* ")"
               | COLUMN ["not"] "like" TEXT | COLUMN "is" ["not"] "null"

A missing value makes a test neither true nor false, as in SQL. Texts are quoted with ' or ", doubled inside.

Why not SQLite's own evaluator: it takes slips such as ``scheduler = 'pndm' or 'ddim'``, ``1 < guidance < 7`` and
``guidance > 'high'`` for conditions that are always true or always false, where an error is due. A check of the form
that refuses them is most of this parser again.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from t2i_track.errors import CompareError
from t2i_track.metrics.registry import rankable
from t2i_track.ranking.protocols import settled
from t2i_track.ranking.rows import RunRow

Condition = Callable[[Mapping[str, Any]], bool | None]
"""True, False, or None where a value is missing."""

TAG = "tag."
"""How the columns begin that are people's tags."""
COLUMNS = {
    column.name: bool(re.search(r"\b(int|float)\b", str(column.type)))
    for column in fields(RunRow)
    if column.name not in ("scores", "all_scores", "tags")
}
"""What is known of a run beside its scores, and whether it is a number."""
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    |(?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
    |(?P<word>tag\.[\w.-]+|[^\W\d]\w*)|(?P<sign><=|>=|!=|<>|==|[=<>(),]))""",
    re.VERBOSE,
)
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "==": operator.eq, "!=": operator.ne, "<>": operator.ne,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_KEYWORDS = {"and", "or", "not", "in", "like", "is", "null"}
DEEPEST = 50


class Token(NamedTuple):
    kind: str
    text: str
    at: int


def where(rows: Iterable[RunRow], condition: str) -> list[RunRow]:
    """The rows for which ``condition`` is true, in their order; of each score, the value of its usual protocol counts.

    Raises:
        CompareError: the condition cannot be read, or names a column that runs do not have.
    """
    seen = settled(rows)
    metrics = {name for row in seen for name in row.scores} | set(rankable())
    tags = {f"{TAG}{key}" for row in seen for key in row.tags}
    test = parse(condition, {**dict.fromkeys(metrics, True), **COLUMNS, **dict.fromkeys(tags, False)})
    return [row for row in seen if test(_values(row, metrics) | _tags(row, tags))]


def _tags(row: RunRow, names: Iterable[str]) -> dict[str, str | None]:
    return {name: row.tags.get(name.removeprefix(TAG)) for name in names}


def parse(condition: str, columns: Mapping[str, bool]) -> Condition:
    """Compile ``condition``; ``columns`` maps each allowed name to whether it holds numbers."""
    return _Parser(condition, _tokens(condition), columns).whole()


def _values(row: RunRow, metrics: Iterable[str]) -> dict[str, Any]:
    values: dict[str, Any] = {name: score.value if (score := row.score(name)) else None for name in metrics}
    return values | {name: getattr(row, name) for name in COLUMNS}


def _tokens(condition: str) -> list[Token]:
    tokens, at = [], 0
    while condition[at:].strip():
        match = _TOKEN.match(condition, at)
        if match is None:
            start = len(condition) - len(condition[at:].lstrip())
            raise CompareError(f"--where: cannot read {condition[start:].split()[0]!r} in {condition!r}")
        kind = str(match.lastgroup)
        tokens.append(Token(kind, match[kind], match.start(kind)))
        at = match.end()
    return tokens


@dataclass
class _Parser:
    source: str
    tokens: list[Token]
    columns: Mapping[str, bool]
    at: int = 0
    depth: int = 0

    def whole(self) -> Condition:
        test = self.either()
        if self.at < len(self.tokens):
            self.fail("'and', 'or' or the end")
        return test

    def either(self) -> Condition:
        tests = [self.both()]
        while self.keyword("or"):
            tests.append(self.both())
        return lambda row: _any([test(row) for test in tests])

    def both(self) -> Condition:
        tests = [self.negation()]
        while self.keyword("and"):
            tests.append(self.negation())
        return lambda row: _not(_any([_not(test(row)) for test in tests]))

    def negation(self) -> Condition:
        if self.keyword("not"):
            inner = self.deeper(self.negation)
            return lambda row: _not(inner(row))
        if self.sign("("):
            inner = self.deeper(self.either)
            self.expect(")")
            return inner
        return self.test()

    def deeper(self, part: Callable[[], Condition]) -> Condition:
        self.depth += 1
        if self.depth > DEEPEST:
            raise CompareError(f"--where: more than {DEEPEST} levels of brackets and 'not' in {self.source[:40]!r}…")
        inner = part()
        self.depth -= 1
        return inner

    def test(self) -> Condition:
        column = self.column()
        if self.keyword("is"):
            wanted = not self.keyword("not")
            if not self.keyword("null"):
                self.fail("null")
            return lambda row: (row[column] is None) is wanted
        flip = self.keyword("not")
        if self.keyword("in"):
            choices = self.choices(column)
            return self.known(column, lambda value: (value in choices) is not flip)
        if self.keyword("like"):
            pattern = _like(str(self.value(column)))
            return self.known(column, lambda value: bool(pattern.fullmatch(str(value))) is not flip)
        if flip or self.peek().text not in _COMPARISONS:
            self.fail("'in' or 'like'" if flip else "one of = != < <= > >= in like is")
        compare, value = _COMPARISONS[self.next().text], self.value(column)
        return self.known(column, lambda found: compare(found, value))

    def known(self, column: str, test: Callable[[Any], bool]) -> Condition:
        return lambda row: None if row[column] is None else test(row[column])

    def column(self) -> str:
        token = self.peek()
        if token.kind != "word" or token.text.lower() in _KEYWORDS:
            self.fail("a column")
        if token.text not in self.columns:
            close = difflib.get_close_matches(token.text, self.columns, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(self.columns))}"
            raise CompareError(f"--where: no column {token.text!r}; {hint}")
        return self.next().text

    def choices(self, column: str) -> list[float | str]:
        self.expect("(")
        values = [self.value(column)]
        while self.sign(","):
            values.append(self.value(column))
        self.expect(")")
        return values

    def value(self, column: str) -> float | str:
        token, number = self.peek(), self.columns[column]
        if token.kind not in ("number", "text"):
            self.fail("a number" if number else "a quoted text")
        if (token.kind == "number") is not number:
            wanted = f"a number, not {token.text}" if number else f"a text: write '{token.text}'"
            raise CompareError(f"--where: {column} is {wanted}")
        self.next()
        return float(token.text) if number else token.text[1:-1].replace(token.text[0] * 2, token.text[0])

    def peek(self) -> Token:
        return self.tokens[self.at] if self.at < len(self.tokens) else Token("end", "", len(self.source))

    def next(self) -> Token:
        self.at += 1
        return self.tokens[self.at - 1]

    def keyword(self, word: str) -> bool:
        return self.accept(self.peek().kind == "word" and self.peek().text.lower() == word)

    def sign(self, text: str) -> bool:
        return self.accept(self.peek().kind == "sign" and self.peek().text == text)

    def accept(self, matches: bool) -> bool:
        self.at += matches
        return matches

    def expect(self, text: str) -> None:
        if not self.sign(text):
            self.fail(f"'{text}'")

    def fail(self, wanted: str) -> None:
        token = self.peek()
        found = f"{token.text} at character {token.at + 1}" if token.text else "the end"
        raise CompareError(f"--where: expected {wanted}, found {found} in {self.source!r}")


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value


def _any(values: list[bool | None]) -> bool | None:
    if True in values:
        return True
    return None if None in values else False


def _like(pattern: str) -> re.Pattern[str]:
    """SQL's pattern, where % is any text and _ any character; case matters not, as in SQLite."""
    parts = (".*" if char == "%" else "." if char == "_" else re.escape(char) for char in pattern)
    return re.compile("".join(parts), re.IGNORECASE | re.DOTALL)
