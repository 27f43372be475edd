"""What the export finds is kept: everything, once, until it is found no more."""

import itertools
from collections.abc import Sequence

import pytest

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.evidence.exceptions import open_exceptions, together
from finance_os.evidence.extraction import Finding, Severity
from finance_os.stripe_qbo import drift, findings
from finance_os_tests.stripe_qbo.books import DAY

FIRST = Finding("written_differs", Severity.MEDIUM, "invoice:in_1", DAY, "DocNumber differs.")
SECOND = Finding("written_differs", Severity.HIGH, "invoice:in_1", DAY, "Line differs.")
OTHER = Finding("written_differs", Severity.LOW, "invoice:in_2", DAY, "DueDate differs.")


def settle(database: Database, found: Sequence[Finding], subjects: Sequence[str] | None = None) -> tuple[int, int]:
    with database.transaction() as connection:
        return findings.settle(connection, "acme", findings.VERIFY, found, subjects)


def told(database: Database) -> dict[str, tuple[str, str]]:
    """Subject → severity and detail of what is open."""
    return {each.subject: (each.severity.value, each.detail) for each in open_exceptions(database, "acme")}


@pytest.mark.parametrize(
    "found",
    itertools.permutations([FIRST, SECOND, OTHER, FIRST]),
    ids=lambda found: "-".join(each.detail[:2] + each.subject[-1] for each in found),
)
def test_two_that_differ_in_their_details_only_are_both_told(found: Sequence[Finding]) -> None:
    assert sorted(together(found).values(), key=lambda each: each.subject) == [
        Finding("written_differs", Severity.HIGH, "invoice:in_1", DAY, "DocNumber differs. Line differs."),
        OTHER,
    ]


def test_both_are_kept_and_each_goes_by_itself(database: Database, acme: Connection) -> None:
    assert settle(database, [FIRST, SECOND, OTHER]) == (2, 0)
    both = {"invoice:in_1": ("high", "DocNumber differs. Line differs."), "invoice:in_2": ("low", "DueDate differs.")}
    assert told(database) == both
    assert settle(database, [OTHER, SECOND, FIRST, SECOND]) == (0, 0)
    # What was found is open no more than once: who looks at a part only does not tell it as another one.
    assert [each.subject for each in drift.open_still(database, "acme", [SECOND])] == ["invoice:in_2"]
    assert settle(database, [FIRST], ["invoice:in_1"]) == (1, 1)
    assert told(database) == {**both, "invoice:in_1": ("medium", "DocNumber differs.")}
    assert settle(database, [FIRST, SECOND], ["invoice:in_1"]) == (1, 1)
    assert told(database) == both
    assert settle(database, []) == (0, 2)
    assert told(database) == {}


def test_what_is_found_on_another_day_or_with_another_code_stands_by_itself(
    database: Database, acme: Connection
) -> None:
    later = Finding(FIRST.code, FIRST.severity, FIRST.subject, DAY.replace(day=11), FIRST.detail)
    otherwise = Finding("qbo_object_changed", FIRST.severity, FIRST.subject, DAY, FIRST.detail)
    assert settle(database, [FIRST, later, otherwise]) == (3, 0)
    assert {each.detail for each in open_exceptions(database, "acme")} == {FIRST.detail}
