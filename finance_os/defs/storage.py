"""Dagster's own storage: dagster-postgres, with connections kept and batches of events written in bulk.

When Dagster creates a run it plans an event for each asset and day: 4,745 of them for a year of Stripe, and four times
as many rows for its checks. dagster-postgres stores each event by itself, through two connections opened for it: some
40 s in all, where the vendor is read in 5 to 50. Here a batch of events is one INSERT, and connections are kept.

What is written is what dagster-postgres writes, row by row: dagster.yaml can go back to `storage: postgres:` at any
time, and machines with and without this class can share a database. Dagster makes batches only where
DAGSTER_EVENT_BATCH_SIZE is set, and stores their events one by one should storing a batch fail.
"""

import os
from collections.abc import Sequence
from typing import Any

from dagster import DagsterEventType
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log import SqlEventLogStorageTable
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, ConcurrencyLimitsTable
from dagster._serdes import ConfigurableClassData, serialize_value
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage
from dagster_postgres.utils import create_pg_engine, get_token_provider_from_config, pg_url_from_config
from sqlalchemy.engine import Engine

KEPT_CONNECTIONS = 2
"""The most connections that an idle process keeps: one, and one for a statement beside an open transaction.

With the daemon, a code server, eight runs at once (dagster.yaml) and the webserver, which has three more of its own,
that is 25. A process that needs more for a moment opens them, as it would without a pool: nobody waits for one.
"""

KEPT_SECONDS = 300
"""How old a kept connection may become: firewalls forget those that were silent for longer."""

_IN_BULK = {
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
}

_engines: dict[str, Engine] = {}


class BulkEventLogStorage(PostgresEventLogStorage):
    """Event log that stores a batch of planned events, or of materializations, with one INSERT."""

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store `events` in their order. A batch with events of other kinds is left to dagster-postgres.

        `asset_keys` is updated with the last event of each asset, which is where updating it with each would lead.
        Nobody is notified, as for dagster-postgres' own batches: run logs are followed by polling.
        """
        if not events or {event.dagster_event_type for event in events} - _IN_BULK:
            super().store_event_batch(events)
            return
        insert = SqlEventLogStorageTable.insert().returning(SqlEventLogStorageTable.c.id, sort_by_parameter_order=True)
        rows = [self._event_to_row(event) for event in events]
        with self.index_connection() as connection:
            ids = connection.execute(insert, rows).scalars().all()
        stored = list(zip(events, ids, strict=True))
        last_of_asset = {key: each for each in stored if (key := each[0].get_dagster_event().asset_key)}
        with self.index_transaction() as connection:
            self._store_asset_event_tags(connection, events, ids)
            for event, event_id in last_of_asset.values():
                self._store_asset_event(connection, event, event_id)
        for event, event_id in stored:
            if event.dagster_event_type == DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED:
                self.store_asset_check_event(event, event_id)

    def _store_asset_check_evaluation_planned(self, event: EventLogEntry, event_id: int | None) -> None:
        """One row for each partition, as in `SqlEventLogStorage`, which serializes the event for each anew."""
        planned: Any = event.get_dagster_event().event_specific_data
        row = {
            "asset_key": planned.asset_key.to_string(),
            "check_name": planned.check_name,
            "run_id": event.run_id,
            "execution_status": AssetCheckExecutionRecordStatus.PLANNED.value,
            "evaluation_event": serialize_value(event),
            "evaluation_event_timestamp": self._event_insert_timestamp(event),
            "evaluation_event_storage_id": event_id,
        }
        keys = planned.partitions_subset.get_partition_keys() if planned.partitions_subset else [None]
        with self.index_connection() as connection:
            connection.execute(AssetCheckExecutionsTable.insert(), [row | {"partition": key} for key in keys])

    def initialize_concurrency_limit_to_default(self, concurrency_key: str) -> bool:
        """As in `SqlEventLogStorage`, which PostgreSQL fails where the pool is there: after each change of its default
        in dagster.yaml the first steps of a pool."""
        default = self._instance.global_op_concurrency_default_limit
        if default is not None and self.has_default_pool_limit_col:
            of_pool = ConcurrencyLimitsTable.c.concurrency_key == concurrency_key
            with self.index_transaction() as connection:
                if connection.execute(ConcurrencyLimitsTable.update().where(of_pool).values(limit=default)).rowcount:
                    self._allocate_concurrency_slots(connection, concurrency_key, default)
                    return True
        return super().initialize_concurrency_limit_to_default(concurrency_key)


class BulkPostgresStorage(DagsterPostgresStorage):
    """All of Dagster's storage, with the same configuration as `storage: postgres:` in dagster.yaml."""

    def __init__(
        self,
        postgres_url: str,
        should_autocreate_tables: bool = True,
        inst_data: ConfigurableClassData | None = None,
        token_provider: Any = None,
    ) -> None:
        super().__init__(postgres_url, should_autocreate_tables, inst_data, token_provider)
        self._event_log_storage = BulkEventLogStorage(
            postgres_url, should_autocreate_tables, token_provider=token_provider
        )
        # Connections that a token provider authenticates are not shared: it belongs to one storage.
        if token_provider is None:
            for storage in (self._run_storage, self._event_log_storage, self._schedule_storage):
                storage._engine = _engine_of(postgres_url)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> "BulkPostgresStorage":
        """The storage that dagster.yaml asks for."""
        return cls(
            inst_data=inst_data,
            postgres_url=pg_url_from_config(config_value),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            token_provider=get_token_provider_from_config(config_value),
        )


def _engine_of(url: str) -> Engine:
    """The engine of this process for a database: instances come and go, a code server makes one for each tick.

    A connection that was lost meanwhile (PostgreSQL was restarted) is found out and replaced before it is used.
    """
    if url not in _engines:
        engine = create_pg_engine(
            url,
            isolation_level="AUTOCOMMIT",
            pool_size=KEPT_CONNECTIONS,
            max_overflow=-1,
            pool_pre_ping=True,
            pool_recycle=KEPT_SECONDS,
        )
        _engines.setdefault(url, engine)
    return _engines[url]


def _leave_connections_to_parent() -> None:
    """Two processes must not talk through one connection; closing it in the child would end it for both."""
    for engine in _engines.values():
        engine.dispose(close=False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_connections_to_parent)
