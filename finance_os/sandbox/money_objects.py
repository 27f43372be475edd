"""Stripe's JSON for money on its way: payments, refunds, disputes, payouts, balances, as 2026-10-28.endive writes it.

One function a kind, from a record to a plain dict without anything expanded. Nested lists hold at most ten entries
and say where the rest is: https://docs.stripe.com/api/pagination
"""

from typing import Any

from . import states
from .currency import exchange_rate
from .ids import letters
from .stripe_form import VOLATILE, Account


def payment_intent(p: states.PaymentIntent, _: Account) -> dict[str, Any]:
    error = None
    if p.failure is not None:
        code, message, charge_id = p.failure
        error = {
            "advice_code": "try_again_later",
            "charge": charge_id,
            "code": code,
            "decline_code": "insufficient_funds",
            "doc_url": "https://stripe.com/docs/error-codes/" + code.replace("_", "-"),
            "message": message,
            "type": "card_error",
        }
    return {
        "id": p.id,
        "object": "payment_intent",
        "amount": p.amount,
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": p.amount_received,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": None,
        "canceled_at": p.canceled_at,
        "cancellation_reason": p.cancellation_reason,
        "capture_method": "automatic_async",
        "client_secret": f"{p.id}_secret_{letters(p.id, 25)}",
        "confirmation_method": "automatic",
        "created": p.created,
        "currency": p.currency,
        "customer": p.customer,
        "customer_account": None,
        "description": p.description,
        "excluded_payment_method_types": None,
        "last_payment_error": error,
        "latest_charge": p.latest_charge,
        "livemode": False,
        "metadata": p.metadata,
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": p.payment_method,
        "payment_method_configuration_details": None,
        "payment_method_options": {},
        "payment_method_types": [p.method],
        "processing": None,
        "receipt_email": p.receipt_email,
        "review": None,
        "setup_future_usage": None,
        "shipping": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": p.status,
        "transfer_data": None,
        "transfer_group": None,
    }


def _payment_method_details(c: states.Charge) -> dict[str, Any]:
    if c.method == "us_bank_account":
        return {
            "type": "us_bank_account",
            "us_bank_account": {
                "account_holder_type": "company",
                "account_type": "checking",
                "bank_name": "STRIPE TEST BANK",
                "fingerprint": letters(c.payment_method, 16),
                "last4": c.card_last4,
                "mandate": None,
                "payment_reference": None,
                "routing_number": "110000000",
            },
        }
    return {
        "type": "card",
        "card": {
            "amount_authorized": c.amount if c.status == "succeeded" else None,
            "authorization_code": None,
            "brand": "visa",
            "checks": {"address_line1_check": None, "address_postal_code_check": "pass", "cvc_check": None},
            "country": "US",
            "exp_month": 8,
            "exp_year": 2031,
            "extended_authorization": {"status": "disabled"},
            "fingerprint": letters(c.payment_method, 16),
            "funding": "credit",
            "incremental_authorization": {"status": "unavailable"},
            "installments": None,
            "last4": c.card_last4,
            "mandate": None,
            "multicapture": {"status": "unavailable"},
            "network": "visa",
            "network_token": {"used": False},
            "network_transaction_id": str(int.from_bytes(c.id[-6:].encode(), "big")),
            "overcapture": {"maximum_amount_capturable": c.amount, "status": "unavailable"},
            "regulated_status": "unregulated",
            "three_d_secure": None,
            "wallet": None,
        },
    }


def _outcome(c: states.Charge) -> dict[str, Any]:
    failed = c.status == "failed"
    return {
        "advice_code": "try_again_later" if failed else None,
        "network_advice_code": None,
        "network_decline_code": "51" if failed else None,
        "network_status": "declined_by_network" if failed else "approved_by_network",
        "reason": c.failure_code if failed else None,
        "risk_level": "normal",
        "risk_score": 7,
        "seller_message": "The bank returned a decline code." if failed else "Payment complete.",
        "type": "issuer_declined" if failed else "authorized",
    }


