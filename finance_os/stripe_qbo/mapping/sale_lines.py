"""Lines of invoices and credit memos: one for each line of Stripe's, then discounts, tax and shipping.

Every line names an item, whose income account QuickBooks posts to. Stripe's line amounts are before discounts, without
exclusive and with inclusive taxes (https://docs.stripe.com/api/invoice-line-item/object): inclusive tax is taken out of
its line. Tax is a line of its own with the rules' tax item, because Stripe has computed it already and QuickBooks must
not compute it again. What the lines come to must be Stripe's total, or nothing is booked.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from finance_os.stripe_qbo.books import Held
from finance_os.stripe_qbo.mapping.amounts import qbo_amount
from finance_os.stripe_qbo.mapping.drafts import Drafts
from finance_os.stripe_qbo.mapping.refusals import NotBooked
from finance_os.stripe_qbo.stripe_objects import Line, Period, Tax

MAX_DESCRIPTION = 4_000
NOT_TAXED = "NON"


def sale_line(drafts: Drafts, item: Held, description: str, minor: int, currency: str) -> dict[str, Any]:
    """One line of an item; without quantity and price QuickBooks takes the amount as it is."""
    detail: dict[str, Any] = {"ItemRef": {"value": item.id}}
    if NOT_TAXED in drafts.books.held.get("TaxCode", {}):
        detail["TaxCodeRef"] = {"value": NOT_TAXED}
    return {
        "Amount": qbo_amount(minor, currency),
        "Description": description[:MAX_DESCRIPTION],
        "DetailType": "SalesItemLineDetail",
        "SalesItemLineDetail": detail,
    }


def sale_lines(
    drafts: Drafts,
    item: Held,
    lines: Sequence[Line],
    currency: str,
    *,
    total: int,
    discount: int = 0,
    taxes: Sequence[Tax] = (),
    shipping: int = 0,
    sign: int = 1,
) -> list[dict[str, Any]]:
    """Lines that come to `total`, or to its opposite where `sign` is -1.

    Raises `NotBooked` where they do not, or where there is tax and no item for it.
    """
    tax = sum(each.amount for each in taxes)
    net = [each.amount - sum(t.amount for t in each.taxes or () if t.is_inclusive) for each in lines]
    if sum(net) - discount + tax + shipping != total:
        raise NotBooked("lines_do_not_sum", "Its lines, discounts, taxes and shipping do not come to its total.")
    if sign * total < 0:
        raise NotBooked("total_is_negative", "QuickBooks takes no total below zero.")
    if sign < 0 and discount:
        raise NotBooked("discount_below_zero", "QuickBooks takes no discount on a total below zero.")
    tax, shipping, net = sign * tax, sign * shipping, [sign * each for each in net]
    made = [
        sale_line(drafts, item, described(each, drafts.rules.zone), amount, currency)
        for each, amount in zip(lines, net, strict=True)
    ]
    if shipping:
        made.append(sale_line(drafts, item, "Shipping", shipping, currency))
    if tax:
        if drafts.rules.tax_item is None:
            raise NotBooked("no_tax_item", "It has tax, and the rules name no item that tax is booked with.")
        made.append(sale_line(drafts, drafts.item(drafts.rules.tax_item), "Tax", tax, currency))
    if discount:
        made.append(
            {
                "Amount": qbo_amount(discount, currency),
                "DetailType": "DiscountLineDetail",
                "DiscountLineDetail": {"PercentBased": False},
            }
        )
    return made


def described(line: Line, zone: ZoneInfo) -> str:
    """A line's description with its usage period."""
    text = line.description or f"Stripe line {line.id}"
    return f"{text} ({_period(line.period, zone)})" if line.period is not None else text


def _period(period: Period, zone: ZoneInfo) -> str:
    """Both ends as days of the accounting time zone; a period that ends at midnight ends with the day before."""
    first = datetime.fromtimestamp(period.start, UTC).astimezone(zone).date()
    last = datetime.fromtimestamp(max(period.start, period.end - 1), UTC).astimezone(zone).date()
    return first.isoformat() if first == last else f"{first.isoformat()} to {last.isoformat()}"
