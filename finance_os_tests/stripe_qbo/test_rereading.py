"""Objects that are read from Stripe again, over a socket: a payout with what it paid out."""

from typing import Any

import httpx
import pytest

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.sandbox.process import running_sandbox
from finance_os.stripe_qbo.rereading import read_objects


def listed(env: Any, path: str, **params: str) -> list[dict[str, Any]]:
    """The newest hundred of a list."""
    headers = {"authorization": f"Bearer {env['FINANCE_OS_STRIPE_API_KEY']}"}
    url = env["FINANCE_OS_STRIPE_API_BASE"] + path
    found = httpx.get(url, params={**params, "limit": "100"}, headers=headers, trust_env=False).raise_for_status()
    return found.json()["data"]


def test_a_payout_is_read_with_what_it_paid_out_once_stripe_lists_it(
    database: Database, acme: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_sandbox(seed=5, days=25, size=3) as sandbox:
        for name in ("FINANCE_OS_STRIPE_API_KEY", "FINANCE_OS_STRIPE_API_BASE"):
            monkeypatch.setenv(name, sandbox.env[name])
        done = next(each for each in listed(sandbox.env, "/v1/payouts") if each["status"] == "paid")["id"]
        members = listed(sandbox.env, "/v1/balance_transactions", payout=done)
        assert len(members) > 1
        sandbox.change("update", id=done, values={"reconciliation_status": "in_progress"}, silent=True)
        assert list(read_objects(database, "acme", [f"payout:{done}"], 100)) == [
            f"payout:{done}: 1 new, 0 changed, 0 removed"
        ]
        sandbox.change("update", id=done, values={"reconciliation_status": "completed"}, silent=True)
        assert list(read_objects(database, "acme", [f"payout:{done}"], 100)) == [
            f"payout:{done}: 0 new, 1 changed, 0 removed",
            f"stripe_payout_balance_transaction: {len(members)} new, 0 changed, 0 removed",
        ]
    rows = database.fetch(
        "SELECT source_id FROM finance_os.raw_record_heads WHERE object_type = 'stripe_payout_balance_transaction'"
    )
    assert {row["source_id"] for row in rows} == {f"{done}/{each['id']}" for each in members}
