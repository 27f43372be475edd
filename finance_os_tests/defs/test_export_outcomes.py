"""What the check of the export says: what agrees, what does not, and what nobody compared."""

from datetime import date
from decimal import Decimal

import pytest

from finance_os.defs.export_outcomes import Outcome, check_result
from finance_os.defs.refusals import Refusal
from finance_os.evidence.extraction import Finding, Severity
from finance_os.stripe_qbo.export import GATED, Verification
from finance_os.stripe_qbo.reconcile import Clearing, Reconciled
from finance_os.stripe_qbo.verify import Verified

SAME = Clearing("usd", "Stripe Clearing", Decimal(7), Decimal(7))
UNCOMPARED = Clearing("eur", "Stripe EUR", Decimal(7), None, "one account stands for several currencies")
REFUSED = Refusal("globex", "2026-06-09", "books_not_read", "stripe_qbo", None, None, "Read them.")
GONE = Finding("qbo_object_missing", Severity.CRITICAL, "invoice:in_1:invoice", date(2026, 6, 9), "Gone.")


def verified(business_id: str, links: Verified, *clearing: Clearing) -> Outcome:
    return Outcome(business_id, verified=Verification(links, Reconciled(clearing)))


def test_what_was_compared_and_agrees_is_all_that_is_said() -> None:
    found = check_result([verified("acme", Verified(as_planned=3), SAME)])
    assert (found.passed, found.description) == (True, "3 objects are as planned.")


def test_what_was_not_compared_is_said_and_why() -> None:
    """It passes all the same: nothing that was looked at differs."""
    outcomes = [
        verified("acme", Verified(as_planned=3, unsettled=2), SAME, UNCOMPARED),
        verified("initech", Verified(as_planned=1)),
        Outcome("globex", [REFUSED, REFUSED]),
        Outcome("hooli", gated=True),
    ]
    found = check_result(outcomes)
    assert (found.passed, found.description) == (
        True,
        "4 objects are as planned. Not compared: acme: clearing eur (one account stands for several currencies); "
        "acme: 2 objects (they are being written); initech: clearing (its rules name no account); "
        f"globex: nothing was (books_not_read); hooli: nothing was ({GATED}).",
    )


def test_the_figures_that_were_compared_are_shown_of_each_business() -> None:
    shown = check_result([verified("acme", Verified(as_planned=3, adopted=1), SAME), Outcome("globex")]).metadata
    assert set(shown) == {"acme: objects", "acme: clearing", "acme: payouts that equal their deposits", "findings"}
    assert shown["acme: objects"].value == "3 as planned, 1 adopted ones are there, 0 are being written"
    assert "| usd | Stripe Clearing | 7 | 7 | agrees |" in str(shown["acme: clearing"].value)
    assert "clearing" in check_result([verified("acme", Verified(), SAME)]).metadata


@pytest.mark.parametrize(
    ("unwritten", "told"),
    [
        ("-3.50", "agrees, with -3.50 of 1,200 writes that are not written yet"),
        ("2", "differs, with 2 of 1,200 writes that are not written yet"),
    ],
    ids=["agrees", "differs"],
)
def test_what_is_not_written_yet_is_told_of_clearing(unwritten: str, told: str) -> None:
    held = Clearing("usd", "Clearing", Decimal("7.00"), Decimal("10.50"), unwritten=Decimal(unwritten), writes=1_200)
    shown = check_result([verified("acme", Verified(as_planned=3), held)]).metadata
    assert f"| usd | Clearing | 7.00 | 10.50 | {told} |" in str(shown["clearing"].value)


def test_what_was_not_compared_is_said_beside_what_differs() -> None:
    found = check_result([verified("acme", Verified(findings=[GONE]), UNCOMPARED)])
    assert (found.passed, found.description) == (
        False,
        "QuickBooks does not agree: 1 acme qbo_object_missing. Nothing is written over it. Not compared: acme: "
        "clearing eur (one account stands for several currencies).",
    )
