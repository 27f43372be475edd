"""The sandbox's company of a folder: the same one whoever opens the folder, and whenever."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from finance_os.local.sandbox_company import DAYS, SIZE, OtherCompany, SandboxCompany, sandbox_company
from finance_os.sandbox.process import running_sandbox

TODAY = date(2026, 11, 21)
LATER = date(2026, 12, 3)


def test_a_folder_keeps_its_company(tmp_path: Path) -> None:
    home = tmp_path / "var"
    made = sandbox_company(home, TODAY, days=None, size=None, seed=7)
    assert made == SandboxCompany(TODAY - timedelta(days=DAYS), SIZE, 7)
    assert sandbox_company(home, LATER, days=None, size=None, seed=7) == made
    assert made.days(LATER) == DAYS + 12
    assert sandbox_company(home, TODAY, days=DAYS, size=SIZE, seed=7) == made
    assert sandbox_company(tmp_path / "another", TODAY, days=9, size=3, seed=7).days(TODAY) == 9


@pytest.mark.parametrize("asked", [{"days": 9, "size": None}, {"days": None, "size": 9}], ids=["days", "size"])
def test_another_company_over_the_same_folder_is_refused(tmp_path: Path, asked: dict[str, int | None]) -> None:
    kept = sandbox_company(tmp_path, TODAY, days=5, size=2, seed=7)
    with pytest.raises(OtherCompany, match=r"began on 2026-11-16 with 2 advertisers.*make clean"):
        sandbox_company(tmp_path, TODAY, seed=7, **asked)
    assert sandbox_company(tmp_path, LATER, days=None, size=None, seed=7) == kept


def test_the_sandbox_begins_on_the_day_that_it_is_told() -> None:
    """Whatever its other options say: what it made first is from that day."""
    first = TODAY - timedelta(days=40)
    with running_sandbox(start=first, days=3, size=1, until=datetime(2026, 11, 21, 12, tzinfo=UTC), rooms=()) as told:
        key = {"authorization": f"Bearer {told.env['FINANCE_OS_STRIPE_API_KEY']}"}
        answer = httpx.get(f"{told.base}/v1/customers?limit=100", headers=key, trust_env=False).raise_for_status()
    created = min(each["created"] for each in answer.json()["data"])
    assert datetime.fromtimestamp(created, UTC).date() == first
