"""Feeds: no row is left out because its transaction committed after a later one's, and none is read twice."""

from datetime import timedelta

import pytest

from finance_os.alerts import feeds
from finance_os.alerts.feeds import CHECKS, read_cursor
from finance_os.alerts.raising import raise_alerts
from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os_tests.alerts.raised import blocked, held, insert_blocked, open_keys

pytestmark = pytest.mark.usefixtures("acme")

EARLY = ("acme", "check:stripe/stripe_invoice:early:because", 1)
LATE = ("acme", "check:stripe/stripe_invoice:trace:trace_counts_disagree", 1)


def missing(database: Database) -> list[tuple[int, int]]:
    with database.transaction() as connection:
        return [(each.first, each.last) for each in read_cursor(connection, CHECKS).missing]


def test_a_row_that_is_committed_after_later_ones_is_read(database: Database) -> None:
    with held(database) as slow:
        insert_blocked(slow, "early")
        blocked(database)
        raise_alerts(database)
        assert open_keys(database) == [LATE]
        assert missing(database) == [(1, 1)]
        slow.execute("COMMIT")
    raise_alerts(database)
    assert open_keys(database) == [EARLY, LATE]
    assert missing(database) == []
    assert raise_alerts(database) == []


def test_a_row_that_never_comes_is_given_up_once_nothing_of_its_time_is_under_way(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held(database) as slow, held(database) as gone:
        insert_blocked(slow, "early")
        insert_blocked(gone, "gone")
        blocked(database)
        gone.execute("ROLLBACK")
        raise_alerts(database)
        assert missing(database) == [(1, 2)]
        monkeypatch.setattr(feeds, "GIVEN_UP_AFTER", timedelta(0))
        raise_alerts(database)
        assert missing(database) == [(1, 2)], "a transaction of that time is still under way"
        slow.execute("COMMIT")
    raise_alerts(database)
    assert open_keys(database) == [EARLY, LATE]
    raise_alerts(database)
    assert missing(database) == []


def test_a_row_that_never_comes_is_waited_for(database: Database) -> None:
    with held(database) as gone:
        insert_blocked(gone, "gone")
        gone.execute("ROLLBACK")
    blocked(database)
    for _ in range(3):
        raise_alerts(database)
    assert missing(database) == [(1, 1)]


def test_a_crash_moves_neither_the_position_nor_the_alerts(
    database: Database, acme: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked(database)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("finance_os.alerts.ledger.Ledger.write", crash)
        with pytest.raises(KeyboardInterrupt):
            raise_alerts(database)
    assert open_keys(database) == []
    raise_alerts(database)
    assert open_keys(database) == [LATE]