def charge(c: states.Charge, _: Account) -> dict[str, Any]:
    paid = c.status != "failed"
    receipt = f"https://pay.stripe.com/receipts/payment/{letters(c.id, 32)}{VOLATILE}"
    return {
        "id": c.id,
        "object": "charge",
        "amount": c.amount,
        "amount_captured": c.amount_captured,
        "amount_refunded": c.amount_refunded,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": c.balance_transaction,
        "billing_details": {
            "address": {
                "city": None,
                "country": None,
                "line1": None,
                "line2": None,
                "postal_code": None,
                "state": None,
            },
            "email": c.billing_email,
            "name": c.billing_name,
            "phone": None,
            "tax_id": None,
        },
        "calculated_statement_descriptor": "SANDBOX ADS",
        "captured": c.status == "succeeded",
        "created": c.created,
        "currency": c.currency,
        "customer": c.customer,
        "description": c.description,
        "disputed": c.disputed,
        "failure_balance_transaction": None,
        "failure_code": c.failure_code,
        "failure_message": c.failure_message,
        "fraud_details": {},
        "livemode": False,
        "metadata": c.metadata,
        "on_behalf_of": None,
        "outcome": _outcome(c) if c.method == "card" else None,
        "paid": paid,
        "payment_intent": c.payment_intent,
        "payment_method": c.payment_method,
        "payment_method_details": _payment_method_details(c),
        "presentment_details": None,
        "radar_options": {},
        "receipt_email": None,
        "receipt_number": None,
        "receipt_url": receipt if c.status == "succeeded" else None,
        "refunded": c.amount_captured > 0 and c.amount_refunded == c.amount_captured,
        "review": None,
        "shipping": None,
        "source": None,
        "source_transfer": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": c.status,
        "transfer_data": None,
        "transfer_group": None,
    }


def balance_transaction(b: states.BalanceTransaction, account: Account) -> dict[str, Any]:
    fees = [
        {
            "amount": b.fee,
            "application": None,
            "currency": b.currency,
            "description": "Dispute fee" if b.type == "adjustment" else "Stripe processing fees",
            "type": "stripe_fee",
        }
    ]
    return {
        "id": b.id,
        "object": "balance_transaction",
        "amount": b.amount,
        "available_on": b.available_on,
        "balance_type": "payments",
        "created": b.created,
        "currency": b.currency,
        "description": b.description,
        "exchange_rate": exchange_rate(b.source_currency),
        "fee": b.fee,
        "fee_details": fees if b.fee else [],
        "net": b.net,
        "reporting_category": b.reporting_category,
        "source": b.source,
        "status": "available" if b.available_on <= account.now else "pending",
        "type": b.type,
    }


def refund(r: states.Refund, _: Account) -> dict[str, Any]:
    details: dict[str, Any] = {"type": r.method}
    if r.method == "card":
        details["card"] = {
            "reference_status": "pending",
            "reference_type": "acquirer_reference_number",
            "type": "refund",
        }
    else:
        details["us_bank_transfer"] = {"reference": None, "reference_status": "pending"}
        details["type"] = "us_bank_transfer"
    body: dict[str, Any] = {
        "id": r.id,
        "object": "refund",
        "amount": r.amount,
        "balance_transaction": r.balance_transaction,
        "charge": r.charge,
        "created": r.created,
        "currency": r.currency,
        "customer": r.customer,
        "destination_details": details,
        "metadata": r.metadata,
        "payment_intent": r.payment_intent,
        "reason": r.reason,
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": r.status,
        "transfer_reversal": None,
    }
    if r.failure_reason is not None:
        body["failure_balance_transaction"] = r.failure_balance_transaction
        body["failure_reason"] = r.failure_reason
    return body


def payout(p: states.Payout, account: Account) -> dict[str, Any]:
    return {
        "id": p.id,
        "object": "payout",
        "amount": p.amount,
        "application_fee": None,
        "application_fee_amount": None,
        "arrival_date": p.arrival_date,
        "automatic": True,
        "balance_transaction": p.balance_transaction,
        "created": p.created,
        "currency": p.currency,
        "description": "STRIPE PAYOUT",
        "destination": "ba_1" + letters(account.account, 23),
        "failure_balance_transaction": p.failure_balance_transaction,
        "failure_code": p.failure_code,
        "failure_message": p.failure_message,
        "livemode": False,
        "metadata": p.metadata,
        "method": "standard",
        "original_payout": None,
        "payout_method": None,
        "reconciliation_status": p.reconciliation_status,
        "reversed_by": None,
        "source_type": "card",
        "statement_descriptor": None,
        "status": p.status,
        "trace_id": {"status": "supported" if p.trace_id else "pending", "value": p.trace_id},
        "type": "bank_account",
    }


