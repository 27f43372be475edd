"""The manual ingestion probe: through the same staging as everything else, and without any vendor."""

import socket
from typing import Any

import pytest

from finance_os.evidence.businesses import Connection, ensure_business
from finance_os.evidence.database import Database
from finance_os.evidence.replay import run_records
from finance_os.sources.probe import record_probe


def test_two_probes_are_two_records_of_their_business(
    database: Database, acme: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_business(database, "globex", "Globex", "Asia/Tokyo")
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        assert isinstance(address, str), f"a probe connected to {address}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)
    runs = [record_probe(database, business, "x") for business in ("acme", "acme", "globex")]
    assert [(run["trigger"], run["rows_new"], run["status"]) for run in runs] == [("probe", 1, "succeeded")] * 3
    ids = [record.source_id for run in runs for record in run_records(database, run["sync_run_id"])]
    assert len(set(ids)) == 3


def test_a_business_that_is_not_there_is_named(database: Database) -> None:
    with pytest.raises(LookupError, match="nobody"):
        record_probe(database, "nobody")
