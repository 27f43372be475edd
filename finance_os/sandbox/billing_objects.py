"""Stripe's JSON for customers, invoices, credit notes and customer balances, as 2026-10-28.endive writes it.

One function a kind, from a record to a plain dict without anything expanded. Nested lists hold at most ten entries
and say where the rest is: https://docs.stripe.com/api/pagination
"""

from typing import Any

from . import states
from .ids import letters
from .stripe_form import NESTED, VOLATILE, Account, nested_list


def _address(customer: states.Customer) -> dict[str, Any]:
    return {
        "city": customer.city,
        "country": customer.country,
        "line1": customer.line1,
        "line2": None,
        "postal_code": customer.postal_code,
        "state": None,
    }


def customer(c: states.Customer, _: Account) -> dict[str, Any]:
    if c.deleted:
        return {"id": c.id, "object": "customer", "deleted": True}
    return {
        "id": c.id,
        "object": "customer",
        "address": _address(c),
        "balance": c.balance,
        "created": c.created,
        "currency": c.currency,
        "customer_account": None,
        "default_source": None,
        "delinquent": c.delinquent,
        "description": c.description,
        "discount": None,
        "email": c.email,
        "invoice_prefix": c.invoice_prefix,
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": False,
        "metadata": c.metadata,
        "name": c.name,
        "next_invoice_sequence": 1,
        "phone": c.phone,
        "preferred_locales": ["en"],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
    }


def invoice_line(line: states.Line, invoice: states.Invoice) -> dict[str, Any]:
    return {
        "id": line.id,
        "object": "line_item",
        "amount": line.amount,
        "currency": invoice.currency,
        "description": line.description,
        "discount_amounts": [],
        "discountable": True,
        "discounts": [],
        "invoice": invoice.id,
        "livemode": False,
        "metadata": {"campaign_id": line.reference},
        "parent": {
            "invoice_item_details": {
                "invoice_item": "ii_1" + line.id[4:],
                "proration": False,
                "proration_details": {"credited_items": None},
                "subscription": None,
            },
            "subscription_item_details": None,
            "type": "invoice_item_details",
        },
        "period": {"end": line.period_end, "start": line.period_start},
        "pretax_credit_amounts": [],
        "pricing": {
            "price_details": {
                "price": "price_1" + letters(line.reference, 23),
                "product": "prod_" + letters(line.reference, 14),
            },
            "type": "price_details",
            "unit_amount_decimal": str(line.amount),
        },
        "quantity": 1,
        "quantity_decimal": "1",
        "subscription": None,
        "subtotal": line.amount,
        "taxes": [],
    }


def invoice(i: states.Invoice, account: Account) -> dict[str, Any]:
    finalized = i.status != "draft"
    slug = f"{account.account}/test_{letters(i.id, 32)},{VOLATILE}"
    return {
        "id": i.id,
        "object": "invoice",
        "account_country": "US",
        "account_name": account.company,
        "account_tax_ids": None,
        "amount_due": i.amount_due,
        "amount_overpaid": 0,
        "amount_paid": i.amount_paid,
        "amount_remaining": i.amount_remaining,
        "amount_shipping": 0,
        "application": None,
        "attempt_count": i.attempt_count,
        "attempted": i.attempted,
        "auto_advance": i.status in ("draft", "open"),
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": False,
            "liability": None,
            "provider": None,
            "status": None,
        },
        "automatically_finalizes_at": i.automatically_finalizes_at,
        "billing_reason": "manual",
        "collection_method": i.collection_method,
        "created": i.created,
        "currency": i.currency,
        "custom_fields": None,
        "customer": i.customer,
        "customer_account": None,
        "customer_address": None,
        "customer_email": i.customer_email,
        "customer_name": i.customer_name,
        "customer_phone": None,
        "customer_shipping": None,
        "customer_tax_exempt": "none",
        "customer_tax_ids": [],
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "due_date": i.due_date,
        "effective_at": i.finalized_at,
        "ending_balance": i.ending_balance,
        "footer": None,
        "from_invoice": None,
        "hosted_invoice_url": f"https://invoice.stripe.com/i/{slug}?s=ap" if finalized else None,
        "invoice_pdf": f"https://pay.stripe.com/invoice/{slug}/pdf?s=ap" if finalized else None,
        "issuer": {"type": "self"},
        "last_finalization_error": None,
        "latest_revision": None,
        "lines": nested_list(
            [invoice_line(line, i) for line in i.lines[:NESTED]], len(i.lines), f"/v1/invoices/{i.id}/lines"
        ),
        "livemode": False,
        "metadata": i.metadata,
        "next_payment_attempt": i.next_payment_attempt,
        "number": i.number,
        "on_behalf_of": None,
        "parent": None,
        "payment_settings": {
            "default_mandate": None,
            "payment_method_options": None,
            "payment_method_types": None,
        },
        "period_end": i.period_end,
        "period_start": i.period_start,
        "post_payment_credit_notes_amount": i.post_payment_credit_notes_amount,
        "pre_payment_credit_notes_amount": i.pre_payment_credit_notes_amount,
        "receipt_number": None,
        "rendering": None,
        "shipping_cost": None,
        "shipping_details": None,
        "starting_balance": i.starting_balance,
        "statement_descriptor": None,
        "status": i.status,
        "status_transitions": {
            "finalized_at": i.finalized_at,
            "marked_uncollectible_at": i.marked_uncollectible_at,
            "paid_at": i.paid_at,
            "voided_at": i.voided_at,
        },
        "subtotal": i.total,
        "subtotal_excluding_tax": i.total,
        "test_clock": None,
        "total": i.total,
        "total_discount_amounts": [],
        "total_excluding_tax": i.total,
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
        "webhooks_delivered_at": i.created + 1 if finalized else None,
    }


