"""What became of the reads of a request, and so of the events that asked for them."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from psycopg.types.json import Jsonb

from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.observability import happened
from finance_os.webhooks import inbox
from finance_os.webhooks.settings import WebhookSettings
from finance_os.webhooks.walk import LONGEST_WAIT, ReadRequest

_log = logging.getLogger(__name__)

OF_THE_CONNECTION = frozenset(
    {
        "call_budget_exhausted",
        "credentials_missing",
        "encryption_key_invalid",
        "feature_flag_off",
        "invalid_setting",
        "kept_secret_busy",
        "kept_secret_not_kept",
        "kept_secret_unreadable",
        "key_refused",
        "not_ready",
        "production_policy_not_approved",
        "rate_limited",
        "secret_denied",
        "secret_file_exposed",
        "secret_not_found",
        "secret_reference_unknown",
        "secret_store_unreachable",
        "secret_unreadable",
        "unauthorized",
        "unreachable",
    }
)
"""Error codes that say nothing of an event: its read waits until the connection works again, and is not counted."""

NO_SYNC_RUN = "run_failed"
"""What is said of a read whose run ended without a sync run."""

OF_EITHER = frozenset({"interrupted", NO_SYNC_RUN, "timeout", "unreadable_answer", "vendor_error"})
"""Error codes that may be an event's own or everybody's: counted where the connection has worked since the last one."""


@dataclass(frozen=True)
class Settled:
    """What became of the events of a request: read, to be tried again, or set aside."""

    done: int
    again: int
    poisoned: int


def settle(database: Database, request: ReadRequest, run_ids: Sequence[str], settings: WebhookSettings) -> Settled:
    """Record what became of a request whose Dagster runs have all ended.

    An event is done when every object that it asks for was read by a sync run that succeeded, after it had come.
    """
    with database.transaction() as opened:
        inbox.lock(opened)
        succeeded, errors = _outcome(opened, request, run_ids)
        own = [name for name, code in errors.items() if code not in OF_THE_CONNECTION | OF_EITHER]
        either = [name for name, code in errors.items() if code in OF_EITHER]
        parameters = {
            "request_id": request.request_id,
            "connection_id": request.connection.connection_id,
            "business_id": request.connection.business_id,
            "succeeded": Jsonb(succeeded),
            "errors": Jsonb(errors),
            "own": own,
            "either": either,
            "max_tries": settings.max_tries,
            "retry_seconds": settings.retry_seconds,
            "longest": LONGEST_WAIT,
        }
        done = opened.execute(
            """
            UPDATE finance_os.webhook_events
            SET state = 'done', settled_at = clock_timestamp(), last_error = NULL,
                sync_run_ids = ARRAY (SELECT run.value::bigint FROM jsonb_each_text(%(succeeded)s) AS run
                                      WHERE reads ? run.key ORDER BY 1)
            WHERE request_id = %(request_id)s AND state = 'requested'
              AND NOT EXISTS (SELECT FROM jsonb_object_keys(reads) AS wanted WHERE NOT %(succeeded)s ? wanted)
            RETURNING extract(epoch FROM settled_at - received_at)::float8 AS latency
            """,
            parameters,
        ).fetchall()
        failed = opened.execute(
            """
            WITH judged AS (
                SELECT event_number, tries,
                       reads ?| %(own)s OR reads ?| %(either)s AND failed_at IS NOT NULL AND EXISTS (
                           SELECT FROM finance_os.source_sync_runs AS run
                           WHERE run.business_id = %(business_id)s AND run.connection_id = %(connection_id)s
                             AND run.status = 'succeeded' AND run.started_at > event.failed_at) AS counts
                FROM finance_os.webhook_events AS event
                WHERE request_id = %(request_id)s AND state = 'requested'
            ), counted AS (
                SELECT event_number, counts, tries + counts::int AS tries,
                       tries + counts::int >= %(max_tries)s AS poisoned
                FROM judged
            )
            UPDATE finance_os.webhook_events AS event
            SET tries = counted.tries, request_id = NULL, failed_at = clock_timestamp(),
                last_error = (SELECT string_agg(error.key || ': ' || error.value, ', ' ORDER BY error.key)
                              FROM jsonb_each_text(%(errors)s) AS error WHERE reads ? error.key),
                state = CASE WHEN poisoned THEN 'poisoned' ELSE 'received' END,
                settled_at = CASE WHEN poisoned THEN clock_timestamp() END,
                wait_until = clock_timestamp()
                    + least(%(retry_seconds)s * 2 ^ greatest(counted.tries - 1, 0) * interval '1 second', %(longest)s)
            FROM counted WHERE event.event_number = counted.event_number
            RETURNING event.event_number, event.state, counted.counts
            """,
            parameters,
        ).fetchall()
        held_up = bool(failed) and not any(row["counts"] for row in failed)
        opened.execute(
            """
            UPDATE finance_os.webhook_requests
            SET state = %(state)s, error = %(error)s, ended_at = clock_timestamp()
            WHERE request_id = %(request_id)s AND state = 'open'
            """,
            {
                "state": "succeeded" if not errors else "held_up" if held_up else "failed",
                "error": ", ".join(f"{name}: {code}" for name, code in sorted(errors.items())) or None,
                "request_id": request.request_id,
            },
        )
        poisoned = [row["event_number"] for row in failed if row["state"] == "poisoned"]
        if poisoned:
            inbox.tell_of_poisoned(opened, request.connection, poisoned)
    settled = Settled(len(done), len(failed) - len(poisoned), len(poisoned))
    of = request.connection
    happened.events_settled(of.business_id, of.source_system, asdict(settled), [row["latency"] for row in done])
    _log.info("webhook request %s ended: %s", request.request_id, settled)
    return settled


def _outcome(
    opened: DatabaseConnection, request: ReadRequest, run_ids: Sequence[str]
) -> tuple[dict[str, int], dict[str, str]]:
    """Object type → the sync run that read it all; and, of the others, the code of what went wrong."""
    rows = opened.execute(
        """
        SELECT sync_run_id, object_type, status, error_code, targets FROM finance_os.source_sync_runs
        WHERE business_id = %(business_id)s AND connection_id = %(connection_id)s
          AND started_at >= %(requested_at)s - interval '2 days' AND dagster_run_id = ANY (%(run_ids)s)
        ORDER BY sync_run_id
        """,
        {
            "business_id": request.connection.business_id,
            "connection_id": request.connection.connection_id,
            "requested_at": request.requested_at,
            "run_ids": list(run_ids),
        },
    ).fetchall()
    succeeded: dict[str, int] = {}
    errors = dict.fromkeys(request.reads, NO_SYNC_RUN)
    for row in rows:
        object_type = row["object_type"]
        if object_type not in request.reads:
            continue
        targets = request.reads[object_type]
        if row["status"] == "succeeded" and set(targets or ()) <= set(row["targets"]):
            succeeded[object_type] = row["sync_run_id"]
        elif row["error_code"] is not None:
            errors[object_type] = row["error_code"]
    return succeeded, {name: code for name, code in errors.items() if name not in succeeded}
