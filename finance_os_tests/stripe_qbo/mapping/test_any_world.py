"""The books of any world with credits outside of Stripe: whatever seed, in one step or more, with the account for them
named from the first day on or later. What is expected comes from the world; nothing here shares code with the mapping.
"""

from collections import defaultdict
from datetime import date, timedelta
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from finance_os.sandbox.quickbooks.formats import cents_of, from_minor
from finance_os.sandbox.world import World
from finance_os.stripe_qbo.stripe_evidence import StripeEvidence

from .made import Made, codes
from .test_books import clearing_by_day, outside_at_home, stripe_by_day
from .test_revising import Export
from .worlds import OUTSIDE, Company, company, evidence, living

CHOSEN = {"outside_account": OUTSIDE}


class Lived(Made):
    """A world's account of Stripe, as it is by now."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    @property
    def evidence(self) -> StripeEvidence:
        return evidence(self.world)


@settings(max_examples=7, derandomize=True, phases=(Phase.explicit, Phase.generate))
@given(
    seed=st.integers(0, 999),
    size=st.integers(2, 4),
    begun=st.integers(16, 30),
    steps=st.lists(st.integers(0, 12), min_size=1, max_size=2),
    is_named_late=st.booleans(),
)
def test_any_world_ends_in_its_books(seed: int, size: int, begun: int, steps: list[int], is_named_late: bool) -> None:
    world = living(begun, size, seed, outside_credits=True)
    with company(world) as realm:
        export = Export(Lived(world), realm)
        told = export.step(**({} if is_named_late else CHOSEN))
        outside = [each.id for each in world.stripe.rows("credit_note") if each.out_of_band_amount]
        asked = {each.subject for each in told.findings if each.code == "credit_settled_outside_stripe"}
        assert asked == (set(outside) if is_named_late else set())
        for days in steps:
            world.advance_to(world.when + timedelta(days=days))
            told = export.step(**CHOSEN)
        assert set(codes(told)) <= {"invoice_uncollectible"}
        _agree(world, realm)


def _agree(world: World, realm: Company) -> None:
    """Every account and form of QuickBooks is what the world says."""
    held = {each["DocNumber"]: each for each in realm.all("Invoice")}
    for each in world.stripe.rows("invoice"):
        if each.status != "draft":
            still_open = 0 if each.status == "void" else each.amount_remaining
            assert cents_of(held[each.number]["Balance"]) == from_minor(still_open, each.currency), each.id
    left: dict[str, int] = defaultdict(int)
    for each in realm.all("CreditMemo"):
        left[each["CustomerRef"]["value"]] += cents_of(each["RemainingCredit"])
    for each in world.stripe.rows("customer"):
        qbo_id = realm.ids.get(f"customer:{each.id}:customer_{each.currency}")
        if qbo_id is not None:
            assert left[qbo_id] == from_minor(-each.balance, each.currency), each.id
    notes = world.stripe.rows("credit_note")
    assert cents_of(realm.balance(OUTSIDE)) == -sum(outside_at_home(realm, each) for each in notes)
    in_books, at_stripe = clearing_by_day(realm), stripe_by_day(world)
    assert _moved(in_books) == _moved(at_stripe)
    paid = sorted(each.amount for each in world.stripe.rows("payout") if each.status == "paid")
    assert sorted(cents_of(each["TotalAmt"]) for each in realm.all("Deposit") if "po_" in str(each)) == paid
    assert realm.trial_balance() == 0


def _moved(by_day: dict[date, int]) -> dict[date, Any]:
    return {day: cents for day, cents in sorted(by_day.items()) if cents}
