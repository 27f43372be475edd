"""Why nothing happens: every reason that holds back the plan or the writes of a business, from those who refuse.

A plan is refused for the first reason that is found, and only what a plan finds is kept as a finding. Who asks why
nothing is planned or written has to see the others too: what the gate says, what is staged of QuickBooks and Stripe,
what the rules name, the policy, and the credentials of the side that writes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from finance_os.evidence.database import Database
from finance_os.evidence.extraction import SourceError
from finance_os.evidence.snapshot import snapshot
from finance_os.readiness import gate
from finance_os.readiness.gate import Blocker
from finance_os.readiness.policies import QBO_EXPORT
from finance_os.sources.approvals import ConnectionApprovals
from finance_os.sources.credentials import CredentialsMissing
from finance_os.stripe_qbo import completeness, due, planning
from finance_os.stripe_qbo import export as exporting
from finance_os.stripe_qbo.company import Company, company_of, writing_credentials
from finance_os.stripe_qbo.connecting import connect
from finance_os.stripe_qbo.export import Export, NotExported

RULES_MISSING = "qbo_rules_missing"
"""A business without rules: nothing of it is planned by itself."""

HELD_UP = "intents_held_up"
"""Planned intents that refer to something which is refused, in conflict or missing."""

_SUBJECT = "stripe_qbo"

Rules = Mapping[str, Mapping[str, Any]]
"""The rules of each business, as the settings have them."""


@dataclass(frozen=True)
class Reasons:
    """What holds back a business now. `writes` are reasons besides: what is not planned is not written either.

    `planned_through` is the last day that is planned all the same; `None` where none is, or where nothing is held back.
    """

    plan: tuple[Blocker, ...] = ()
    writes: tuple[Blocker, ...] = ()
    planned_through: date | None = None


def reasons(database: Database, business_id: str, rules: Rules) -> Reasons:
    """Every reason why a business is not planned, or not written, as it stands now. Nothing is kept or sent."""
    with snapshot(database) as seen:
        export, lacking = _export(seen, business_id, rules)
        plan = [*lacking, *_of_plan(seen, business_id, export)]
        bad = exporting.held_from(plan)
        is_in_part = export is not None and bad is not None and bad > export.rules.balance_date
        writes = [each for each in _of_writes(seen, business_id) if each not in plan]
    through = bad - timedelta(days=1) if is_in_part and bad is not None else None
    return Reasons(tuple(plan), tuple(writes), through)


def of_plan(seen: Database, business_id: str, rules: Rules) -> list[Blocker]:
    """Why what was planned of a business may not be written as it stands in a snapshot: the plan would be refused now.

    Of one without rules, whose plan nobody makes anew, what the gate says and what is not staged. Raises `NotExported`
    where the business cannot be exported at all.
    """
    return _of_plan(seen, business_id, exporting.export_of(seen, business_id, rules))


def _export(seen: Database, business_id: str, rules: Rules) -> tuple[Export | None, Sequence[Blocker]]:
    """The export of a business, or why there is none."""
    try:
        export = exporting.export_of(seen, business_id, rules)
    except NotExported as error:
        return None, error.blockers
    if export is not None:
        return export, ()
    remedy = "FINANCE_OS_QBO_RULES has no rules of this business: set them; until then only `qbo plan --rules` plans."
    return None, [Blocker(RULES_MISSING, _SUBJECT, None, None, remedy)]


def _of_plan(seen: Database, business_id: str, export: Export | None) -> list[Blocker]:
    if export is None:
        return [*gate.gate(seen, business_id, []).blockers, *_unproven(seen, business_id)]
    try:
        found = exporting.judge(seen, export)
    except NotExported as error:
        found = [*error.blockers, *_unproven(seen, business_id)]
    try:
        evidence = exporting.look(seen, export)
    except NotExported as error:
        told = {each.code for each in found}
        return [*found, *(each for each in error.blockers if each.code not in told)]
    prevented = planning.preventing(evidence.stripe, evidence.books, export.rules)
    return [*found, *(Blocker(each.code, each.subject, None, None, each.detail) for each in prevented)]


def _unproven(seen: Database, business_id: str) -> list[Blocker]:
    """What is not proved of any company of the business that is staged, and of the one that it is connected to."""
    found = completeness.of_every_realm(seen, business_id)
    company, _ = _company(seen, business_id)
    own = completeness.unproven(seen, business_id, company.realm) if company is not None else []
    return [*found, *(each for each in own if each not in found)]


def _company(seen: Database, business_id: str) -> tuple[Company | None, list[Blocker]]:
    try:
        return company_of(seen, business_id), []
    except CredentialsMissing as missing:
        return None, [_blocker("credentials_missing", str(missing))]
    except SourceError as error:
        return None, [_blocker(error.code, error.message)]
    except LookupError as error:
        return None, [_blocker("quickbooks_connection_missing", str(error))]


def _of_writes(seen: Database, business_id: str) -> list[Blocker]:
    company, found = _company(seen, business_id)
    if company is None:
        return found
    if not ConnectionApprovals(seen, company.connection).covers(QBO_EXPORT.key, company.realm):
        remedy = (
            f"Nothing is sent. `finance-os policy request {QBO_EXPORT.key} --business {business_id} --scope "
            f"{company.realm} --reason … --expires 30d`, and another login has to approve it."
        )
        found.append(Blocker(QBO_EXPORT.gated_status, QBO_EXPORT.key, None, None, remedy))
    try:
        with connect(writing_credentials(seen, company), company.realm):
            pass  # nothing is sent before something is to be written
    except CredentialsMissing as missing:
        found.append(_blocker("credentials_missing", str(missing)))
    except SourceError as error:
        found.append(_blocker(error.code, error.message))
    with seen.transaction() as connection:
        held_up = due.stranded(connection, business_id, company.realm)
    if held_up:
        remedy = (
            f"{len(held_up):,} intents wait for what is refused, in conflict or missing. Once that is put right, "
            "`finance-os qbo apply --retry` tries them again."
        )
        found.append(_blocker(HELD_UP, remedy))
    return found


def _blocker(code: str, remedy: str) -> Blocker:
    return Blocker(code, _SUBJECT, None, None, remedy)
