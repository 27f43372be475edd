"""The closed period: nothing is posted into it or changed in it.

QuickBooks' `BookCloseDate` is the last day of the closed period
(https://developer.intuit.com/app/developer/qbo/docs/api/accounting/all-entities/preferences). What would be dated in it
is dated on the first open day instead and says in its private note to which day it belongs: an error of a prior period
that is not material is corrected in the current one (ASC 250). What has been sent already keeps the date that it was
sent with, however the close date moves, for as long as the day that it belongs to is the same. What would have to be
voided or changed there is raised (`revising`); a voided invoice is taken back by a credit memo (`invoices`).
"""

import re
from collections import defaultdict
from dataclasses import replace
from datetime import date, timedelta

from finance_os.evidence.extraction import Severity
from finance_os.stripe_qbo.intent import Intent, LinkKey, Operation
from finance_os.stripe_qbo.mapping.drafts import Draft, Drafts, Rank

_BELONGS = re.compile(r"\bBelongs to (\d{4}-\d{2}-\d{2}), whose period was closed\.")


def keep_closed(drafts: Drafts) -> None:
    """Move every create out of the closed period, and take the voids that would change it out of the plan."""
    closed = drafts.books.closed_until
    refused: dict[tuple[str, date], list[str]] = defaultdict(list)
    for key, operation in list(drafts.drafts):
        draft = drafts.drafts[key, operation]
        if operation is Operation.CREATE and draft.intent.entity != "Customer":
            day = _dated(drafts, key, draft.intent.dated, closed)
            if day != draft.intent.dated:
                drafts.drafts[key, operation] = replace(draft, intent=_moved(draft.intent, day))
        elif operation is Operation.VOID and closed is not None:
            standing = _refuse_void(drafts, draft, closed)
            if standing is not None:
                refused[key.stripe_id, draft.intent.dated].append(standing)
    for (stripe_id, day), standing in refused.items():
        forms = " and the ".join(standing)
        drafts.find(
            "void_in_closed_period",
            Severity.HIGH,
            stripe_id,
            day,
            f"Void at Stripe, and the {forms} in QuickBooks {'lie' if standing[1:] else 'lies'} in a closed period.",
        )


def _dated(drafts: Drafts, key: LinkKey, natural: date, closed: date | None) -> date:
    made = drafts.made(key)
    if made is None:
        stands_on = drafts.stands_on(key)
        if stands_on is not None:
            return stands_on
    else:
        stands_on = date.fromisoformat(made.now["TxnDate"])
        moved = _BELONGS.search(made.now["PrivateNote"])
        if natural == (date.fromisoformat(moved[1]) if moved else stands_on):
            return stands_on
    return closed + timedelta(days=1) if closed is not None and natural <= closed else natural


def _moved(intent: Intent, day: date) -> Intent:
    *note, marker = intent.payload["PrivateNote"].split(" ")
    belongs = f"Belongs to {intent.dated.isoformat()}, whose period was closed."
    payload = {
        **intent.payload,
        "TxnDate": day.isoformat(),
        "PrivateNote": " ".join((*note, belongs, marker)),
    }
    if "DueDate" in payload and payload["DueDate"] < day.isoformat():
        payload["DueDate"] = day.isoformat()
    return replace(intent, payload=payload, dated=day)


def _refuse_void(drafts: Drafts, draft: Draft, closed: date) -> str | None:
    """A void changes the object on its own date. In a closed period there is none: what stands there, to be told."""
    key = draft.intent.key
    stands_on = drafts.stands_on(key)
    if stands_on is None or stands_on > closed or drafts.is_void(key):
        return None
    del drafts.drafts[key, Operation.VOID]
    # A release is told with what it would have been voided for.
    return None if draft.rank is Rank.RELEASE else f"{draft.intent.entity} of {stands_on}"
