"""Sign-off: an approver's approval of one result by its hash, which holds as long as the evidence gives that hash.

Who signs is the database session's user, in a role that computes nothing; the database itself refuses a result that is
not the latest or has duplicate keys, and a user who could have computed it (`sql/schema/0010_backtest.sql`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

import psycopg

from finance_os.backtest.evidence import Refused
from finance_os.backtest.month import Month
from finance_os.backtest.result import Result
from finance_os.backtest.results import current_result, latest_result, lock_month
from finance_os.backtest.rules import Rules
from finance_os.evidence import audit
from finance_os.evidence.database import Database

SIGNED = "backtest.signed_off"


class SignOffRefused(LookupError):
    """Nothing was signed; the text says why, and what to do."""


class Standing(StrEnum):
    """unsigned: nobody signed a result of the month. signed: the evidence still gives what was signed. voided: it
    gives something else now, or nothing that holds together."""

    UNSIGNED = "unsigned"
    SIGNED = "signed"
    VOIDED = "voided"


@dataclass(frozen=True)
class SignOff:
    """How a month stands: its last sign-off, if there is one, beside the hash that the evidence gives now.

    `current_hash` is `None` where the month cannot be computed; `why` then says why. `signed_by` is as in the audit
    chain: a login, or its hash where people log in with their e-mail address.
    """

    standing: Standing
    current_hash: str | None
    signed_hash: str | None = None
    signed_by: str | None = None
    signed_at: datetime | None = None
    reason: str | None = None
    why: str | None = None


def sign_off(database: Database, business_id: str, month: Month, rules: Rules, start: date) -> SignOff:
    """How a month stands now, from the evidence as it is."""
    why = None
    try:
        current: str | None = current_result(database, business_id, month, rules, start).result_hash
    except Refused as refused:
        current, why = None, f"{refused.code}: {refused.message}"
    return standing_of(database, business_id, month, current, why)


def standing_of(
    database: Database, business_id: str, month: Month, current_hash: str | None, why: str | None = None
) -> SignOff:
    """How a month stands whose evidence gives `current_hash` now."""
    rows = database.fetch(
        """
        SELECT result_hash, signed_by, signed_at, reason FROM finance_os.backtest_sign_offs
        WHERE business_id = %s AND month = %s ORDER BY sign_off_id DESC LIMIT 1
        """,
        (business_id, month.first),
    )
    if not rows:
        return SignOff(Standing.UNSIGNED, current_hash, why=why)
    [row] = rows
    standing = Standing.SIGNED if row["result_hash"] == current_hash else Standing.VOIDED
    return SignOff(
        standing,
        current_hash,
        row["result_hash"],
        audit.actor_of(row["signed_by"]),
        row["signed_at"],
        row["reason"],
        why,
    )


def sign(
    database: Database, approver: Database, business_id: str, month: Month, reason: str, rules: Rules, start: date
) -> Result:
    """Sign the latest result of a month as the user of `approver`'s session, with its audit event.

    The evidence is read through `database`, and must still give that result. Raises `SignOffRefused`.
    """
    if not reason.strip():
        raise SignOffRefused("say why it is signed: --reason")
    stored = latest_result(database, business_id, month)
    if stored is None:
        raise SignOffRefused(
            f"{month} of {business_id} was never computed: materialize backtest/publisher_month_backtest first"
        )
    if blockers := stored.result.sign_off_blockers:
        raise SignOffRefused(f"{month} of {business_id} cannot be signed: {', '.join(blockers)}")
    try:
        current = current_result(database, business_id, month, rules, start)
    except Refused as refused:
        raise SignOffRefused(f"{refused.code}: {refused.message}") from refused
    if current.result_hash != stored.result_hash:
        raise SignOffRefused(
            f"{month} of {business_id} was computed as {stored.result_hash[:12]}, and its evidence gives "
            f"{current.result_hash[:12]} now: materialize backtest/publisher_month_backtest again and look at it"
        )
    with _refusals(), approver.transaction() as connection:
        lock_month(connection, business_id, month)
        who = connection.execute("SELECT session_user::text AS login").fetchone()
        assert who is not None
        event = audit.append(
            connection,
            business_id,
            SIGNED,
            f"backtest:{month}",
            {"result_id": stored.result_id, "result_hash": stored.result_hash, "reason": reason.strip()},
            actor=audit.actor_of(who["login"]),
        )
        connection.execute(
            """
            INSERT INTO finance_os.backtest_sign_offs
                (result_id, business_id, month, result_hash, reason, audit_sequence)
            VALUES (%s, %s, %s, %s, %s, %s)
            """,
            (stored.result_id, business_id, month.first, stored.result_hash, reason.strip(), event.sequence),
        )
    return stored.result


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what the database and the audit chain refuse into `SignOffRefused`."""
    try:
        yield
    except audit.UnfitForAudit as error:
        raise SignOffRefused(f"the sign-off cannot be recorded: {error}") from None
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.CheckViolation) as error:
        words = (error.diag.message_primary or "refused", error.diag.message_hint)
        said = ". ".join(word.rstrip(".") for word in words if word)
        if said.startswith("permission denied"):
            said += ". The login has to be a member of finance_os_approver"
        raise SignOffRefused(f"the database refused the sign-off: {said}.") from None
