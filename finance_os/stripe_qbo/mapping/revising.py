"""Updates: what was written is brought to what the evidence says of it now, as far as QuickBooks lets it be changed.

The create of what was written stays in the plan as it was written. What the evidence says otherwise of it now (a rate
that was read later, a due date, a number, a description, what a payment is applied to) is an update of those properties
alone, which names what it corrects. QuickBooks takes it as a sparse update: properties that are not sent stay, and a
`Line` that is sent takes the place of all lines
(https://developer.intuit.com/app/developer/qbo/docs/api/accounting/all-entities/invoice#sparse-update-an-invoice).

What is not changed:
- customers: they are made once, and then they are the bookkeeper's;
- what is void, or is about to be;
- currency, customer and the accounts that money goes to, which QuickBooks ties to what is linked: a finding;
- what stands in a closed period, of which QuickBooks takes no change at all: a finding;
- accounts and items that only the rules name otherwise by now: rules hold from the day on which they are made, and
  what was written under others stays, until an accountant reclassifies it; one finding for each account or item.

What was written and has no place in the plan any more is told too: it is never taken out of the books by itself.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from finance_os.evidence.extraction import Severity
from finance_os.stripe_qbo.intent import Intent, LinkKey, Operation
from finance_os.stripe_qbo.mapping.drafts import Draft, Drafts
from finance_os.stripe_qbo.written import Written

_FORM = ("DocNumber", "TxnDate", "PrivateNote", "ExchangeRate", "Line")
_UPDATED: Mapping[str, tuple[str, ...]] = {
    "Invoice": (*_FORM, "DueDate"),
    "CreditMemo": _FORM,
    "RefundReceipt": (*_FORM, "PaymentRefNum"),
    "Payment": ("TxnDate", "PrivateNote", "ExchangeRate", "PaymentRefNum", "TotalAmt", "Line"),
    "JournalEntry": _FORM,
    "Deposit": _FORM,
}
"""What an update may change, by entity."""

_REPEATED: Mapping[str, tuple[str, ...]] = {"Payment": ("CustomerRef", "TotalAmt")}
"""What QuickBooks wants to see in every update of an entity, changed or not."""

_BY_RULES = frozenset(("AccountRef", "ItemRef", "DepositToAccountRef"))
"""References to what the rules name."""

_AMOUNTS = frozenset(("TotalAmt", "ExchangeRate", "Line", "TxnDate"))
"""What moves balances when it is changed."""


def revise(drafts: Drafts) -> None:
    """Put what was written in the place of its create, and an update beside it where the evidence says otherwise."""
    under_others: Counter[str] = Counter()
    named = frozenset(_named(drafts))
    for key, written in sorted(drafts.written.items()):
        if not written.made:
            continue
        draft = drafts.drafts.get((key, Operation.CREATE))
        if draft is None:
            _left(drafts, key, written)
            continue
        wanted = draft.intent
        made = replace(wanted, entity=written.entity, payload=written.made, dated=written.dated, marker=written.marker)
        drafts.drafts[key, Operation.CREATE] = replace(draft, intent=made)
        is_voided = (key, Operation.VOID) in drafts.drafts
        if written.entity == "Customer" or is_voided:
            continue
        if written.is_void:
            drafts.find(
                "void_without_cause",
                Severity.HIGH,
                str(key),
                written.dated,
                f"The export has voided the {written.entity} in QuickBooks, and by Stripe it stands: enter it anew "
                "there by hand, or correct the evidence.",
            )
        elif wanted.entity != written.entity:
            _tell(drafts, key, written, ["what it is"], f"It is a {written.entity} and would be a {wanted.entity} now.")
        else:
            desired = _under_its_rules(wanted.payload, written.now, named, under_others)
            _revise(drafts, draft, written, desired)
    _tell_rules(drafts, under_others)


def _revise(drafts: Drafts, draft: Draft, written: Written, desired: Mapping[str, Any]) -> None:
    """Plan the update that makes `written` what is `desired`, or find why there is none."""
    key = draft.intent.key
    differing = [name for name, value in desired.items() if written.now.get(name) != value]
    if not differing:
        return
    closed, stands_on = drafts.books.closed_until, drafts.stands_on(key)
    if closed is not None and stands_on is not None and stands_on <= closed:
        _tell(
            drafts,
            key,
            written,
            differing,
            f"It stands in a closed period ({stands_on}): correct it in the open one by hand, or open the period.",
        )
        return
    changing = [name for name in differing if name in _UPDATED.get(written.entity, ())]
    fixed = [name for name in differing if name not in changing]
    if fixed:
        _tell(drafts, key, written, fixed, "QuickBooks ties that to what is linked: void it there and enter it anew.")
    if not changing:
        return
    if not written.is_settled:
        drafts.find(
            "update_waits",
            Severity.LOW,
            str(key),
            written.dated,
            f"The {written.entity} is being written: what has changed since is planned once its answer is known.",
        )
        return
    repeated = {name: desired[name] for name in _REPEATED.get(written.entity, ()) if name in desired}
    update = Intent(
        key,
        Operation.UPDATE,
        written.entity,
        {**repeated, **{name: desired[name] for name in changing}},
        draft.intent.dated,
        written.marker,
        draft.intent.evidence,
        {name: written.now.get(name) for name in changing},
    )
    drafts.drafts[key, Operation.UPDATE] = replace(draft, intent=update)


def _left(drafts: Drafts, key: LinkKey, written: Written) -> None:
    """What was written, and the plan does not have: unless its rule has said why, or it is void or adopted."""
    if written.entity == "Customer" or written.is_void or key in drafts.adoptions or key.stripe_id in drafts.refused:
        return
    drafts.find(
        "written_not_planned",
        Severity.HIGH,
        str(key),
        written.dated,
        f"The {written.entity} stands in QuickBooks, and by the evidence and the rules of now it would not be there: "
        "void it there if that is right.",
    )


def _tell(drafts: Drafts, key: LinkKey, written: Written, differing: Sequence[str], remedy: str) -> None:
    is_grave = bool(_AMOUNTS.intersection(differing)) or not set(differing) <= set(_UPDATED.get(written.entity, ()))
    drafts.find(
        "written_differs",
        Severity.HIGH if is_grave else Severity.MEDIUM,
        str(key),
        written.dated,
        f"{', '.join(differing)} of the {written.entity} in QuickBooks: the evidence says otherwise now. {remedy}",
    )


# --- rules


def _named(drafts: Drafts) -> Iterator[str]:
    """The IDs of all accounts and items that the rules name, and of the items' accounts."""
    rules = drafts.rules
    accounts = [*rules.clearing.values(), *rules.bank.values(), *rules.movements.values()]
    accounts += [rules.fees, rules.disputes, rules.exchange]
    for name in (*accounts, rules.outside_account, rules.opening_account):
        held = drafts.books.account(name) if name is not None else None
        if held is not None:
            yield f"AccountRef {held.id}"
    items = (rules.sales_item, rules.credit_item, rules.goodwill_item, rules.refund_item)
    for name in (*items, rules.tax_item, rules.bad_debt_item, rules.debit_item, rules.migration_item):
        held = drafts.books.item(name) if name is not None else None
        if held is not None:
            yield f"ItemRef {held.id}"
            if held.income_account_ref is not None:
                yield f"AccountRef {held.income_account_ref.value}"


