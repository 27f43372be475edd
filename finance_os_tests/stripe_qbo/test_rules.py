"""What the rules state of Stripe's balance at the start: exact, by currency, and refused with a reason otherwise."""

from datetime import UTC, datetime
from typing import Any

import pytest

from finance_os.stripe_qbo.rules import BadRules, rules_of

SET = {"balance_date": "2026-06-01", "time_zone": "America/New_York"}


def test_what_is_stated_is_known_in_minor_units() -> None:
    said = {"usd": "12345.67", "jpy": "1200", "bhd": "-0.050", "eur": "0.00"}
    read = rules_of({**SET, "opening_stripe_balance": said})
    assert read.stripe_at_start == {"usd": 1_234_567, "jpy": 1_200, "bhd": -50, "eur": 0}
    assert read.since == int(datetime(2026, 6, 1, 4, tzinfo=UTC).timestamp())
    assert rules_of(SET).stripe_at_start is None
    assert rules_of({**SET, "opening_stripe_balance": None}).stripe_at_start is None


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"usd": 12345.67}, "opening_stripe_balance.usd is text"),
        ({"usd": 1_234_567}, "opening_stripe_balance.usd is text"),
        ({"usd": None}, "opening_stripe_balance.usd is text"),
        ({"usd": "1234567"}, "with 2 decimals .* such as 1234.55: '1234567' is not"),
        ({"usd": "12345.6"}, "with 2 decimals"),
        ({"usd": "12345.670"}, "with 2 decimals"),
        ({"usd": "12,345.67"}, "with 2 decimals"),
        ({"usd": "$1.00"}, "with 2 decimals"),
        ({"usd": "+1.00"}, "with 2 decimals"),
        ({"usd": "1e2"}, "with 2 decimals"),
        ({"usd": ""}, "with 2 decimals"),
        ({"jpy": "1200.00"}, "with 0 decimals .* such as 1234: '1200.00' is not"),
        ({"bhd": "1.00"}, "with 3 decimals"),
        ({"USD": "1.00"}, "lower case, such as usd: 'USD' is not"),
        ({"dollars": "1.00"}, "lower case, such as usd: 'dollars' is not"),
        ({"xxx": "1.00"}, "'xxx' is not .*no minor unit"),
        ({}, "names no currency"),
        ("1.00", "cannot be read"),
    ],
    ids=str,
)
def test_anything_else_is_refused(said: Any, why: str) -> None:
    with pytest.raises(BadRules, match=why):
        rules_of({**SET, "opening_stripe_balance": said})
