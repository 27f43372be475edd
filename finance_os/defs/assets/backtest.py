"""The Phase 5 backtest as a gated asset: publisher by month, computed only from evidence whose gate is open."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dagster as dg

from finance_os.backtest import chart, shown
from finance_os.backtest.compare import COLUMNS
from finance_os.backtest.evidence import BASELINE, PUBLISHERS, SPEND, Refused
from finance_os.backtest.exports import export
from finance_os.backtest.month import Month
from finance_os.backtest.results import Stored, compute, days_over, inputs_of, rules_of
from finance_os.backtest.rules import VERSION
from finance_os.backtest.sign_off import standing_of
from finance_os.defs.assets.checkpoints import checkpoint_key
from finance_os.defs.assets.sources import OWNERS
from finance_os.defs.refusals import Refusal, failure
from finance_os.defs.resources import Evidence
from finance_os.evidence.businesses import active_connections
from finance_os.evidence.canonical import evidence_hash
from finance_os.evidence.database import Database
from finance_os.readiness.gate import Blocker, Gate, Input, gate
from finance_os.readiness.hardening import PRODUCTION_HARDENING
from finance_os.settings import settings

BACKTEST = dg.AssetKey(["backtest", "publisher_month_backtest"])

MONTHLY = dg.MonthlyPartitionsDefinition(
    start_date=settings().start_date.replace(day=1).isoformat(), timezone=settings().timezone, end_offset=1
)
"""The month that is not over is one too: the days of it that are over are in it."""

TABLE_NAME = "finance_os.backtest_results"

_DATA_VERSION = "dagster/data_version"

GateOf = Callable[[Database, str, Sequence[Input]], Gate]

_COLUMNS = dg.TableSchema(
    columns=[
        dg.TableColumn("publisher", "text", "Gravity's ID, else what events or the baseline call the publisher."),
        dg.TableColumn("name", "text", "Gravity's name for it."),
        dg.TableColumn("class", "text", "What became of the comparison."),
        dg.TableColumn("spend_microdollars", "integer", "Event-level spend. Millionths of a US dollar."),
        dg.TableColumn("revenue_share_bps", "integer", "Its share of the spend, in hundredths of a percent."),
        dg.TableColumn("expected_microdollars", "integer", "What of the spend is compared with the baseline."),
        *(
            dg.TableColumn(f"variances.{column}.{name}", kind, description)
            for column in COLUMNS
            for name, kind, description in (
                ("baseline_microdollars", "integer", f"What the baseline says of {column}."),
                ("absolute_microdollars", "integer", "How far the events lie above it."),
                ("relative", "text", "That by the baseline without its sign, six decimals, half to even."),
                ("class", "text", "What became of the comparison with this amount."),
            )
        ),
        dg.TableColumn("spend_evidence", "text", "SHA-256 over source IDs and payload hashes of the spend."),
        dg.TableColumn("baseline", "array", "The baseline's rows, with their payload hashes."),
    ]
)


class BacktestConfig(dg.Config):
    """Narrows what a run computes."""

    businesses: list[str] | None = None
    """IDs of the businesses; all that are connected to Redshift if not given."""


def backtest_asset(gate_of: GateOf = gate) -> dg.AssetsDefinition:
    """The asset. `gate_of` says whether the evidence that a month rests on may be acted upon."""

    @dg.asset(
        key=BACKTEST,
        group_name="backtest",
        kinds={"postgres"},
        owners=list(OWNERS),
        description="Phase 5: event-level spend of each publisher by month against finance's spreadsheet. Baseline "
        "rows explain a variance, and never replace the spend. Refused while the gate is shut.",
        partitions_def=MONTHLY,
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=[
            dg.AssetDep(
                dg.AssetKey(SPEND),
                # The first month may begin before the first day that is kept; the last one is not over.
                partition_mapping=dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True),
            ),
            dg.AssetDep(dg.AssetKey(BASELINE), partition_mapping=dg.AllPartitionMapping()),
            dg.AssetDep(dg.AssetKey(PUBLISHERS), partition_mapping=dg.LastPartitionMapping()),
            # Covers the other checkpoints: in one run Dagster holds the asset back by its blocking checks.
            checkpoint_key(PRODUCTION_HARDENING),
        ],
        code_version=str(VERSION),
        output_required=False,
        metadata={"dagster/table_name": TABLE_NAME, "dagster/column_schema": _COLUMNS},
    )
    def publisher_month_backtest(
        context: dg.AssetExecutionContext, config: BacktestConfig, evidence: Evidence
    ) -> Iterator[dg.Output[None]]:
        database = evidence.database
        businesses = _businesses(database, config)
        refusals: list[Refusal] = []
        for key in sorted(context.partition_keys):
            month = Month.parse(key)
            computed: list[Stored] = []
            for business_id in businesses:
                found = _compute(database, business_id, month, gate_of, context.run_id)
                if isinstance(found, Stored):
                    computed.append(found)
                else:
                    context.log.error(f"{business_id}, {month}: refused, {', '.join(each.code for each in found)}")
                    refusals += found
            metadata = {
                name: value for stored in computed for name, value in _metadata(database, stored, businesses).items()
            }
            # A month is there when it is there of everyone; what was computed of others is kept all the same.
            if len(computed) == len(businesses):
                context.log_event(
                    dg.AssetMaterialization(
                        BACKTEST,
                        partition=key,
                        metadata={
                            "dagster/row_count": sum(len(stored.result.rows) for stored in computed),
                            "dagster/table_name": TABLE_NAME,
                            "dagster/column_schema": _COLUMNS,
                            **metadata,
                        },
                        tags={_DATA_VERSION: evidence_hash([stored.result_hash for stored in computed])},
                    )
                )
        if refusals:
            raise failure(refusals, "months")
        # Months are reported one by one, above: an output would report all of them alike.
        yield from ()

    return publisher_month_backtest


def _businesses(database: Database, config: BacktestConfig) -> list[str]:
    connected = sorted({connection.business_id for connection in active_connections(database, SPEND[0])})
    wanted = connected if config.businesses is None else sorted(set(config.businesses))
    if unconnected := [business_id for business_id in wanted if business_id not in connected]:
        raise dg.Failure(
            f"{', '.join(unconnected)}: no active connection to Redshift; {', '.join(connected) or 'no business'} has "
            "one.",
            allow_retries=False,
        )
    if not wanted:
        raise dg.Failure(
            "No business has an active connection to Redshift: set FINANCE_OS_REDSHIFT_URL, or name businesses that "
            "have one.",
            allow_retries=False,
        )
    return wanted


class _Shut(Exception):
    """The gate is shut for a month."""

    def __init__(self, blockers: Sequence[Blocker]) -> None:
        super().__init__(f"{len(blockers)} blockers")
        self.blockers = blockers


def _compute(
    database: Database, business_id: str, month: Month, gate_of: GateOf, dagster_run_id: str
) -> Stored | list[Refusal]:
    """The month of a business, or why not. What is judged is what is computed from."""
    start = settings().start_date

    def admit(seen: Database) -> None:
        days = days_over(seen, business_id, month, start)
        found = gate_of(seen, business_id, [Input(*each) for each in inputs_of(seen, business_id, month, days)])
        if not found.open:
            raise _Shut(found.blockers)

    try:
        return compute(database, business_id, month, rules_of(settings()), start, dagster_run_id, admit=admit)
    except _Shut as shut:
        return [Refusal.of(business_id, str(month), blocker) for blocker in shut.blockers]
    except Refused as refused:
        return [Refusal(business_id, str(month), refused.code, "/".join(BACKTEST.path), None, None, refused.message)]


def _metadata(database: Database, stored: Stored, businesses: Sequence[str]) -> dict[str, Any]:
    """What the UI shows of a month of a business; names bear the business where there are several."""
    result = stored.result
    files = export(result, settings().exports_location / "backtest" / result.business_id)
    standing = standing_of(database, result.business_id, result.month, stored.result_hash)
    shown_of = {
        "days": str(result.days),
        "classes": shown.classes_text(result),
        "totals": dg.MetadataValue.md(shown.totals_table(result)),
        "rows": dg.MetadataValue.md(shown.rows_table(result)),
        "chart": dg.MetadataValue.md(chart.as_markdown(result)),
        "result hash": stored.result_hash,
        "sign-off": shown.sign_off_text(standing, result.sign_off_blockers),
        "CSV": dg.MetadataValue.path(str(files.csv)),
        "XLSX": dg.MetadataValue.path(str(files.xlsx)),
        **{name: total for name, total in result.totals.items() if name != "records"},
        "spend records": result.totals["records"],
    }
    if len(businesses) == 1:
        return shown_of
    return {f"{result.business_id}: {name}": value for name, value in shown_of.items()}