def _under_its_rules(
    desired: Mapping[str, Any], now: Mapping[str, Any], named: frozenset[str], under_others: Counter[str]
) -> dict[str, Any]:
    """`desired` with the references that `now` has instead, where no rule names these any more."""
    found: set[str] = set()
    kept = {name: _kept(name, value, now.get(name), named, found) for name, value in desired.items()}
    under_others.update(found)
    return kept


def _kept(name: str, desired: Any, now: Any, named: frozenset[str], found: set[str]) -> Any:
    if name in _BY_RULES and isinstance(now, Mapping):
        written = f"{'ItemRef' if name == 'ItemRef' else 'AccountRef'} {now.get('value')}"
        if desired != now and written not in named:
            found.add(written)
            return now
        return desired
    if isinstance(desired, Mapping) and isinstance(now, Mapping):
        kept = {each: _kept(each, value, now.get(each), named, found) for each, value in desired.items()}
        if "ItemRef" in kept:  # the code that stands for no tax is QuickBooks' own where none was sent
            kept.pop("TaxCodeRef", None)
            kept |= {"TaxCodeRef": now["TaxCodeRef"]} if "TaxCodeRef" in now else {}
        return kept
    if isinstance(desired, list | tuple) and isinstance(now, list | tuple):
        if len(desired) == len(now):
            return [_kept("", one, other, named, found) for one, other in zip(desired, now, strict=True)]
        return list(desired)
    return desired


def _tell_rules(drafts: Drafts, under_others: Mapping[str, int]) -> None:
    for reference, count in sorted(under_others.items()):
        drafts.find(
            "written_under_other_rules",
            Severity.LOW,
            reference.replace(" ", ":"),
            drafts.rules.balance_date,
            f"{count} objects were written with {reference}, which the rules do not name any more: they stay as they "
            "are. Reclassify them in QuickBooks where the new rules are to hold for them too.",
        )
