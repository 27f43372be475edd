"""Matching the lines of one bank account as two sources show them: one to one, and only where there is no choice.

The rule, as one would do it on paper:

1. Two lines can belong together if account, currency, direction and amount are the same to the cent and their days
   lie at most `window_days` apart. A pending line belongs to nothing.
2. Lines that can belong together, directly or through others, are one group. If all of a group can be paired off and
   there is only one way to do it, that is how they are matched. Lines of one side that are alike (same day, same
   reference) may change places: that is not another way.
3. Only where there is a choice, references decide. Those lines of the group that show the same reference are looked
   at alone, by rule 2; a line that two references would pair differently is left. What remains is judged again.
4. What is still open is ambiguous: it stays unmatched, and is listed. A line that nothing can belong to is unmatched.
5. An unmatched line that shares a reference with exactly one unmatched line of the other side, in the same direction
   and within the days, differs from it in amount: a variance, not a match.

A reference is a word with a digit in it and at least four letters or digits, compared without case and punctuation;
a number also without zeros in front. Other words ("INVOICE", "ACH") name nothing.

Everything here is sorted first, so the order in which lines come does not matter; and the two sides can change places.
"""

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

WINDOW_DAYS = 3
"""How many days apart two sources may post the same movement, unless the caller says otherwise."""

_SEPARATORS = re.compile(r"[\s,;|*]+")
_PUNCTUATION = re.compile(r"[\W_]+")
_SHORTEST_REFERENCE = 4


@dataclass(frozen=True, slots=True)
class BankLine:
    """One movement as one source shows it.

    `key` is its external ID, unique on its side. `amount` is positive, in millionths of the currency's main unit (of
    USD: microdollars). `reference` is any text with IDs, trace numbers and the like. `account` is what both sides
    call the account, or "" where they do not say.
    """

    key: str
    day: date
    amount: int
    direction: Literal["in", "out"]
    reference: str | None = None
    pending: bool = False
    currency: str = "USD"
    account: str = ""


