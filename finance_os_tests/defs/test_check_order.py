"""When a run checks what it reads: once it has read all of it."""

import dagster as dg

from finance_os_tests.defs.conftest import Installation, days_ago

OBJECT_TYPES = ("stripe_invoice", "stripe_invoice_payment", "stripe_customer")


def test_everything_is_read_before_anything_is_checked(installation: Installation) -> None:
    """Else there were moments when some of the days are proved anew, and others are as they were before."""
    result = installation.run("stripe", OBJECT_TYPES, days_ago(2, 1))
    assert result.success
    begun = [event.step_key or "" for event in result.all_events if event.event_type is dg.DagsterEventType.STEP_START]
    assert len(begun) == 2 * len(OBJECT_TYPES)
    assert [step.endswith("__checks") for step in begun] == [False] * 3 + [True] * 3
