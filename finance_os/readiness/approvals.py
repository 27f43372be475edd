"""Changing a policy: asking, approving and revoking, each by the database session's login and with an audit event."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import psycopg

from finance_os.evidence.audit import UnfitForAudit
from finance_os.evidence.database import Database
from finance_os.readiness.policies import (
    ANYTHING,
    Approval,
    Policy,
    PolicyRequest,
    append_event,
    policy_named,
)

APPROVER_ROLE = "finance_os_approver"


class PolicyRefused(RuntimeError):
    """A change of a policy that is not allowed, in one sentence that says what to do. Nothing was recorded."""


def request(
    database: Database, business_id: str, policy: str, *, reason: str, expires_at: datetime, scope: str | None = None
) -> PolicyRequest:
    """Ask that `policy` be approved for `scope` (`*`, any target, if not given) until `expires_at`, which has a zone.

    Supersedes an open request of the same scope. Raises `PolicyRefused`, `UnknownPolicy`.
    """
    declared = policy_named(policy)
    if scope is None and declared.scoped:
        raise PolicyRefused(f"{policy} is approved for one target: name {declared.target} with --scope.")
    wanted = ANYTHING if scope is None else scope.strip()
    if not wanted:
        raise PolicyRefused(f"The scope is empty: name {declared.target}.")
    until = _moment(expires_at)
    with _refusals(), database.transaction() as connection:
        event = append_event(
            connection,
            business_id,
            declared,
            "requested",
            {"reason": _reason(reason), "scope": wanted, "expires_at": until.isoformat()},
        )
        row = connection.execute(
            """
            INSERT INTO finance_os.policy_requests (business_id, policy, reason, scope, expires_at, audit_sequence)
            VALUES (%s, %s, %s, %s, %s, %s)
            RETURNING request_id, scope, expires_at, actor AS requested_by, reason
            """,
            (business_id, policy, reason.strip(), wanted, until, event.sequence),
        ).fetchone()
        assert row is not None
    return PolicyRequest(**row)


def approve(
    database: Database,
    business_id: str,
    policy: str,
    *,
    reason: str,
    request_id: int | None = None,
    expires_at: datetime | None = None,
) -> Approval:
    """Approve a request: the one open request of `policy`, or the one named, until its expiry or sooner.

    `database` is one in the role `finance_os_approver`, whose login is not the one that asked. Raises
    `PolicyRefused`, `UnknownPolicy`.
    """
    declared = policy_named(policy)
    reason = _reason(reason)
    with _refusals(), database.transaction() as connection:
        asked = connection.execute(
            """
            SELECT request.request_id, request.scope, request.expires_at, request.actor,
                   request.expires_at > clock_timestamp()
                   AND NOT EXISTS (SELECT FROM finance_os.policy_approvals AS approval
                                   WHERE approval.request_id = request.request_id)
                   AND NOT EXISTS (SELECT FROM finance_os.policy_revocations AS revocation
                                   WHERE revocation.request_id = request.request_id)
                   AND NOT EXISTS (SELECT FROM finance_os.policy_requests AS later
                                   WHERE later.business_id = request.business_id AND later.policy = request.policy
                                     AND later.scope = request.scope AND later.request_id > request.request_id)
                   AS open
            FROM finance_os.policy_requests AS request
            WHERE business_id = %(business_id)s AND policy = %(policy)s
              AND (expires_at > clock_timestamp() OR request_id = %(request_id)s)
              AND (%(request_id)s::bigint IS NULL OR request_id = %(request_id)s)
            ORDER BY request.request_id
            """,
            {"business_id": business_id, "policy": policy, "request_id": request_id},
        ).fetchall()
        # Of one that was named, the database says why it cannot be approved.
        able = asked if request_id is not None else [row for row in asked if row["open"]]
        if not able:
            raise PolicyRefused(_nothing_to_approve(declared, business_id, request_id))
        if len(able) > 1:
            choices = ", ".join(f"{row['request_id']} for {row['scope']}" for row in able)
            raise PolicyRefused(f"Several requests of {policy} are open ({choices}): name one with --request.")
        chosen = able[0]
        until = chosen["expires_at"] if expires_at is None else _moment(expires_at)
        event = append_event(
            connection,
            business_id,
            declared,
            "approved",
            {
                "request_id": chosen["request_id"],
                "reason": reason,
                "scope": chosen["scope"],
                "expires_at": until.astimezone(UTC).isoformat(),
            },
        )
        row = connection.execute(
            """
            INSERT INTO finance_os.policy_approvals
                (request_id, business_id, policy, reason, scope, expires_at, audit_sequence)
            VALUES (%s, %s, %s, %s, %s, %s, %s)
            RETURNING approval_id, request_id, scope, expires_at, actor AS approved_by, reason
            """,
            (chosen["request_id"], business_id, policy, reason, chosen["scope"], until, event.sequence),
        ).fetchone()
        assert row is not None
    return Approval(**row, requested_by=chosen["actor"])


def revoke(
    database: Database, business_id: str, policy: str, *, reason: str, request_id: int | None = None
) -> list[int]:
    """Revoke what is in force or asked for under `policy`, or the one request named; the IDs of those requests.

    What was done under an approval while it was in force stays explained. Raises `PolicyRefused`, `UnknownPolicy`.
    """
    declared = policy_named(policy)
    reason = _reason(reason)
    with _refusals(), database.transaction() as connection:
        live = connection.execute(
            """
            SELECT request.request_id FROM finance_os.policy_requests AS request
            WHERE request.business_id = %(business_id)s AND request.policy = %(policy)s
              AND NOT EXISTS (SELECT FROM finance_os.policy_revocations AS revocation
                              WHERE revocation.request_id = request.request_id)
              AND CASE WHEN %(request_id)s::bigint IS NULL
                       THEN request.expires_at > clock_timestamp() AND NOT starts_with(request.scope, 'action:')
                       ELSE request.request_id = %(request_id)s END
            ORDER BY request.request_id
            """,
            {"business_id": business_id, "policy": policy, "request_id": request_id},
        ).fetchall()
        if not live:
            which = "is in force or asked for" if request_id is None else f"of request {request_id} is left"
            raise PolicyRefused(f"There is nothing to revoke: nothing under {policy} of {business_id} {which}.")
        for row in live:
            event = append_event(
                connection, business_id, declared, "revoked", {"request_id": row["request_id"], "reason": reason}
            )
            connection.execute(
                """
                INSERT INTO finance_os.policy_revocations (request_id, business_id, policy, reason, audit_sequence)
                VALUES (%s, %s, %s, %s, %s)
                """,
                (row["request_id"], business_id, policy, reason, event.sequence),
            )
    return [row["request_id"] for row in live]


def _nothing_to_approve(policy: Policy, business_id: str, request_id: int | None) -> str:
    if request_id is not None:
        return f"{policy.key} of {business_id} has no request {request_id}: see `finance-os policy list`."
    return (
        f"{policy.key} of {business_id} has no open request: somebody else has to run "
        f"`finance-os policy request {policy.key} --reason … --expires …` first."
    )


def _reason(reason: str) -> str:
    if not reason.strip():
        raise PolicyRefused("A reason is needed: say in a few words why, without personal data.")
    return reason.strip()


def _moment(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a moment needs a time zone")
    return moment.astimezone(UTC)


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what the database and the audit chain refuse into `PolicyRefused`."""
    try:
        yield
    except UnfitForAudit as error:
        raise PolicyRefused(f"That cannot be recorded: {error}.") from None
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.CheckViolation) as error:
        words = (error.diag.message_primary or "refused", error.diag.message_hint)
        said = ". ".join(word.rstrip(".") for word in words if word)
        if said.startswith("permission denied"):
            said += (
                f". The login has to be a member of {APPROVER_ROLE} to approve, and of the application's role to ask"
            )
        raise PolicyRefused(f"Refused: {said}.") from None
    except psycopg.errors.UniqueViolation:
        raise PolicyRefused("Somebody else changed this policy at the same moment: look again.") from None