@dataclass(frozen=True, slots=True)
class SideCounts:
    """One side after matching: how many lines it has, and the keys of those that are pending, or without a match.

    `unmatched` has every posted line that was not matched, those of ambiguous groups and variances too.
    """

    rows: int
    matched: int
    unmatched: tuple[str, ...]
    pending: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Lines that could be paired in several ways, or not completely; keys in order."""

    left: tuple[str, ...]
    right: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Variance:
    """Two lines with one reference and two amounts; `amount` is the difference, in millionths of `currency`."""

    left: str
    right: str
    amount: int
    currency: str


@dataclass(frozen=True, slots=True)
class Matching:
    """What became of every line. `pairs`, `ambiguous` and `variances` are in the order of their left keys."""

    left: SideCounts
    right: SideCounts
    pairs: tuple[tuple[str, str], ...]
    ambiguous: tuple[Ambiguous, ...]
    variances: tuple[Variance, ...]


@dataclass(frozen=True, slots=True)
class _Posted:
    """A posted line with its day as a number, and its references."""

    day: int
    references: tuple[str, ...]
    key: str
    line: BankLine

    def like(self, other: "_Posted") -> bool:
        """Whether the two, of one side and one amount, could change places without anybody noticing."""
        return (self.day, self.references) == (other.day, other.references)


_Pair = tuple[_Posted, _Posted]


@dataclass(frozen=True, slots=True)
class _Group:
    """Lines of both sides, each in order of day, references and key."""

    left: list[_Posted]
    right: list[_Posted]


def references(text: str | None) -> frozenset[str]:
    """The references in a text: see the module."""
    words = (_PUNCTUATION.sub("", word.casefold()) for word in _SEPARATORS.split(text or ""))
    found = (word.lstrip("0") if word.isdecimal() else word for word in words)
    return frozenset(
        word for word in found if len(word) >= _SHORTEST_REFERENCE and any(letter.isdecimal() for letter in word)
    )


def match(left: Iterable[BankLine], right: Iterable[BankLine], *, window_days: int = WINDOW_DAYS) -> Matching:
    """Match the lines of two sides by the rule of this module, in n log n.

    Raises `ValueError` for a key that is twice on one side, and for an amount that is not positive.
    """
    sides = (list(left), list(right))
    groups: defaultdict[tuple[object, ...], _Group] = defaultdict(lambda: _Group([], []))
    for posted, at in ((_posted(sides[0]), 0), (_posted(sides[1]), 1)):
        for each in posted:
            line = each.line
            group = groups[line.account, line.currency, line.direction, line.amount]
            (group.right if at else group.left).append(each)
    pairs: list[_Pair] = []
    ambiguous: list[_Group] = []
    alone: list[_Group] = []
    for group in groups.values():
        _resolve(group, window_days, pairs, ambiguous, alone)
    variances = _variances(alone, window_days)
    matched = {each.key for each, _ in pairs}, {each.key for _, each in pairs}
    return Matching(
        _counts(sides[0], matched[0]),
        _counts(sides[1], matched[1]),
        tuple(sorted((one.key, other.key) for one, other in pairs)),
        tuple(sorted((Ambiguous(_keys(each.left), _keys(each.right)) for each in ambiguous), key=lambda a: a.left)),
        tuple(sorted(variances, key=lambda variance: variance.left)),
    )


def _posted(lines: Sequence[BankLine]) -> list[_Posted]:
    """The lines that are not pending, in order."""
    if len({line.key for line in lines}) != len(lines):
        raise ValueError("a key names two lines of one side")
    if any(line.amount <= 0 for line in lines):
        raise ValueError("an amount is positive: the direction says where the money went")
    posted = (
        _Posted(line.day.toordinal(), tuple(sorted(references(line.reference))), line.key, line)
        for line in lines
        if not line.pending
    )
    return sorted(posted, key=lambda each: (each.day, each.references, each.key))


def _counts(lines: Sequence[BankLine], matched: set[str]) -> SideCounts:
    return SideCounts(
        rows=len(lines),
        matched=len(matched),
        unmatched=tuple(sorted(line.key for line in lines if not line.pending and line.key not in matched)),
        pending=tuple(sorted(line.key for line in lines if line.pending)),
    )


def _keys(lines: Iterable[_Posted]) -> tuple[str, ...]:
    return tuple(sorted(each.key for each in lines))


def _resolve(lines: _Group, window_days: int, pairs: list[_Pair], ambiguous: list[_Group], alone: list[_Group]) -> None:
    """Sort lines of one amount into pairs, ambiguous groups, and lines that nothing can belong to."""
    waiting = [lines]
    while waiting:
        for group in _connected(waiting.pop(), window_days):
            if not group.left or not group.right:
                alone.append(group)
            elif (found := _only_way(group, window_days)) is not None:
                pairs += found
            elif decided := _by_reference(group, window_days):
                pairs += decided
                waiting.append(_without(group, decided))
            else:
                ambiguous.append(group)


def _connected(lines: _Group, window_days: int) -> Iterator[_Group]:
    """The groups that can belong together directly or through others; a line that is alone is one of its own."""
    right_days = [each.day for each in lines.right]
    taken = 0
    group = _Group([], [])
    for each in lines.left:
        first = bisect_left(right_days, each.day - window_days)
        end = bisect_right(right_days, each.day + window_days)
        if first == end:
            yield _Group([each], [])
            continue
        if group.left and first >= taken:
            yield group
            group = _Group([], [])
        for alone in lines.right[taken:first]:
            yield _Group([], [alone])
        group.left.append(each)
        group.right.extend(lines.right[max(taken, first) : end])
        taken = max(taken, end)
    if group.left:
        yield group
    for alone in lines.right[taken:]:
        yield _Group([], [alone])


def _only_way(group: _Group, window_days: int) -> list[_Pair] | None:
    """The pairs, if all lines can be paired off and there is one way to do it; else `None`.

    If lines can be paired off at all, the earliest with the earliest, and so on, is a way. If there is another, there
    are two of these pairs that can swap partners; they need not lie side by side, but it is enough to look at the
    nearest that differ on both sides, as days only grow further apart behind them.
    """
    pairs = list(zip(group.left, group.right, strict=False))
    if len(group.left) != len(group.right) or any(abs(one.day - other.day) > window_days for one, other in pairs):
        return None
    beyond = tuple(map(max, _ends_of_like(group.left), _ends_of_like(group.right)))
    for (one, other), at in zip(pairs, beyond, strict=True):
        if at < len(pairs):
            later_one, later_other = pairs[at]
            if later_one.day - other.day <= window_days and later_other.day - one.day <= window_days:
                return None
    return pairs


def _ends_of_like(lines: Sequence[_Posted]) -> list[int]:
    """For each line the position after the last that is like it."""
    ends = [len(lines)] * len(lines)
    for at in range(len(lines) - 2, -1, -1):
        ends[at] = ends[at + 1] if lines[at].like(lines[at + 1]) else at + 1
    return ends


def _by_reference(group: _Group, window_days: int) -> list[_Pair]:
    """The pairs of a group that a common reference decides, without any line that two references pair differently."""
    proposed: set[tuple[str, str]] = set()
    for each in _with_common_reference([group]):
        for part in _connected(each, window_days):
            if part.left and part.right:
                proposed |= {(one.key, other.key) for one, other in _only_way(part, window_days) or ()}
    left, right = ({each.key: each for each in side} for side in (group.left, group.right))
    return [(left[one], right[other]) for one, other in _undisputed(proposed)]


def _with_common_reference(groups: Iterable[_Group]) -> list[_Group]:
    """For each reference that both sides show, the lines that show it."""
    showing: defaultdict[str, _Group] = defaultdict(lambda: _Group([], []))
    for group in groups:
        for each in group.left:
            for reference in each.references:
                showing[reference].left.append(each)
        for each in group.right:
            for reference in each.references:
                showing[reference].right.append(each)
    return [group for _, group in sorted(showing.items()) if group.left and group.right]


def _undisputed(pairs: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs both of whose lines are in no other pair."""
    partners: tuple[defaultdict[str, int], defaultdict[str, int]] = defaultdict(int), defaultdict(int)
    for one, other in pairs:
        partners[0][one] += 1
        partners[1][other] += 1
    return sorted(pair for pair in pairs if partners[0][pair[0]] == partners[1][pair[1]] == 1)


