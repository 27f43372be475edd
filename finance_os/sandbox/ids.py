"""Identifiers that look like the vendors' own and depend on nothing but their kind and their running number.

Two worlds built from different seeds therefore hold different things under the same identifiers.
"""

import base64
import hashlib

# Prefix and number of characters after it, as in the examples of https://docs.stripe.com/api
_SHAPES: dict[str, tuple[str, int]] = {
    "customer": ("cus_", 14),
    "invoice": ("in_1", 23),
    "line_item": ("il_1", 23),
    "charge": ("ch_3", 23),
    "payment": ("py_3", 23),
    "payment_intent": ("pi_3", 23),
    "payment_method": ("pm_1", 23),
    "balance_transaction": ("txn_3", 23),
    "credit_note": ("cn_1", 23),
    "credit_note_line_item": ("cnli_1", 23),
    "customer_balance_transaction": ("cbtxn_1", 23),
    "refund": ("re_3", 23),
    "payout": ("po_1", 23),
    "dispute": ("du_1", 23),
    "invoice_payment": ("inpay_1", 23),
    "event": ("evt_1", 23),
    "price": ("price_1", 23),
    "product": ("prod_", 14),
    "request": ("req_", 14),
}


def letters(text: str, length: int) -> str:
    """`length` (at most 42) letters and digits that look random and follow from `text` alone."""
    digest = hashlib.blake2b(text.encode(), digest_size=32).digest()
    return base64.b64encode(digest, altchars=b"Zq").decode()[:length]


def stripe_id(kind: str, number: int) -> str:
    """The identifier of the `number`-th Stripe object of `kind`, such as `cus_…` or `in_1…`."""
    prefix, length = _SHAPES[kind]
    return prefix + letters(f"{kind}:{number}", length)
