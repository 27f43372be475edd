"""What downstream assets are given: current records, as Arrow or pandas, of the partitions that they ask for."""

import json
from collections.abc import Callable
from datetime import date
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest

from finance_os.defs.io_managers import RawRecordIOManager
from finance_os.defs.partitions import DAILY
from finance_os.defs.resources import Evidence
from finance_os.evidence.tables import CURRENT_SCHEMA
from finance_os.evidence.windows import Days
from finance_os.sources.registry import SOURCES
from finance_os_tests.defs.conftest import Installation, range_tags
from finance_os_tests.evidence.staged import page, record, stage

INVOICES = dg.AssetKey(["stripe", "stripe_invoice"])
MONTHS = dg.MonthlyPartitionsDefinition(start_date="2026-01-01")
FIRST, SECOND, FIFTH, LAST = (date(2026, 10, day) for day in (1, 2, 5, 31))
OUTSIDE = date(2026, 11, 1)

Row = tuple[str, str, str, str]
"""Business, source ID, content and day."""


@pytest.fixture
def october(installation: Installation) -> Installation:
    """Invoices of October with the same IDs in both businesses; in_2 changes on the 5th, in_3 is removed then."""
    for business in ("acme", "globex"):
        connection = installation.connections[business, "stripe"]
        for minute, (day, contents) in enumerate(
            {
                FIRST: {"in_1": "a", "in_3": "a"},
                SECOND: {"in_2": "a"},
                FIFTH: {"in_2": "b", "in_3": None},
                LAST: {"in_4": "a"},
                OUTSIDE: {"in_5": "a"},
            }.items()
        ):
            records = [
                record(source_id, content and f"{business} {content}", day=day)
                for source_id, content in contents.items()
            ]
            stage(installation.database, connection, page(*records, minute=minute), days=Days(day, day))
    return installation


def loaded(
    installation: Installation,
    annotation: type,
    *,
    partitions_def: dg.PartitionsDefinition[Any] | None = DAILY,
    mapping: dg.PartitionMapping | None = None,
    partition_key: str | None = None,
    tags: dict[str, str] | None = None,
) -> Any:
    """What an asset downstream of the invoices is given when it is materialized by the real job."""
    given: list[Any] = []

    def compute(invoices: Any) -> None:
        given.append(invoices)

    compute.__annotations__["invoices"] = annotation
    decorate: Callable[..., dg.AssetsDefinition] = dg.asset(
        name="downstream",
        ins={"invoices": dg.AssetIn(INVOICES, partition_mapping=mapping)},
        partitions_def=partitions_def,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    downstream = decorate(compute)
    defs = dg.Definitions.merge(installation.defs, dg.Definitions(assets=[downstream]))
    result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=installation.instance,
        asset_selection=[downstream.key],
        partition_key=partition_key,
        tags=tags or {},
    )
    assert result.success
    [value] = given
    return value


def rows_of(table: pa.Table) -> list[Row]:
    """The rows of a table, by business and source ID."""
    return sorted(
        (row["business_id"], row["source_id"], json.loads(row["payload"])["content"], str(row["partition_day"]))
        for row in table.to_pylist()
    )


def both(*rows: tuple[str, str, str]) -> list[Row]:
    """The same rows of both businesses, with contents of their own."""
    return sorted(
        (business, source_id, f"{business} {content}", day)
        for business in ("acme", "globex")
        for source_id, content, day in rows
    )


def test_a_day_as_arrow(october: Installation) -> None:
    table = loaded(october, pa.Table, partition_key="2026-10-02")
    assert isinstance(table, pa.Table)
    assert table.schema == CURRENT_SCHEMA
    # The current version, whichever the day saw.
    assert rows_of(table) == both(("in_2", "b", "2026-10-02"))


def test_a_day_as_pandas(october: Installation) -> None:
    frame = loaded(october, pd.DataFrame, partition_key="2026-10-01")
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == CURRENT_SCHEMA.names
    assert sorted(zip(frame["business_id"], frame["source_id"], strict=True)) == [("acme", "in_1"), ("globex", "in_1")]


def test_an_empty_day_has_the_same_columns(october: Installation) -> None:
    assert loaded(october, pa.Table, partition_key="2026-09-01").schema == CURRENT_SCHEMA
    frame = loaded(october, pd.DataFrame, partition_key="2026-09-01")
    assert (len(frame), list(frame.columns)) == (0, CURRENT_SCHEMA.names)


def test_a_range_has_each_record_once_with_its_last_day(october: Installation) -> None:
    table = loaded(october, pa.Table, tags=range_tags(Days(FIRST, FIFTH)))
    assert rows_of(table) == both(("in_1", "a", "2026-10-01"), ("in_2", "b", "2026-10-05"))


def test_a_month_is_given_all_of_its_days_and_no_other(october: Installation) -> None:
    table = loaded(october, pa.Table, partitions_def=MONTHS, partition_key="2026-10-01")
    assert rows_of(table) == both(("in_1", "a", "2026-10-01"), ("in_2", "b", "2026-10-05"), ("in_4", "a", "2026-10-31"))


def test_an_asset_without_partitions_is_given_everything(october: Installation) -> None:
    table = loaded(october, pa.Table, partitions_def=None)
    assert {row[1] for row in rows_of(table)} == {"in_1", "in_2", "in_4", "in_5"}


def test_days_that_do_not_follow_each_other(october: Installation) -> None:
    mapping = dg.SpecificPartitionsPartitionMapping(["2026-10-01", "2026-10-02", "2026-10-05", "2026-11-01"])
    table = loaded(october, pa.Table, partitions_def=None, mapping=mapping)
    assert rows_of(table) == both(("in_1", "a", "2026-10-01"), ("in_2", "b", "2026-10-05"), ("in_5", "a", "2026-11-01"))


def test_one_business_by_tag(october: Installation) -> None:
    table = loaded(october, pa.Table, partition_key="2026-10-02", tags={"finance_os/business": "globex"})
    assert rows_of(table) == [("globex", "in_2", "globex b", "2026-10-02")]
    nobody = loaded(october, pa.Table, partition_key="2026-10-02", tags={"finance_os/business": "nobody"})
    assert rows_of(nobody) == []


def test_by_hand_outside_a_run(october: Installation) -> None:
    manager = RawRecordIOManager(Evidence(), SOURCES)
    context = dg.build_input_context(
        asset_key=INVOICES,
        asset_partition_key_range=dg.PartitionKeyRange("2026-10-01", "2026-10-05"),
        asset_partitions_def=DAILY,
        dagster_type=dg.PythonObjectDagsterType(pa.Table),
    )
    table = manager.load_input(context)
    assert isinstance(table, pa.Table)
    assert len(rows_of(table)) == 4