def _without(group: _Group, pairs: Sequence[_Pair]) -> _Group:
    left, right = ({pair[side].key for pair in pairs} for side in (0, 1))
    return _Group(
        [each for each in group.left if each.key not in left], [each for each in group.right if each.key not in right]
    )


def _variances(alone: Sequence[_Group], window_days: int) -> list[Variance]:
    """Rule 5, over lines that no line of the same amount can belong to."""
    by_money: defaultdict[tuple[str, str, str], _Group] = defaultdict(lambda: _Group([], []))
    for group in alone:
        for lines, right in ((group.left, False), (group.right, True)):
            for each in lines:
                money = by_money[each.line.account, each.line.currency, each.line.direction]
                (money.right if right else money.left).append(each)
    lines_of: tuple[dict[str, BankLine], dict[str, BankLine]] = {}, {}
    proposed: set[tuple[str, str]] = set()
    for group in by_money.values():
        for side, lines in enumerate((group.left, group.right)):
            lines.sort(key=lambda each: (each.day, each.references, each.key))
            lines_of[side].update((each.key, each.line) for each in lines)
        for common in _with_common_reference([group]):
            for part in _connected(common, window_days):
                if len(part.left) == len(part.right) == 1:
                    proposed.add((part.left[0].key, part.right[0].key))
    return [
        Variance(one, other, abs(lines_of[0][one].amount - lines_of[1][other].amount), lines_of[0][one].currency)
        for one, other in _undisputed(proposed)
    ]