_EVIDENCE = [
    "access_activity_log",
    "billing_address",
    "cancellation_policy",
    "cancellation_policy_disclosure",
    "cancellation_rebuttal",
    "customer_communication",
    "customer_email_address",
    "customer_name",
    "customer_purchase_ip",
    "customer_signature",
    "duplicate_charge_documentation",
    "duplicate_charge_explanation",
    "duplicate_charge_id",
    "product_description",
    "receipt",
    "refund_policy",
    "refund_policy_disclosure",
    "refund_refusal_explanation",
    "service_date",
    "service_documentation",
    "shipping_address",
    "shipping_carrier",
    "shipping_date",
    "shipping_documentation",
    "shipping_tracking_number",
    "uncategorized_file",
    "uncategorized_text",
]


def dispute(d: states.Dispute, account: Account) -> dict[str, Any]:
    evidence: dict[str, Any] = dict.fromkeys(_EVIDENCE)
    evidence |= {
        "customer_email_address": d.customer_email,
        "customer_name": d.customer_name,
        "enhanced_evidence": {},
    }
    answered = d.status != "needs_response"
    return {
        "id": d.id,
        "object": "dispute",
        "amount": d.amount,
        "balance_transactions": [
            balance_transaction(account.one("balance_transaction", key), account) for key in d.balance_transactions
        ],
        "charge": d.charge,
        "created": d.created,
        "currency": d.currency,
        "enhanced_eligibility_types": [],
        "evidence": evidence,
        "evidence_details": {
            "due_by": d.due_by,
            "enhanced_eligibility": {},
            "has_evidence": answered,
            "past_due": False,
            "submission_count": 1 if answered else 0,
            "submission_method": "manual" if answered else "not_submitted",
        },
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": d.metadata,
        "payment_intent": d.payment_intent,
        "payment_method_details": {
            "card": {
                "brand": "visa",
                "case_type": "chargeback",
                "network": "visa",
                "network_reason_code": "10",
            },
            "type": "card",
        },
        "reason": d.reason,
        "status": d.status,
    }


def account(key: str, company: str, created: int) -> dict[str, Any]:
    """The account itself: https://docs.stripe.com/api/accounts/object"""
    return {
        "id": key,
        "object": "account",
        "business_profile": {"mcc": "7311", "name": company, "url": "https://ads.example.com"},
        "business_type": "company",
        "capabilities": {"card_payments": "active", "transfers": "active"},
        "charges_enabled": True,
        "country": "US",
        "created": created,
        "default_currency": "usd",
        "details_submitted": True,
        "email": "finance@ads.example.com",
        "metadata": {},
        "payouts_enabled": True,
        "settings": {
            "branding": {"icon": None, "logo": None, "primary_color": None, "secondary_color": None},
            "card_payments": {
                "statement_descriptor_prefix": None,
                "statement_descriptor_prefix_kana": None,
                "statement_descriptor_prefix_kanji": None,
            },
            "dashboard": {"display_name": company, "timezone": "Etc/UTC"},
            "payments": {
                "statement_descriptor": "SANDBOX ADS",
                "statement_descriptor_kana": None,
                "statement_descriptor_kanji": None,
            },
            "payouts": {
                "debit_negative_balances": True,
                "schedule": {"delay_days": 2, "interval": "daily"},
                "statement_descriptor": None,
            },
        },
        "type": "standard",
    }


def balance(available: int, pending: int) -> dict[str, Any]:
    """The account's balance in US cents: https://docs.stripe.com/api/balance/balance_object"""
    return {
        "object": "balance",
        "available": [{"amount": available, "currency": "usd", "source_types": {"card": available}}],
        "livemode": False,
        "pending": [{"amount": pending, "currency": "usd", "source_types": {"card": pending}}],
        "refund_and_dispute_prefunding": {
            "available": [{"amount": 0, "currency": "usd"}],
            "pending": [{"amount": 0, "currency": "usd"}],
        },
    }
