"""What QuickBooks only knows now, its exchange rates, single objects by ID, the call meter, and the declaration."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from finance_os.evidence.businesses import Connection
from finance_os.evidence.extraction import DayState, Kind, Notice, Page, RemoteCount, SourceError
from finance_os.evidence.windows import Days
from finance_os.sandbox.faults import Rule
from finance_os.sources.planning import plan_reads
from finance_os.sources.quickbooks import QUICKBOOKS
from finance_os.sources.quickbooks.objects import Way
from finance_os.sources.source import Cadence, Reads
from finance_os_tests.sources.test_quickbooks import UNTIL, WHOLE, Company, company, pairs, plain, removals, shown

TODAY = Days(UNTIL.date(), UNTIL.date())


@pytest.fixture(scope="module")
def shared() -> Iterator[Company]:
    with company() as served:
        yield served


@pytest.fixture
def books(shared: Company) -> Iterator[Company]:
    """A company that no test changes."""
    yield shared
    shared.faults.clear()
    shared.options, shared.now, shared.held.requests = {}, UNTIL, 0


@pytest.fixture
def own() -> Iterator[Company]:
    with company(size=1) as served:
        yield served


# --- snapshots


def test_the_company_is_known_by_its_realm_and_its_settings_by_their_id(books: Company) -> None:
    (info,) = books.records("quickbooks_company_info", TODAY)
    assert pairs([info]) == [(books.room.realm_id, TODAY.first)]
    assert (info.payload, info.version) == (plain(books, "CompanyInfo")[0], 0)
    (preferences,) = books.records("quickbooks_preferences", TODAY)
    assert (preferences.source_id, preferences.payload) == ("1", plain(books, "Preferences")[0])


def test_the_closing_date_and_custom_numbers_are_in_the_preferences(own: Company) -> None:
    own.change("close_books", date="2026-06-30")
    (preferences,) = own.records("quickbooks_preferences", TODAY)
    assert preferences.payload is not None
    assert preferences.payload["AccountingInfoPrefs"]["BookCloseDate"] == "2026-06-30"
    assert preferences.payload["SalesFormsPrefs"]["CustomTxnNumbers"] is True
    assert preferences.version == 1


def test_tax_codes_are_read_whole_and_proved(own: Company) -> None:
    realm = own.room.realm
    for number in range(5):
        key = str(number + 2)
        realm.create("TaxCode", {"Name": f"State {number}", "Active": number != 3, "Taxable": True}, key=key)
    own.asked.clear()
    for size in (1, 2, 7, 1_000):
        items = list(own.items("quickbooks_tax_code", TODAY, page_size=size))
        records = [record for item in items if isinstance(item, Page) for record in item.records]
        assert sorted(pairs(records)) == [(key, TODAY.first) for key in ("2", "3", "4", "5", "6", "NON", "TAX")]
        assert RemoteCount({TODAY.first: 7}) in items
    assert "cdc" not in own.asked
    # Inactive ones are still there; one that is taken away is not shown any more.
    del realm.entries["TaxCode"]["4"]
    assert len(own.records("quickbooks_tax_code", TODAY)) == 6


def test_a_list_that_changes_while_it_is_read_is_read_again(own: Company) -> None:
    realm = own.room.realm
    list(own.items("quickbooks_tax_code", TODAY))
    own.asked.clear()

    def meddle(at: int) -> None:
        if at == 3:  # count, page, and now the count again
            realm.create("TaxCode", {"Name": "Late", "Active": True, "Taxable": True}, key="9")

    own.meddle = meddle
    assert sorted(key for key, _ in pairs(own.records("quickbooks_tax_code", TODAY))) == ["9", "NON", "TAX"]
    assert len(own.asked) == 6

    def never_rest(at: int) -> None:
        realm.create("TaxCode", {"Name": f"{at}", "Active": True, "Taxable": True}, key=f"1{at}")

    own.meddle = never_rest
    with pytest.raises(SourceError, match="incomplete: TaxCode"):
        own.records("quickbooks_tax_code", TODAY)


def test_a_snapshot_that_midnight_overtook_stands_for_the_day_before(books: Company) -> None:
    for object_type in ("quickbooks_company_info", "quickbooks_tax_code"):
        books.now = UNTIL + timedelta(days=1)
        assert {record.day for record in books.records(object_type, TODAY)} == {TODAY.first}
        (notice,) = books.notices(object_type, TODAY)
        assert "after midnight" in notice
        books.now = UNTIL
        assert books.notices(object_type, TODAY) == []


def test_a_fault_in_a_snapshot_is_tried_again(books: Company) -> None:
    for object_type in ("quickbooks_company_info", "quickbooks_tax_code", "quickbooks_exchange_rate"):
        expected = shown(books.records(object_type, TODAY))
        for number in range(1, 4):
            books.script(Rule("*/v3/company/*", "truncated", on=number))
            assert shown(books.records(object_type, TODAY)) == expected
            books.faults.clear()


# --- exchange rates


def test_each_day_has_the_rate_of_each_currency_that_was_good_for_it(own: Company) -> None:
    days = Days(date(2026, 7, 10), date(2026, 7, 13))
    codes = sorted(entry.fields["Code"] for entry in own.room.realm.all("CompanyCurrency"))
    assert codes == ["BHD", "EUR", "JPY"]
    own.room.realm.set_rate({"SourceCurrencyCode": "EUR", "Rate": Decimal("1.25"), "AsOfDate": "2026-07-12"})
    items = list(own.items("quickbooks_exchange_rate", days))
    records = [record for item in items if isinstance(item, Page) for record in item.records]
    assert pairs(records) == [(f"{code}:{day}", day) for day in days for code in codes]
    rates = {record.source_id: record.payload["Rate"] for record in records if record.payload}
    assert rates["EUR:2026-07-11"] != rates["EUR:2026-07-12"] == rates["EUR:2026-07-13"] == Decimal("1.25")
    assert RemoteCount(dict.fromkeys(days, 3)) in items
    (euro,) = [record for record in records if record.source_id == "EUR:2026-07-12"]
    assert euro.version is None
    assert euro.updated_at == datetime(2026, 7, 19, 12, 30, tzinfo=UTC)
    # A rate that is set later for a past day is found when the day is read again.
    own.room.realm.set_rate({"SourceCurrencyCode": "EUR", "Rate": Decimal("1.5"), "AsOfDate": "2026-07-11"})
    again = {r.source_id: r.payload["Rate"] for r in own.records("quickbooks_exchange_rate", days) if r.payload}
    assert {key for key, rate in again.items() if rate != rates[key]} == {"EUR:2026-07-11"}


def test_rates_go_on_behind_any_day(books: Company) -> None:
    days = Days(date(2026, 7, 10), date(2026, 7, 13))
    pages = books.pages("quickbooks_exchange_rate", days)
    assert len(pages) == len(days)
    for number, page in enumerate(pages, 1):
        rest = list(books.items("quickbooks_exchange_rate", days, resume=page.resume))
        found = [item for item in rest if isinstance(item, Page)]
        assert [shown(each.records) for each in found] == [shown(each.records) for each in pages[number:]]
        assert RemoteCount(dict.fromkeys(days, 3)) in rest


def test_a_company_with_one_currency_has_no_rates(own: Company) -> None:
    preferences = own.room.realm.one("Preferences", "1")
    preferences.fields["CurrencyPrefs"]["MultiCurrencyEnabled"] = False
    own.asked.clear()
    assert list(own.items("quickbooks_exchange_rate", TODAY)) == [
        Notice("The company keeps its books in one currency: there are no exchange rates."),
        RemoteCount({}),
    ]
    assert own.asked == ["preferences"]


# --- targets


def test_single_objects_are_read_by_their_ids(books: Company) -> None:
    invoices = {body["Id"]: body for body in plain(books, "Invoice")}
    chosen = tuple(invoices)[:3]
    books.asked.clear()
    pages = books.pages("quickbooks_invoice", TODAY, kind=Kind.TARGETED, targets=(*chosen, "999999"))
    records = [record for page in pages for record in page.records]
    assert pairs(records) == [(key, TODAY.first) for key in chosen]
    assert [record.payload for record in records[:3]] == [invoices[key] for key in chosen]
    assert removals(records) == [("999999", TODAY.first)]
    assert books.asked == ["query"] * 4
    rest = books.pages("quickbooks_invoice", TODAY, kind=Kind.TARGETED, targets=chosen, resume=pages[1].resume)
    assert [record.source_id for page in rest for record in page.records] == [chosen[2]]
    yesterday = Days(date(2026, 7, 18), date(2026, 7, 18))
    assert pairs(books.records("quickbooks_invoice", yesterday, kind=Kind.TARGETED, targets=chosen[:1])) == [
        (chosen[0], yesterday.first)
    ]


def test_the_others_are_targets_as_well(books: Company) -> None:
    realm = books.room.realm_id
    for object_type, target in (
        ("quickbooks_company_info", realm),
        ("quickbooks_preferences", "1"),
        ("quickbooks_tax_code", "NON"),
        ("quickbooks_exchange_rate", f"EUR:{TODAY.first}"),
    ):
        found = books.records(object_type, TODAY, kind=Kind.TARGETED, targets=(target,))
        assert pairs(found) == [(target, TODAY.first)]


@pytest.mark.parametrize(
    ("object_type", "target"),
    [
        ("quickbooks_invoice", "1' OR Id > '0"),
        ("quickbooks_invoice", ""),
        ("quickbooks_exchange_rate", "EUR"),
        ("quickbooks_exchange_rate", "EUR:yesterday"),
    ],
)
def test_what_is_no_source_id_is_not_asked_for(books: Company, object_type: str, target: str) -> None:
    books.asked.clear()
    with pytest.raises(SourceError, match="is not a source ID of QuickBooks") as failed:
        books.records(object_type, TODAY, kind=Kind.TARGETED, targets=(target,))
    assert (failed.value.code, failed.value.permanent) == ("invalid_request", True)
    assert books.asked == []


# --- the call meter


def test_a_notice_is_given_when_the_months_calls_come_to_an_end(books: Company) -> None:
    books.options["FINANCE_OS_QUICKBOOKS_MONTHLY_CALLS"] = "100"
    books.held.requests = 78
    assert books.notices("quickbooks_company_info", TODAY) == []
    assert books.held.since == datetime(2026, 7, 1, tzinfo=UTC), "the month begins in UTC"
    books.held.requests = 79
    (notice,) = books.notices("quickbooks_company_info", TODAY)
    assert notice.startswith("80 requests were sent to QuickBooks this month")
    books.held.requests = 99
    assert books.records("quickbooks_company_info", TODAY)
    books.held.requests = 100
    books.asked.clear()
    with pytest.raises(SourceError, match="call_budget_exhausted") as failed:
        books.records("quickbooks_company_info", TODAY)
    assert failed.value.permanent
    assert books.asked == []


# --- the declaration


def test_the_source_says_what_the_plan_says_of_it() -> None:
    assert (QUICKBOOKS.system, QUICKBOOKS.title, QUICKBOOKS.order) == ("quickbooks", "QuickBooks sandbox", 2)
    assert (QUICKBOOKS.cadence, QUICKBOOKS.sla) == (Cadence.DAILY, timedelta(days=1))
    assert (
        QUICKBOOKS.cursor_strategy
        == "CDC/time-window reads where supported; otherwise scheduled snapshots with cursor metadata."
    )
    assert (
        QUICKBOOKS.evidence_policy
        == "Preserve QBO entity ID, sync token, last updated timestamp, and raw accounting payload."
    )
    labels = "company_info, accounts, customers, vendors, deposits, purchases, bills, journals, invoices, payments"
    assert ", ".join(obj.label for obj in QUICKBOOKS if obj.label) == labels
    unlisted = "bill_payment, credit_memo, refund_receipt, item, tax_code, preferences, exchange_rate"
    names = [obj.object_type.removeprefix("quickbooks_") for obj in QUICKBOOKS if not obj.label]
    assert ", ".join(names) == unlisted
    assert all(obj.object_type.startswith("quickbooks_") for obj in QUICKBOOKS)
    assert [obj.object_type for obj in QUICKBOOKS if obj.reads is Reads.SNAPSHOT] == [
        "quickbooks_company_info",
        "quickbooks_tax_code",
        "quickbooks_preferences",
    ]


def test_columns_are_documented_and_none_that_is_shown_is_personal(books: Company) -> None:
    personal = re.compile("Name|Addr|Email|Phone|Memo|Note|Description|Line|Ref$")
    seen_nowhere: list[str] = []
    for obj in QUICKBOOKS:
        columns = [column.name for column in obj.columns]
        assert len(set(columns)) == len(columns)
        assert set(obj.shown) <= set(columns), obj.object_type
        assert not [name for name in obj.shown if personal.search(name)], obj.object_type
        assert {"SyncToken", "MetaData"} <= set(columns)
        days = TODAY if obj.detail.way is not Way.CHANGES else WHOLE
        payloads = [record.payload for record in books.records(obj.object_type, days) if record.payload]
        seen = {name for payload in payloads for name in payload}
        seen_nowhere += [f"{obj.object_type}.{name}" for name in set(columns) - seen]
        for payload in payloads:
            assert all(type(payload.get(name, "")) in (str, int, bool, Decimal) for name in obj.shown)
    # The sandbox's books have no use for these.
    assert {name.split(".")[1] for name in seen_nowhere} <= {
        "ParentRef",
        "Sku",
        "Credit",
        "Adjustment",
        "PaymentRefNum",
        "UnitPrice",
        "ExpenseAccountRef",
        "Vendor1099",
        "AcctNum",
        "CompanyName",
        "PrivateNote",
        "LinkedTxn",
        "EmailStatus",
        "SalesTaxRateList",
        "PurchaseTaxRateList",
        "DueDate",
        "DocNumber",
    }, seen_nowhere


def test_days_that_deletions_are_not_told_of_any_more_are_planned_as_such() -> None:
    connection = Connection(1, "acme", "quickbooks", "main", "env", "UTC")
    now = datetime(2026, 7, 19, 12, 30, tzinfo=UTC)
    days = Days(date(2026, 6, 1), date(2026, 7, 20))

    def states(object_type: str) -> dict[date, Any]:
        obj = QUICKBOOKS.object(object_type)
        reads = plan_reads(QUICKBOOKS, obj, connection, days, now)
        return {day: state for read in reads for day, state in read.states.items()}

    invoices = states("quickbooks_invoice")
    assert invoices[date(2026, 6, 19)] is DayState.CREATED
    assert invoices[date(2026, 6, 20)] is DayState.WHOLE
    assert invoices[date(2026, 7, 19)] is DayState.PARTIAL
    assert states("quickbooks_exchange_rate")[date(2026, 6, 1)] is DayState.WHOLE
    preferences = states("quickbooks_preferences")
    assert preferences[date(2026, 7, 18)] is DayState.UNOBSERVABLE
    assert preferences[date(2026, 7, 19)] is DayState.WHOLE
