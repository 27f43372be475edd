"""Policies: what stays shut until somebody approves it, and every action outside that was taken under an approval.

A policy is gated unless an approval is in force: given by another login than the one that asked, unexpired, not
revoked. Who may write what is decided by the database (`sql/schema/0008_policies.sql`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from finance_os.evidence import audit
from finance_os.evidence.database import Database, DatabaseConnection

APPROVED = "approved"
"""The status word of a policy with an approval in force."""

ANYTHING = "*"
"""The scope of an approval that covers every target of its policy."""

EXAMPLES = 20
"""How many unexplained actions a state names; it counts them all."""


@dataclass(frozen=True)
class Policy:
    """A policy as it is declared: `gated_status` is its status word while nothing is approved.

    `sentence` says what holds meanwhile, `allows` what an approval would allow, `target` what its scope names.
    A `scoped` policy has to be asked for with a scope: one target, not any.
    """

    key: str
    title: str
    gated_status: str
    sentence: str
    allows: str
    target: str
    scoped: bool = False


OUTBOUND_ALERT_DELIVERY = Policy(
    "outbound_alert_delivery",
    "Outbound alert delivery",
    "policy_gated_no_delivery",
    "No outbound notifications without channel approval.",
    "Alerts are delivered to the approved channel.",
    "the channel's fingerprint",
    scoped=True,
)
PLAID_PRODUCTION = Policy(
    "plaid_production",
    "Plaid production activation",
    "policy_gated_sandbox_only",
    "Production Plaid remains blocked until explicitly approved",
    "Plaid's live hosts are read.",
    "the host, such as production.plaid.com",
)
QBO_EXPORT = Policy(
    "qbo_export",
    "QBO export workflow",
    "policy_gated_read_only_ingestion_only",
    "QuickBooks is read and never written.",
    "Stripe's billing is written to the approved QuickBooks company.",
    "the realm",
)
RUNTIME_REGRESSION_EXECUTION = Policy(
    "runtime_regression_execution",
    "Runtime regression execution",
    "policy_gated_no_execution",
    "No runtime regression is executed.",
    "Runtime regressions are executed.",
    "the regression's name",
)
POLICIES = (OUTBOUND_ALERT_DELIVERY, PLAID_PRODUCTION, QBO_EXPORT, RUNTIME_REGRESSION_EXECUTION)


class UnknownPolicy(LookupError):
    """There is no policy of that name."""


class PolicyGated(RuntimeError):
    """No approval in force covers what was to be done. Nothing was recorded or sent.

    `blocker` is the policy's gated status word; `remedy` says how to get an approval.
    """

    def __init__(self, policy: Policy, business_id: str, target: str) -> None:
        self.policy, self.target, self.blocker = policy, target, policy.gated_status
        self.remedy = (
            f"Run `finance-os policy request {policy.key} --business {business_id} --scope '{target}' --reason … "
            f"--expires 30d` and have another login approve it."
        )
        super().__init__(
            f"{policy.title} is not approved for {target} of {business_id} ({self.blocker}). {self.remedy}"
        )


class IntentConflict(RuntimeError):
    """An action of the same intent key, but of another target or payload, was begun before."""


@dataclass(frozen=True)
class Approval:
    """Leave that is in force: for `scope` until `expires_at` (UTC); who asked for it and who gave it are logins."""

    approval_id: int
    request_id: int
    scope: str
    expires_at: datetime
    requested_by: str
    approved_by: str
    reason: str


@dataclass(frozen=True)
class PolicyRequest:
    """A request that can still be approved."""

    request_id: int
    scope: str
    expires_at: datetime
    requested_by: str
    reason: str


@dataclass(frozen=True)
class Unexplained:
    """Something that was done outside without an approval that covers it."""

    action_id: int
    target: str
    intent_key: str
    requested_at: datetime


@dataclass(frozen=True)
class PolicyState:
    """A policy of a business as it is now.

    `recorded` is whether it was ever put in force. `unexplained` names the first few of the `unexplained_count`
    actions that no approval covers.
    """

    business_id: str
    policy: Policy
    recorded: bool
    approvals: tuple[Approval, ...]
    requests: tuple[PolicyRequest, ...]
    unexplained: tuple[Unexplained, ...]
    unexplained_count: int

    @property
    def approved(self) -> bool:
        """Whether an approval is in force."""
        return bool(self.approvals)

    @property
    def status(self) -> str:
        """The policy's gated status word, or `approved`."""
        return APPROVED if self.approvals else self.policy.gated_status

    @property
    def ready(self) -> bool:
        """Whether everything that was done under the policy is explained."""
        return self.unexplained_count == 0

    @property
    def evidence(self) -> dict[str, Any]:
        """What decides the policy's line, as JSON for an evidence hash: an approval, or its end, does not."""
        return {"policy": self.policy.key, "unexplained": self.unexplained_count}

    @property
    def remedy(self) -> str | None:
        """What to do about what is unexplained; `None` of a policy that is ready."""
        if self.ready:
            return None
        first = self.unexplained[0]
        return (
            f"{self.unexplained_count} external action(s) under {self.policy.key} have no approval, first action "
            f"{first.action_id} at {first.target} ({first.intent_key}). Find out what sent it and stop that; once it "
            f"is understood, `finance-os policy request {self.policy.key} --business {self.business_id} --scope "
            f"action:{first.action_id} --reason … --expires 1d` and its approval explain it."
        )

    @property
    def details(self) -> dict[str, Any]:
        """The state as JSON for people: who approved what until when, what waits, what is unexplained."""
        return {
            "status": self.status,
            "recorded": self.recorded,
            "sentence": self.policy.sentence,
            "approvals": [
                {
                    "scope": each.scope,
                    "until": each.expires_at.astimezone(UTC).isoformat(),
                    "requested_by": each.requested_by,
                    "approved_by": each.approved_by,
                }
                for each in self.approvals
            ],
            "open_requests": [each.request_id for each in self.requests],
            "unexplained": self.unexplained_count,
            "unexplained_actions": [each.action_id for each in self.unexplained],
        }


