"""The query language of QuickBooks: what is understood, what is refused and with which code, and what it finds."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finance_os.sandbox.quickbooks.faults import Fault
from finance_os.sandbox.quickbooks.query import page, parse, select

TODAY = dt.date(2026, 7, 19)


def customer(key: int, name: str, **more: Any) -> dict[str, Any]:
    return {"Id": str(key), "DisplayName": name, "Active": True, "Balance": key * 10, **more}


PEOPLE = [
    customer(9, "Adam's Candy"),
    customer(10, "beacon Games", MetaData={"LastUpdatedTime": "2026-07-10T10:00:00-07:00"}),
    customer(100, "Cobalt 50%", MetaData={"LastUpdatedTime": "2026-07-10T17:00:01+00:00"}),
    customer(2, "Delta", Active=False),
]
INVOICES = [
    {"Id": str(key), "TxnDate": f"2026-07-{day:02d}", "CustomerRef": {"value": owner}, "TotalAmt": Decimal(amount)}
    for key, day, owner, amount in ((1, 1, "9", "10"), (2, 5, "10", "9.5"), (3, 19, "9", "100.25"), (11, 5, "2", "0"))
]


def ids(statement: str, bodies: list[dict[str, Any]] | None = None) -> list[str]:
    query = parse(statement, TODAY)
    chosen = bodies if bodies is not None else (INVOICES if query.kind.name == "Invoice" else PEOPLE)
    return [body["Id"] for body in page(query, select(query, chosen))]


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("select * from Customer", ["9", "10", "100"]),
        ("SELECT * FROM cUstomer WHERE displayname = 'BEACON games'", ["10"]),
        (r"select * from Customer where DisplayName = 'Adam\'s Candy'", ["9"]),
        ("select * from Customer where DisplayName like '%a%' ORDERBY DisplayName desc", ["100", "10", "9"]),
        ("select * from Customer where DisplayName like 'Cobalt 50%'", ["100"]),
        ("select * from Customer where DisplayName like 'candy'", []),
        ("select * from Customer where Active = false", ["2"]),
        ("select * from Customer where Active IN (true, false) orderby Id", ["2", "9", "10", "100"]),
        ("select * from Customer where Id in ('10','9') order by Id asc", ["9", "10"]),
        ("select * from Customer where Balance > 100", ["100"]),
        ("select * from Customer where Balance >= '100.00' and Balance < 1000", ["10"]),
        ("select * from Customer where Metadata.LastUpdatedTime >= '2026-07-10T17:00:00Z'", ["10", "100"]),
        ("select * from Customer where MetaData.LastUpdatedTime > '2026-07-10T10:00:00'", ["100"]),
        ("select * from Customer where MetaData.LastUpdatedTime < '2026-07-11'", ["10", "100"]),
        ("select * from Customer ORDERBY Id DESC STARTPOSITION 2 MAXRESULTS 1", ["10"]),
        ("select * from Customer STARTPOSITION 4", []),
        ("select * from Invoice", ["11", "3", "2", "1"]),
        ("select * from Invoice where TxnDate >= '2026-07-05' and TxnDate < CURRENT_DATE orderby Id", ["2", "11"]),
        ("select * from Invoice where TxnDate = CURRENT_DATE", ["3"]),
        ("select * from Invoice where CustomerRef = '9' orderby TotalAmt", ["1", "3"]),
        ("select * from Invoice orderby TxnDate desc, Id desc", ["3", "11", "2", "1"]),
        ("select * from Invoice orderby TotalAmt", ["11", "2", "1", "3"]),
        ("select * from Invoice where TxnDate like '2026-07-0%' orderby id", ["1", "2", "11"]),
    ],
)
def test_what_a_statement_finds(statement: str, found: list[str]) -> None:
    assert ids(statement) == found


def test_a_count_is_a_count_of_what_would_be_found() -> None:
    query = parse("select COUNT(*) from Customer where Active in (true,false)", TODAY)
    assert query.count
    assert len(select(query, PEOPLE)) == 4


def test_objects_without_the_property_come_first_and_match_nothing() -> None:
    assert ids("select * from Customer orderby MetaData.LastUpdatedTime")[0] == "9"
    assert ids("select * from Customer where MetaData.LastUpdatedTime > '2000-01-01'") == ["10", "100"]


@pytest.mark.parametrize(
    ("statement", "code", "detail"),
    [
        ("", "4000", "The query provided was empty"),
        ("  ", "4000", "The query provided was empty"),
        ("update Customer", "4000", "column 1"),
        ("select Id from Customer", "4000", "column 8"),
        ("select * from", "4000", "<EOF>"),
        ("select * from Customer, Invoice", "4000", "column 23"),
        ("select * from Customer where", "4000", "a property"),
        ("select * from Customer where Active = true or Id = '1'", "4000", "or"),
        ("select * from Customer where Balance <> '1'", "4000", "a value"),
        ("select * from Customer where Id != '1'", "4000", 'Encountered: "!" (33)'),
        ("select * from Customer where DisplayName = Beacon", "4000", "a value"),
        ("select * from Customer where DisplayName = 'open", "4000", "Lexical error"),
        ('select * from Customer where DisplayName = "x"', "4000", "Lexical error"),
        ("select * from Customer where Id in ('1' '2')", "4000", "column"),
        ("select * from Customer startposition 0", "4000", "a positive whole number"),
        ("select * from Customer maxresults -5", "4000", "a positive whole number"),
        ("select * from Customer maxresults 10 startposition 1", "4000", "<EOF>"),
        ("select * from Customer group by Id", "4000", "<EOF>"),
        ("select * from Customer;", "4000", "Lexical error"),
        ("select * from Customers", "4001", "Metadata not found for Entity: Customers"),
        ("select * from Customer where Colour = 'red'", "4001", "Property Colour not found for Entity Customer"),
        ("select * from Customer where Notes = 'x'", "4001", "property 'Notes' is not queryable"),
        ("select * from Invoice where Line.Amount > 1", "4001", "property 'Line.Amount' is not queryable"),
        ("select * from Customer where Id > '5'", "4001", "operator > is not supported for property 'Id'"),
        ("select * from Customer where Active like 'true'", "4001", "operator LIKE is not supported"),
        ("select * from Customer where Active = 'maybe'", "4001", "value 'maybe' is not valid"),
        ("select * from Customer where Balance = 'much'", "4001", "value 'much' is not valid"),
        ("select * from Invoice where TxnDate > '07/01/2026'", "4001", "value '07/01/2026' is not valid"),
        (
            "select * from Customer where MetaData.LastUpdatedTime > '2026-07-10T17:00:00 00:00'",
            "4001",
            "value '2026-07-10T17:00:00 00:00' is not valid",
        ),
        ("select * from Customer maxresults 1001", "4001", "value 1001 is too large. Max allowed value is 1000."),
    ],
)
def test_what_is_not_understood(statement: str, code: str, detail: str) -> None:
    with pytest.raises(Fault) as refused:
        parse(statement, TODAY)
    assert refused.value.code == code
    assert detail in refused.value.body["Error"][0]["Detail"]


@given(st.text(max_size=60))
def test_no_text_is_more_than_the_parser_can_refuse(text: str) -> None:
    for statement in (text, "select * from Customer where " + text, f"select * from Bill where Id = '{text}'"):
        try:
            parse(statement, TODAY)
        except Fault as fault:
            assert fault.code in ("4000", "4001")  # noqa: PT017


@given(st.text(max_size=30))
def test_an_escaped_text_is_found_again(name: str) -> None:
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    people = [customer(1, name), customer(2, name + "x")]
    assert ids(f"select * from Customer where DisplayName = '{escaped}'", people) == ["1"]
