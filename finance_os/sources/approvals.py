"""Whether a policy lets a connection's source read what is closed otherwise: asked of the finance database."""

from dataclasses import dataclass

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database


@dataclass(frozen=True)
class ConnectionApprovals:
    """The approvals of the business that a connection belongs to (`credentials.Approvals`)."""

    database: Database
    connection: Connection

    def covers(self, policy: str, target: str) -> bool:
        """Whether an approval of `policy` is in force that covers `target`: not expired, not revoked."""
        rows = self.database.fetch(
            """
            SELECT FROM finance_os.policy_approvals AS approval
            WHERE business_id = %(business_id)s AND policy = %(policy)s AND expires_at > clock_timestamp()
              AND finance_os.policy_covers(scope, %(target)s)
              AND NOT EXISTS (SELECT FROM finance_os.policy_revocations AS revocation
                              WHERE revocation.request_id = approval.request_id)
            LIMIT 1
            """,
            {"business_id": self.connection.business_id, "policy": policy, "target": target},
        )
        return bool(rows)