def policy_named(key: str) -> Policy:
    """The policy with this key; `UnknownPolicy` if there is none."""
    for policy in POLICIES:
        if policy.key == key:
            return policy
    raise UnknownPolicy(f"there is no policy {key!r}; there are {', '.join(policy.key for policy in POLICIES)}")


def ensure_policies(database: Database, business_id: str) -> list[str]:
    """Record each policy that was not yet put in force as gated, with an audit event; the keys of those."""
    with database.transaction() as connection:
        connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"finance_os/policy_records/{business_id}",)
        )
        known = {
            row["policy"]
            for row in connection.execute(
                "SELECT policy FROM finance_os.policy_records WHERE business_id = %s", (business_id,)
            )
        }
        missing = [policy for policy in POLICIES if policy.key not in known]
        for policy in missing:
            event = append_event(connection, business_id, policy, "recorded", {"status": policy.gated_status})
            connection.execute(
                """
                INSERT INTO finance_os.policy_records (business_id, policy, gated_status, audit_sequence)
                VALUES (%s, %s, %s, %s)
                """,
                (business_id, policy.key, policy.gated_status, event.sequence),
            )
    return [policy.key for policy in missing]


def append_event(
    connection: DatabaseConnection, business_id: str, policy: Policy, event: str, details: Mapping[str, Any]
) -> audit.AuditEvent:
    """The audit event of a change of `policy`, by the session's login, in the transaction of the change."""
    row = connection.execute("SELECT session_user::text AS login").fetchone()
    assert row is not None
    actor = audit.actor_of(row["login"])
    return audit.append(connection, business_id, f"policy.{event}", f"policy:{policy.key}", details, actor=actor)


def policy_state(database: Database, business_id: str, policy: str) -> PolicyState:
    """The state of the policy with this key; `UnknownPolicy` if there is none."""
    return _states(database, business_id, (policy_named(policy),))[0]


