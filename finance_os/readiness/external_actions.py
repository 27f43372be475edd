"""External actions: what is about to be done outside under a policy is recorded before it is done."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import psycopg

from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.readiness.policies import IntentConflict, PolicyGated, policy_named


class Outcome(StrEnum):
    """How an attempt ended; unknown: it may have arrived, as when the answer never came."""

    DELIVERED = "delivered"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Action:
    """An action as it was committed. `outcome` is the latest that is known, `None` while there is none.

    `begun_before` says that this intent key is not new: look at `outcome` before the call is made again.
    """

    action_id: int
    business_id: str
    policy: str
    intent_key: str
    target: str
    payload_hash: str
    approval_id: int | None
    requested_at: datetime
    outcome: Outcome | None
    begun_before: bool


def begin_action(
    database: Database, business_id: str, policy: str, intent_key: str, target: str, payload_hash: str
) -> Action:
    """Commit that `target` is about to be called, once for each `intent_key`; the call may be made after this returns.

    `payload_hash` is a SHA-256 in hex (or its first 12 digits or more) of what will be sent. The same key with the
    same target and payload gives the earlier action; unless that was delivered, it too needs an approval now.
    Raises `PolicyGated`, with nothing recorded, unless an approval in force covers the target; `IntentConflict` if
    the key was used for another target or payload; `UnknownPolicy`.
    """
    declared = policy_named(policy)
    key = {"business_id": business_id, "policy": policy, "intent_key": intent_key}
    with database.transaction() as connection:
        earlier = _earlier(connection, key)
        if earlier is not None and (earlier.target, earlier.payload_hash) != (target, payload_hash):
            raise IntentConflict(
                f"intent {intent_key!r} of policy {policy} was begun for {earlier.target} with payload "
                f"{earlier.payload_hash[:12]}, not for {target} with {payload_hash[:12]}: use another key."
            )
        if earlier is not None and earlier.outcome is Outcome.DELIVERED:
            return earlier
        approval = connection.execute(
            """
            SELECT approval_id FROM finance_os.policy_approvals AS approval
            WHERE business_id = %(business_id)s AND policy = %(policy)s AND expires_at > clock_timestamp()
              AND finance_os.policy_covers(scope, %(target)s)
              AND NOT EXISTS (SELECT FROM finance_os.policy_revocations AS revocation
                              WHERE revocation.request_id = approval.request_id)
            ORDER BY expires_at DESC, approval_id DESC LIMIT 1
            """,
            {**key, "target": target},
        ).fetchone()
        if approval is None:
            raise PolicyGated(declared, business_id, target)
        if earlier is not None:
            return earlier
        try:
            row = connection.execute(
                """
                INSERT INTO finance_os.external_actions
                    (business_id, policy, intent_key, target, payload_hash, approval_id)
                VALUES (%(business_id)s, %(policy)s, %(intent_key)s, %(target)s, %(payload_hash)s, %(approval_id)s)
                ON CONFLICT (business_id, policy, intent_key) DO NOTHING
                RETURNING action_id, requested_at
                """,
                {**key, "target": target, "payload_hash": payload_hash, **approval},
            ).fetchone()
        except psycopg.errors.InsufficientPrivilege as error:
            if "is not in force" not in (error.diag.message_primary or ""):
                raise
            # It was revoked, or expired, since it was looked up.
            raise PolicyGated(declared, business_id, target) from None
    if row is None:  # another process began it just now
        return begin_action(database, business_id, policy, intent_key, target, payload_hash)
    return Action(
        row["action_id"],
        business_id,
        policy,
        intent_key,
        target,
        payload_hash,
        approval["approval_id"],
        row["requested_at"],
        None,
        begun_before=False,
    )


def end_action(database: Database, action: Action, outcome: Outcome | str, detail: str = "") -> None:
    """Record how an attempt at `action` ended. `detail` is a code or a sentence without personal data or secrets."""
    with database.transaction() as connection:
        connection.execute(
            """
            INSERT INTO finance_os.external_action_outcomes (business_id, action_id, outcome, detail)
            VALUES (%s, %s, %s, %s)
            """,
            (action.business_id, action.action_id, Outcome(outcome).value, detail),
        )


def _earlier(connection: DatabaseConnection, key: dict[str, Any]) -> Action | None:
    row = connection.execute(
        """
        SELECT action_id, business_id, policy, intent_key, target, payload_hash, approval_id, requested_at,
               (SELECT outcome FROM finance_os.external_action_outcomes AS outcome
                WHERE outcome.action_id = action.action_id ORDER BY outcome_id DESC LIMIT 1) AS outcome
        FROM finance_os.external_actions AS action
        WHERE business_id = %(business_id)s AND policy = %(policy)s AND intent_key = %(intent_key)s
        """,
        key,
    ).fetchone()
    if row is None:
        return None
    outcome = row.pop("outcome")
    return Action(**row, outcome=None if outcome is None else Outcome(outcome), begun_before=True)
