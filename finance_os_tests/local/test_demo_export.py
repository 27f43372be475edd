"""What the demo's posting decides by itself: whether it posts, when all is written, and when it gives up."""

import io
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.local import demo_export
from finance_os.local.demo_export import KILLED_AFTER, post_to_quickbooks
from finance_os.local.demo_failed import DemoFailed
from finance_os.local.export_setting import RULES
from finance_os.local.stack import Stack
from finance_os.stripe_qbo.store import put_plan
from finance_os_tests.stripe_qbo.books import customer, invoice

REALM = "9130357992222222"


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def said(console: Console) -> str:
    return cast(io.StringIO, console.file).getvalue()


def stack(database: Database, environment: Mapping[str, str], sandbox: Any = None) -> Stack:
    return Stack(dict(environment), database, Path(), (), sandbox, 40)


_RULES = {RULES: '{"acme": {"balance_date": "2026-06-01"}}'}


@pytest.mark.parametrize(
    ("environment", "own", "sandbox"),
    [({}, True, object()), (_RULES, False, object()), (_RULES, True, None), ({RULES: "{}"}, True, object())],
    ids=["no rules", "another database", "no sandbox", "another business"],
)
def test_nothing_is_posted_where_it_is_not_ours_to_post(
    console: Console, database: Database, environment: Mapping[str, str], own: bool, sandbox: Any
) -> None:
    """Dagster is not even asked: `None` stands in its place."""
    given = stack(database, environment, sandbox)
    post_to_quickbooks(console, given, cast(Any, None), "acme", own=own)
    assert "Nothing is posted" in said(console)


def test_states_are_counted_by_business_and_told(database: Database, acme: Connection, globex: Connection) -> None:
    assert demo_export._told(demo_export._states(database, "acme")) == "no intents"
    put_plan(database, "acme", REALM, [customer("cus_1"), invoice("in_1", "cus_1")])
    put_plan(database, "globex", REALM, [customer("cus_1")])
    assert demo_export._states(database, "acme") == {"planned": 2}
    assert demo_export._states(database, None) == {"planned": 3}
    assert demo_export._told({"applied": 1_200, "planned": 2}) == "1,200 intents applied, 2 intents planned"
    assert (demo_export._applied(database), demo_export._links(database, "acme")) == (0, 0)


@pytest.mark.parametrize("left", ["planned", "sending", "failed", "conflicted"])
def test_all_is_written_only_when_nothing_is_left(left: str) -> None:
    assert demo_export._is_written({"applied": 5, "superseded": 1})
    assert not demo_export._is_written({"applied": 5, left: 1})


def test_a_command_that_fails_ends_the_demo_and_shows_why(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import sys; print('said', *sys.argv[1:]); sys.exit(int(sys.argv[1]))"
    monkeypatch.setattr(demo_export, "_CLI", (sys.executable, "-c", program))
    demo_export._command(console, {}, "0", "well")
    with pytest.raises(DemoFailed, match="`finance-os 3 ill` ended with status 3"):
        demo_export._command(console, {}, "3", "ill")
    assert [each.strip() for each in said(console).splitlines() if "said" in each] == ["said 0 well", "said 3 ill"]


def test_who_waits_too_long_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_export, "PATIENCE", timedelta(seconds=-1))
    with pytest.raises(DemoFailed, match=r"it was not done within .*: the run failed"):
        demo_export._until(lambda: False, "it was not done", lambda: ": the run failed")
    demo_export._until(lambda: True, "it was not done", lambda: "")


def test_a_writer_is_killed_once_enough_is_there(
    console: Console, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that would never end by itself; one that ends before is told, and not waited for."""
    objects = iter(range(100))
    monkeypatch.setattr(demo_export, "_applied", lambda _: next(objects))
    monkeypatch.setattr(demo_export, "_CLI", (sys.executable, "-c", "import time; time.sleep(600)"))
    demo_export._kill_a_writer(console, stack(database, {}), KILLED_AFTER[0])
    assert f"killed a writer (signal 9) after {KILLED_AFTER[0] + 1} objects" in said(console)
    monkeypatch.setattr(demo_export, "_applied", lambda _: 0)
    monkeypatch.setattr(demo_export, "_CLI", (sys.executable, "-c", "import sys; sys.exit(3)"))
    demo_export._kill_a_writer(console, stack(database, {}), KILLED_AFTER[0])
    assert "a writer ended by itself, with status 3" in said(console)