def policy_states(database: Database, business_id: str) -> tuple[PolicyState, ...]:
    """The state of every policy, in the order of `POLICIES`. Costs nothing that grows with explained history."""
    return _states(database, business_id, POLICIES)


def _states(database: Database, business_id: str, policies: tuple[Policy, ...]) -> tuple[PolicyState, ...]:
    parameters = {"business_id": business_id, "policies": [policy.key for policy in policies], "most": EXAMPLES}
    with database.transaction() as connection:
        recorded = connection.execute(
            "SELECT policy FROM finance_os.policy_records WHERE business_id = %(business_id)s", parameters
        ).fetchall()
        approvals = connection.execute(
            """
            SELECT approval.policy, approval.approval_id, approval.request_id, approval.scope, approval.expires_at,
                   request.actor AS requested_by, approval.actor AS approved_by, approval.reason
            FROM finance_os.policy_approvals AS approval
            JOIN finance_os.policy_requests AS request USING (request_id)
            WHERE approval.business_id = %(business_id)s AND approval.policy = ANY (%(policies)s)
              AND approval.expires_at > clock_timestamp() AND NOT starts_with(approval.scope, 'action:')
              AND NOT EXISTS (SELECT FROM finance_os.policy_revocations AS revocation
                              WHERE revocation.request_id = approval.request_id)
            ORDER BY approval.scope, approval.expires_at DESC, approval.approval_id DESC
            """,
            parameters,
        ).fetchall()
        requests = connection.execute(
            """
            SELECT request.policy, request.request_id, request.scope, request.expires_at,
                   request.actor AS requested_by, request.reason
            FROM finance_os.policy_requests AS request
            WHERE request.business_id = %(business_id)s AND request.policy = ANY (%(policies)s)
              AND request.expires_at > clock_timestamp()
              AND NOT EXISTS (SELECT FROM finance_os.policy_approvals AS approval
                              WHERE approval.request_id = request.request_id)
              AND NOT EXISTS (SELECT FROM finance_os.policy_revocations AS revocation
                              WHERE revocation.request_id = request.request_id)
              AND NOT EXISTS (SELECT FROM finance_os.policy_requests AS later
                              WHERE later.business_id = request.business_id AND later.policy = request.policy
                                AND later.scope = request.scope AND later.request_id > request.request_id)
            ORDER BY request.request_id
            """,
            parameters,
        ).fetchall()
        unexplained = connection.execute(
            """
            SELECT policy, action_id, target, intent_key, requested_at, in_all
            FROM (SELECT *, count(*) OVER (PARTITION BY policy) AS in_all,
                         row_number() OVER (PARTITION BY policy ORDER BY action_id) AS place
                  FROM finance_os.external_actions AS action
                  WHERE business_id = %(business_id)s AND policy = ANY (%(policies)s) AND approval_id IS NULL
                    AND NOT EXISTS (
                        SELECT FROM finance_os.policy_approvals AS approval
                        WHERE approval.business_id = action.business_id AND approval.policy = action.policy
                          AND starts_with(approval.scope, 'action:')
                          AND approval.scope = 'action:' || action.action_id
                          AND NOT EXISTS (SELECT FROM finance_os.policy_revocations AS revocation
                                          WHERE revocation.request_id = approval.request_id))) AS found
            WHERE place <= %(most)s ORDER BY action_id
            """,
            parameters,
        ).fetchall()
    in_force = {row["policy"] for row in recorded}
    return tuple(
        PolicyState(
            business_id,
            policy,
            policy.key in in_force,
            tuple(Approval(**each) for each in _of(policy, approvals)),
            tuple(PolicyRequest(**each) for each in _of(policy, requests)),
            tuple(
                Unexplained(**{name: value for name, value in each.items() if name != "in_all"})
                for each in _of(policy, unexplained)
            ),
            next((each["in_all"] for each in _of(policy, unexplained)), 0),
        )
        for policy in policies
    )


def _of(policy: Policy, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if name != "policy"} for row in rows if row["policy"] == policy.key
    ]
