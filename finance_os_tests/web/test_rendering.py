"""What templates make of words."""

from datetime import datetime, timedelta, timezone

import pytest
from jinja2 import UndefinedError

from finance_os.web.rendering import breakable, rendered, utc, words


def test_what_stands_between_backticks_is_code_and_everything_is_escaped() -> None:
    assert words("run `finance-os plan` <now> & `a<b`") == (
        "run <code>finance-os plan</code> &lt;now&gt; &amp; <code>a&lt;b</code>"
    )
    assert words("one ` alone") == "one ` alone"


def test_identifiers_may_be_broken_at_their_joints_only() -> None:
    assert breakable("a_b/c d-e") == "a_<wbr>b/<wbr>c d-e"
    assert breakable("<_&") == "&lt;_&amp;"


def test_a_time_for_machines_is_in_utc() -> None:
    assert utc(datetime(2026, 5, 4, 1, 2, 3, 4, timezone(timedelta(hours=9)))) == "2026-05-03T16:02:03+00:00"


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        rendered("missing.html")