def invoice_payment(p: states.InvoicePayment, _: Account) -> dict[str, Any]:
    return {
        "id": p.id,
        "object": "invoice_payment",
        "amount_paid": p.amount_paid,
        "amount_requested": p.amount_requested,
        "created": p.created,
        "currency": p.currency,
        "invoice": p.invoice,
        "is_default": p.is_default,
        "livemode": False,
        "payment": {"payment_intent": p.payment_intent, "type": "payment_intent"},
        "status": p.status,
        "status_transitions": {"canceled_at": p.canceled_at, "paid_at": p.paid_at},
    }


def credit_note_line(line: states.Line, _: states.CreditNote) -> dict[str, Any]:
    from_invoice = line.reference.startswith("il_")
    return {
        "id": line.id,
        "object": "credit_note_line_item",
        "amount": line.amount,
        "description": line.description,
        "discount_amount": 0,
        "discount_amounts": [],
        "invoice_line_item": line.reference if from_invoice else None,
        "livemode": False,
        "metadata": {},
        "pretax_credit_amounts": [],
        "quantity": None if from_invoice else 1,
        "tax_rates": [],
        "taxes": [],
        "type": "invoice_line_item" if from_invoice else "custom_line_item",
        "unit_amount": None if from_invoice else line.amount,
        "unit_amount_decimal": None if from_invoice else str(line.amount),
    }


def credit_note(n: states.CreditNote, account: Account) -> dict[str, Any]:
    in_band = n.amount - n.out_of_band_amount
    before = 0 if n.type == "post_payment" else in_band
    refunds: list[dict[str, Any]] = []
    if n.refund is not None:
        refunds = [{"amount_refunded": in_band, "payment_record_refund": None, "refund": n.refund, "type": "refund"}]
    return {
        "id": n.id,
        "object": "credit_note",
        "amount": n.amount,
        "amount_shipping": 0,
        "created": n.created,
        "currency": n.currency,
        "customer": n.customer,
        "customer_account": None,
        "customer_balance_transaction": n.customer_balance_transaction,
        "discount_amount": 0,
        "discount_amounts": [],
        "effective_at": n.created,
        "invoice": n.invoice,
        "lines": nested_list(
            [credit_note_line(line, n) for line in n.lines[:NESTED]],
            len(n.lines),
            f"/v1/credit_notes/{n.id}/lines",
        ),
        "livemode": False,
        "memo": n.memo,
        "metadata": n.metadata,
        "number": n.number,
        "out_of_band_amount": n.out_of_band_amount or None,
        "pdf": f"https://pay.stripe.com/credit_notes/{account.account}/test_{letters(n.id, 32)}{VOLATILE}/pdf?s=ap",
        "post_payment_amount": n.amount - before,
        "pre_payment_amount": before,
        "pretax_credit_amounts": [],
        "reason": n.reason,
        "refunds": refunds,
        "shipping_cost": None,
        "status": n.status,
        "subtotal": n.amount,
        "subtotal_excluding_tax": n.amount,
        "total": n.amount,
        "total_excluding_tax": n.amount,
        "total_taxes": [],
        "type": n.type,
        "voided_at": n.voided_at,
    }


def customer_balance_transaction(t: states.CustomerBalanceTransaction, _: Account) -> dict[str, Any]:
    return {
        "id": t.id,
        "object": "customer_balance_transaction",
        "amount": t.amount,
        "checkout_session": None,
        "created": t.created,
        "credit_note": t.credit_note,
        "currency": t.currency,
        "customer": t.customer,
        "customer_account": None,
        "description": t.description,
        "ending_balance": t.ending_balance,
        "invoice": t.invoice,
        "livemode": False,
        "metadata": t.metadata,
        "type": t.type,
    }
