"""Rho's CSV: what is read, what is refused and how it is said, and which records two exports have in common."""

import csv
import hashlib
import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finance_os import settings as settings_module
from finance_os.evidence.extraction import Kind, Page, Record, RemoteCount, Request, SourceError
from finance_os.evidence.windows import Days, window_of
from finance_os.sources.credentials import Credentials
from finance_os.sources.drops import Accepted, Problem, Quarantined, Target, kept_as
from finance_os.sources.rho import COLUMNS_SETTING, RHO, judge, reading
from finance_os.sources.rho.columns import Columns
from finance_os.sources.rho.values import parse_amount, parse_date

NEW_YORK = ZoneInfo("America/New_York")
HEADER = ("Transaction ID", "Date", "Posted Date", "Description", "Amount", "Currency", "Status", "Reference")
NOW = datetime(2026, 9, 1, 12, tzinfo=UTC)


class Nothing:
    """No evidence is held."""

    def ids_between(self, path: tuple[str, ...], first: str, last: str) -> list[str]:
        raise NotImplementedError

    def ids_read_since(self, moment: datetime) -> list[str]:
        raise NotImplementedError

    def requests_since(self, moment: datetime) -> int:
        raise NotImplementedError

    def ids_where(self, path: tuple[str, ...], value: str) -> list[str]:  # noqa: ARG002
        return []


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("FINANCE_OS_START_DATE", "2024-01-01")
    settings_module.settings.cache_clear()
    yield
    settings_module.settings.cache_clear()


def as_csv(rows: Sequence[Sequence[str]], header: Sequence[str] = HEADER, delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([header, *rows])
    return text.getvalue().encode()


def row(
    transaction_id: str = "",
    posted: str = "2026-08-03",
    amount: str = "-12.50",
    *,
    begun: str = "2026-08-01",
    description: str = "Hosting",
    currency: str = "USD",
    status: str = "Posted",
    reference: str = "",
) -> list[str]:
    return [transaction_id, begun, posted, description, amount, currency, status, reference]


def judged(data: bytes, columns: Mapping[str, object] | None = None) -> Accepted | Quarantined:
    options = {COLUMNS_SETTING: json.dumps(columns)} if columns else {}
    return judge(data, "august.csv", NEW_YORK, Credentials(options))


def problems(data: bytes, columns: Mapping[str, object] | None = None) -> tuple[Problem, ...]:
    verdict = judged(data, columns)
    assert isinstance(verdict, Quarantined), "the file was accepted"
    assert verdict.count >= len(verdict.problems)
    return verdict.problems


def only_problem(data: bytes, columns: Mapping[str, object] | None = None) -> tuple[str, int | None, str | None]:
    found = problems(data, columns)
    assert len(found) == 1, found
    return found[0].code, found[0].row, found[0].column


def read(
    location: Path,
    *files: bytes,
    days: Days | None = None,
    columns: Columns | None = None,
    targets: Sequence[str] = (),
) -> tuple[list[Page], dict[date, int]]:
    """Pages and remote counts of files as kept drops."""
    hashes = [keep(location, data) for data in files]
    days = days or Days(date(2024, 1, 1), date(2027, 1, 1))
    request = Request(
        kind=Kind.DROP,
        days=days,
        window=window_of(days, NEW_YORK),
        zone=NEW_YORK,
        now=lambda: NOW,
        held=Nothing(),
        targets=(*hashes, *targets),
    )
    reader = reading.RhoReader(str(location), columns or Columns())
    extraction = RHO.extract(reader, RHO.object("rho_cash_transaction"), request)
    pages: list[Page] = []
    counts: list[RemoteCount] = []
    for item in extraction:
        if isinstance(item, Page):
            pages.append(item)
        elif isinstance(item, RemoteCount):
            counts.append(item)
    assert len(counts) == 1
    assert extraction.requested() == {"READ drops": len(request.targets)}
    return pages, counts[0].by_day


def keep(location: Path, data: bytes) -> str:
    content_hash = hashlib.sha256(data).hexdigest()
    path = location / kept_as(content_hash)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return content_hash


def records(location: Path, *files: bytes, **options: object) -> list[Record]:
    pages, _ = read(location, *files, **options)  # pyright: ignore[reportArgumentType]
    return [record for page in pages for record in page.records]


def payload(tmp_path: Path, cells: Sequence[str], **options: object) -> dict[str, object]:
    (record,) = records(tmp_path, as_csv([cells]), **options)
    assert record.payload is not None
    return record.payload


# Reading


def test_a_transaction(tmp_path: Path) -> None:
    data = as_csv([row("T1", description="Two\nlines", reference="INV-7"), row("T2", posted="", amount="1,000")])
    assert judged(data) == Accepted(2, date(2026, 8, 1), date(2026, 8, 3))
    first, second = records(tmp_path, data)
    assert (first.source_id, first.day, first.provenance) == ("T1", date(2026, 8, 3), 2)
    assert first.payload == {
        "transaction_id": "T1",
        "posted_on": "2026-08-03",
        "transacted_on": "2026-08-01",
        "amount_minor": -1250,
        "currency": "USD",
        "direction": "out",
        "status": "posted",
        "description": "Two\nlines",
        "counterparty": None,
        "type": None,
        "reference": "INV-7",
        "account": None,
        "row": dict(zip(HEADER, row("T1", description="Two\nlines", reference="INV-7"), strict=True)),
    }
    # A quoted line break makes the next record begin a line later; without a posting date the day is the other date.
    assert (second.source_id, second.day, second.provenance) == ("T2", date(2026, 8, 1), 4)
    assert second.payload is not None
    assert (second.payload["amount_minor"], second.payload["direction"]) == (100_000, "in")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_delimiters_and_the_byte_order_mark_make_no_difference(tmp_path: Path, delimiter: str, mark: bytes) -> None:
    rows = [row("T1", description="a;b,c\td"), row("T2")]
    expected = records(tmp_path, as_csv(rows))
    assert records(tmp_path, mark + as_csv(rows, delimiter=delimiter)) == expected


def test_line_endings_and_blank_rows(tmp_path: Path) -> None:
    data = as_csv([row("T1"), [""] * len(HEADER), row("T2")])
    for ending in (b"\r\n", b"\n", b"\r"):
        found = records(tmp_path, b"\r\n".join([b"", *data.splitlines(), b"", b""]).replace(b"\r\n", ending))
        assert [(record.source_id, record.provenance) for record in found] == [("T1", 3), ("T2", 5)]


def test_headers_are_known_by_their_words(tmp_path: Path) -> None:
    header = ("transaction_id", " DATE ", "Posted-Date", "Memo", "amount", "CURRENCY", "status", "ref")
    (record,) = records(tmp_path, as_csv([row("T1", reference="R")], header))
    assert record.payload is not None
    assert record.payload["reference"] == "R"
    assert record.payload["description"] == "Hosting"
    assert record.payload["row"]["transaction_id"] == "T1"


def test_a_header_alone_is_a_file_of_nothing(tmp_path: Path) -> None:
    assert judged(as_csv([])) == Accepted(0)
    assert read(tmp_path, as_csv([])) == ([], {})


def test_the_column_map_is_a_setting(tmp_path: Path) -> None:
    data = as_csv([["x", "08/05/2026", "5"]], ("Key", "When", "Netto"))
    assert {problem.code for problem in problems(data)} == {"missing_column"}
    columns = {"transaction_id": "Key", "posted_on": ["Gone", "When"], "amount": "Netto", "date_format": "%d/%m/%Y"}
    assert judged(data, {**columns, "default_currency": "JPY"}) == Accepted(1, date(2026, 5, 8), date(2026, 5, 8))
    (record,) = records(tmp_path, data, columns=Columns.read(json.dumps({**columns, "default_currency": "JPY"})))
    assert record.payload is not None
    assert (record.source_id, record.payload["amount_minor"], record.payload["currency"]) == ("x", 5, "JPY")


@pytest.mark.parametrize(
    "setting",
    ["{", '{"amuont": "Amount"}', '{"amount": 5}', '{"default_currency": "Dollar"}', '{"date_format": "%d/%m"}'],
)
def test_a_wrong_setting_is_not_the_files_fault(setting: str) -> None:
    with pytest.raises(SourceError) as caught:
        judge(as_csv([]), "a.csv", NEW_YORK, Credentials({COLUMNS_SETTING: setting}))
    assert caught.value.code == "setting_invalid"


# Amounts and dates


@pytest.mark.parametrize(
    ("text", "minor"),
    [
        ("12.50", 1250),
        ("+12.5", 1250),
        ("-12.50", -1250),
        ("\u221212.50", -1250),
        ("(12.50)", -1250),
        ("($1,234.50)", -123450),
        ("12.50-", -1250),
        ("-$1,234,567.89", -123456789),
        ("$-5", -500),
        (" 7 ", 700),
        ("0.00", 0),
    ],
)
def test_amounts(tmp_path: Path, text: str, minor: int) -> None:
    read_back = payload(tmp_path, row("T1", amount=text))
    assert read_back["amount_minor"] == minor
    assert read_back["direction"] == ("in" if minor > 0 else "out" if minor < 0 else "none")


@pytest.mark.parametrize(
    "text",
    ["", "x", "12,34.5O", "1,23", "12,5", "1.234,50", "1,2345", "--5", "-5-", "(-5)", "(5", "5)", "5.", ".5", "1e3",
     "1_000", "€5", "NaN", "٣", "9" * 30],
)  # fmt: skip
def test_what_is_no_amount_is_refused(text: str) -> None:
    assert only_problem(as_csv([row("T1"), row("T2", amount=text)])) == ("bad_amount", 3, "Amount")


def test_an_amount_is_never_rounded(tmp_path: Path) -> None:
    assert only_problem(as_csv([row("T1", amount="1.234")])) == ("amount_too_fine", 2, "Amount")
    assert only_problem(as_csv([row("T1", amount="1.0", currency="JPY")])) == ("amount_too_fine", 2, "Amount")
    assert payload(tmp_path, row("T1", amount="1.234", currency="kwd"))["amount_minor"] == 1234
    assert only_problem(as_csv([row("T1", amount="$1", currency="EUR")])) == ("bad_amount", 2, "Amount")


def test_a_comma_that_could_be_a_decimal_point_is_refused() -> None:
    data = as_csv([row("T1", amount="1,234")], delimiter=";")
    assert only_problem(data) == ("ambiguous_amount", 2, "Amount")
    assert isinstance(judged(as_csv([row("T1", amount="1,234.00")], delimiter=";")), Accepted)


@given(st.integers(-(10**14), 10**14))
def test_amounts_survive_thousands_separators(minor: int) -> None:
    assert parse_amount(f"{Decimal(minor).scaleb(-2):,.2f}", "USD") == Decimal(minor).scaleb(-2)


SPLIT = ("ID", "Date", "Debit", "Credit")


@pytest.mark.parametrize(
    ("debit", "credit", "minor"), [("5.00", "", -500), ("", "7.25", 725), ("0.00", "3", 300), ("2", "0", -200)]
)
def test_debit_and_credit(tmp_path: Path, debit: str, credit: str, minor: int) -> None:
    (record,) = records(tmp_path, as_csv([["T1", "2026-08-01", debit, credit]], SPLIT))
    assert record.payload is not None
    assert record.payload["amount_minor"] == minor


@pytest.mark.parametrize(("debit", "credit"), [("", ""), ("1", "2"), ("-1", ""), ("", "(2)")])
def test_debit_and_credit_that_do_not_say_which(debit: str, credit: str) -> None:
    (problem,) = problems(as_csv([["T1", "2026-08-01", debit, credit]], SPLIT))
    assert (problem.code, problem.row) == ("bad_amount", 2)
    assert problem.column in ("Debit", "Credit")


def test_a_direction_gives_the_sign(tmp_path: Path) -> None:
    header = ("ID", "Date", "Amount", "Direction")
    rows = [["T1", "2026-08-01", "5", "Debit"], ["T2", "2026-08-01", "5", "CREDIT"], ["T3", "2026-08-01", "-5", "out"]]
    found = records(tmp_path, as_csv(rows, header))
    assert [record.payload["amount_minor"] for record in found if record.payload] == [-500, 500, -500]
    for amount, direction in (("5", ""), ("5", "sideways"), ("-5", "credit")):
        data = as_csv([["T1", "2026-08-01", amount, direction]], header)
        assert only_problem(data) == ("bad_direction", 2, "Direction")


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2026-08-31", date(2026, 8, 31)),
        ("2026/08/31", date(2026, 8, 31)),
        ("08/31/2026", date(2026, 8, 31)),
        ("31.08.2026", date(2026, 8, 31)),
        ("8/8/2026", date(2026, 8, 8)),
        ("Aug 31, 2026", date(2026, 8, 31)),
        ("31 August 2026", date(2026, 8, 31)),
        ("31-Aug-2026", date(2026, 8, 31)),
        ("2026-08-31T23:59:59", date(2026, 8, 31)),
        ("2026-09-01T03:59:59Z", date(2026, 8, 31)),
        ("2026-09-01 04:00:00 +00:00", date(2026, 9, 1)),
        ("2026-08-31T23:30:00.123-0400", date(2026, 8, 31)),
    ],
)
def test_dates(text: str, day: date) -> None:
    assert parse_date(text, NEW_YORK) == day


@pytest.mark.parametrize(
    "text", ["2026-02-30", "31/31/2026", "8/31/26", "20260831", "46265", "soon", "2026-08-31T25:00"]
)
def test_what_is_no_date_is_refused(text: str) -> None:
    assert only_problem(as_csv([row("T1", posted=text)])) == ("bad_date", 2, "Posted Date")


def test_a_date_of_two_meanings_is_refused() -> None:
    (problem,) = problems(as_csv([row("T1", posted="03/04/2026")]))
    assert (problem.code, problem.row, problem.column, problem.value) == (
        "ambiguous_date", 2, "Posted Date", "03/04/2026",
    )  # fmt: skip
    american = {"date_format": "%m/%d/%Y"}
    assert parse_date("03/04/2026", NEW_YORK, "%m/%d/%Y") == date(2026, 3, 4)
    assert parse_date("03/04/2026", NEW_YORK, "%d/%m/%Y") == date(2026, 4, 3)
    # Where the setting says the format, no other is guessed.
    found = problems(as_csv([row("T1", begun="03/04/2026", posted="31/08/2026")]), american)
    assert [(problem.code, problem.column) for problem in found] == [("bad_date", "Posted Date")]


def test_days_have_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert only_problem(as_csv([row("T1", posted="2023-12-31")])) == ("day_too_early", 2, "Posted Date")
    today = datetime.now(NEW_YORK).date()
    tomorrow, later = today + timedelta(days=1), today + timedelta(days=2)
    assert isinstance(judged(as_csv([row("T1", posted=str(tomorrow))])), Accepted)
    assert only_problem(as_csv([row("T1", posted=str(later))])) == ("day_in_future", 2, "Posted Date")
    assert only_problem(as_csv([row("T1", begun="", posted="")])) == ("missing_date", 2, "Posted Date")


# Refusals


@pytest.mark.parametrize(
    ("data", "code", "line"),
    [
        (b"", "empty_file", None),
        (b"\xef\xbb\xbf \r\n\r\n", "empty_file", None),
        (as_csv([row("T1")]).decode().encode("utf-16"), "not_utf8", 1),
        (as_csv([row("T1")]).decode().encode("utf-16-le"), "not_text", 1),
        (as_csv([row("T1"), row("T2", description="Caf\xe9")]).decode().encode("latin-1"), "not_utf8", 3),
        (as_csv([row("T1"), row("T2", description="a\0b")]), "not_text", 3),
        (as_csv([row("T1")]) + b'T2,"open', "broken_csv", 3),
        (as_csv([row("T1")]) + b'"T2"x,1,1,1,1,1,1,1\r\n', "broken_csv", 3),
        (as_csv([row("T1"), ["x" * 200_000]]), "broken_csv", 3),
        (as_csv([row("T1"), row("T2")[:-1]]), "ragged_line", 3),
        (as_csv([row("T1"), [*row("T2"), "more"]]), "ragged_line", 3),
        (as_csv([row("T1")], (*HEADER[:-1], "amount ")), "duplicate_column", 1),
        (as_csv([row("T1")], (*HEADER[:-1], "")), "unnamed_column", 1),
        (as_csv([["T1", "5"]], ("ID", "Amount")), "missing_column", 1),
        (as_csv([["T1", "2026-08-01", "5"]], ("ID", "Date", "Debit")), "missing_column", 1),
        (as_csv([row("T1", currency="")]), "bad_currency", 2),
        (as_csv([row("T1", currency="dollars")]), "bad_currency", 2),
        (as_csv([row("T\n1")]), "bad_transaction_id", 2),
        (as_csv([row("T" * 201)]), "bad_transaction_id", 2),
        (as_csv([row("T1"), row("T2"), row("T1", amount="9")]), "transaction_id_twice", 4),
    ],
)
def test_one_bad_thing_refuses_the_file(data: bytes, code: str, line: int | None) -> None:
    (problem,) = problems(data)
    assert (problem.code, problem.row) == (code, line)


def test_wrong_bytes_are_named_by_their_position() -> None:
    for mark in (b"", b"\xef\xbb\xbf"):
        data = mark + as_csv([row("T1")]) + b"T2,\xff"
        (problem,) = problems(data)
        assert f"byte {len(data):,} of the file (0xff)" in problem.message
        assert problem.row == 3


def test_every_problem_is_listed_and_the_rest_counted() -> None:
    verdict = judged(as_csv([row(f"T{n}", posted="?", amount="?", currency="?") for n in range(60)]))
    assert isinstance(verdict, Quarantined)
    assert verdict.count == 120  # without a currency an amount is not judged
    assert len(verdict.problems) == 100
    assert [(problem.row, problem.column) for problem in verdict.problems[:3]] == [
        (2, "Posted Date"), (2, "Currency"), (3, "Posted Date"),
    ]  # fmt: skip


def test_only_dates_and_amounts_are_shown() -> None:
    secret = "canary@example.com"
    for data in (
        as_csv([[secret] * len(HEADER)]),
        as_csv([row("T1"), [secret]]),
        as_csv([[secret] * 3], (secret, secret, "x")),
        as_csv([row(secret), row(secret, amount="1")]),
        as_csv([row("T1")]) + f'"{secret}"{secret},'.encode(),
    ):
        for problem in problems(data):
            assert secret not in problem.message
            assert secret not in (problem.column or "")
            assert problem.value is None or problem.column in ("Date", "Posted Date", "Amount")


# Source IDs


def ids(location: Path, *files: bytes, **options: object) -> set[str]:
    return {record.source_id for record in records(location, *files, **options)}


def test_what_a_transaction_is_called(tmp_path: Path) -> None:
    with_id, with_reference, with_remark, with_nothing = records(
        tmp_path,
        as_csv([row("T1", reference="R-1"), row(reference="R-1"), row(reference="for Ann Lee"), row()]),
    )
    assert with_id.source_id == "T1"
    assert with_reference.source_id == "ref:R-1@2026-08-03"
    assert with_remark.source_id.startswith("row:")
    assert with_nothing.source_id.startswith("row:")
    assert with_remark.source_id != with_nothing.source_id


def test_twins_stay_two_and_one_transaction_stays_one(tmp_path: Path) -> None:
    twins = as_csv([row(), row(), row(reference="R"), row(reference="R"), row("T1"), row("T1")])
    assert judged(twins) == Accepted(5, date(2026, 8, 3), date(2026, 8, 3))
    found = ids(tmp_path, twins)
    assert len(found) == 5
    assert {"ref:R@2026-08-03", "ref:R@2026-08-03:2", "T1"} < found
    assert ids(tmp_path, twins, as_csv([row(), row()])) == found
    assert read(tmp_path, twins)[1] == {date(2026, 8, 3): 5}


def test_a_reference_that_recurs_names_another_transaction(tmp_path: Path) -> None:
    monthly = [row(reference="RENT", posted=f"2026-0{month}-01") for month in (6, 7, 8)]
    assert ids(tmp_path, *(as_csv([month]) for month in monthly)) == {
        "ref:RENT@2026-06-01", "ref:RENT@2026-07-01", "ref:RENT@2026-08-01",
    }  # fmt: skip


def test_rows_under_one_reference_are_the_same_in_any_order(tmp_path: Path) -> None:
    rows = [row(reference="PAYROLL", amount=f"-{n}") for n in range(1, 5)]
    seen = {
        tuple(sorted((record.source_id, record.payload["amount_minor"]) for record in records(tmp_path, as_csv(order))
                     if record.payload))
        for order in itertools.permutations(rows)
    }  # fmt: skip
    assert len(seen) == 1


def test_pending_becomes_posted(tmp_path: Path) -> None:
    before, after = records(
        tmp_path,
        as_csv([row("T1", posted="", status="Pending")]),
        as_csv([row("T1", posted="2026-08-04", status="S")]),
    )
    assert before.source_id == after.source_id
    assert (before.day, after.day) == (date(2026, 8, 1), date(2026, 8, 4))
    assert before.payload is not None
    assert after.payload is not None
    assert (before.payload["status"], after.payload["status"]) == ("pending", "posted")
    # Without an ID and without another day, only the status tells them apart: they are one transaction, too.
    assert len(ids(tmp_path, as_csv([row(status="Pending")]), as_csv([row(status="Settled")]))) == 1


transactions = st.lists(
    st.builds(
        lambda number, day, amount, reference: row(
            f"T{number}" if number % 3 else "", f"2026-08-{day:02}", f"{amount}.00", reference=reference
        ),
        st.integers(0, 10**6),
        st.integers(1, 9),
        st.integers(1, 3),
        st.sampled_from(["", "", "R1", "R2", "a remark"]),
    ),
    max_size=25,
    unique_by=lambda cells: cells[0] or object(),
)


@given(transactions, st.data())
def test_overlapping_exports_have_the_same_records_as_one(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], data: st.DataObject
) -> None:
    location = tmp_path_factory.mktemp("drops")
    # Ranges of whole days that cover all of them, overlapping or not, each file's rows in an order of its own.
    cuts = sorted(data.draw(st.sets(st.integers(2, 9))))
    starts, ends = [1, *cuts], [*(cut - 1 for cut in cuts), 9]
    files: list[bytes] = []
    for start, end in zip(starts, ends, strict=True):
        first = max(1, start - data.draw(st.integers(0, 3)))
        last = min(9, end + data.draw(st.integers(0, 3)))
        inside = [cells for cells in rows if first <= int(cells[2][-2:]) <= last]
        files.append(as_csv(data.draw(st.permutations(inside))))
    files = data.draw(st.permutations(files))
    whole = {record.source_id: record for record in records(location, as_csv(rows))}
    assert len(whole) == len(rows)
    parts = {record.source_id: record for record in records(location, *files)}
    assert set(parts) == set(whole)
    assert all(
        (parts[source_id].day, parts[source_id].payload) == (record.day, record.payload)
        for source_id, record in whole.items()
    )


# Extraction


def test_only_the_days_that_were_asked_for(tmp_path: Path) -> None:
    data = as_csv([row(f"T{n}", posted=f"2026-08-{n:02}") for n in range(1, 10)])
    pages, counts = read(tmp_path, data, days=Days(date(2026, 8, 4), date(2026, 8, 5)))
    assert [record.source_id for page in pages for record in page.records] == ["T4", "T5"]
    assert counts == {date(2026, 8, 4): 1, date(2026, 8, 5): 1}


def test_pages_are_of_a_thousand_and_name_their_drop(tmp_path: Path) -> None:
    data = as_csv([row(f"T{n}") for n in range(2_001)])
    pages, counts = read(tmp_path, data, data)
    assert [len(page.records) for page in pages] == [1_000, 1_000, 1] * 2
    assert {page.requested_at for page in pages} == {NOW}
    assert {json.dumps(page.provenance) for page in pages} == {json.dumps({"drop": keep(tmp_path, data)})}
    assert counts == {date(2026, 8, 3): 4_002}


def test_a_target_says_what_the_file_was_called_and_when_it_came(tmp_path: Path) -> None:
    received = datetime(2026, 8, 20, 7, 30, 15, 123456, tzinfo=UTC)
    target = Target(keep(tmp_path, as_csv([row("T1")])), "august.csv", received)
    ((page,), _) = read(tmp_path, targets=[json.dumps({
        "drop": target.drop, "file_name": "august.csv", "received_at": received.isoformat(),
    })])  # fmt: skip
    assert page.requested_at == received
    assert page.provenance == {"drop": target.drop, "file_name": "august.csv"}


def test_drops_that_cannot_be_read(tmp_path: Path) -> None:
    content_hash = keep(tmp_path, as_csv([row("T1")]))
    kept = tmp_path / kept_as(content_hash)
    with pytest.raises(SourceError) as caught:
        read(tmp_path, targets=[content_hash], columns=Columns(amount="Net"))
    assert caught.value.code == "drop_not_readable"
    kept.write_bytes(b"something else")
    with pytest.raises(SourceError) as caught:
        read(tmp_path, targets=[content_hash])
    assert caught.value.code == "kept_drop_altered"
    kept.unlink()
    with pytest.raises(SourceError) as caught:
        read(tmp_path, targets=[content_hash])
    assert caught.value.code == "kept_drop_missing"
    for text in ("../../etc/passwd", "{}", '{"drop": "x"}'):
        with pytest.raises(SourceError) as caught:
            read(tmp_path, targets=[text])
        assert caught.value.code == "bad_target"


def test_the_reader_is_opened_with_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINANCE_OS_DROPS", str(tmp_path))
    settings_module.settings.cache_clear()
    with RHO.open(Credentials({COLUMNS_SETTING: '{"amount": "Net"}'})) as reader:
        assert reader.location == str(tmp_path)
        assert reader.columns.headers("amount") == ("Net",)


@given(st.binary(max_size=200) | st.text(alphabet='ab1;,\t"\n\r0', max_size=200).map(str.encode))
def test_any_bytes_are_judged(data: bytes) -> None:
    for content in (data, as_csv([row("T1")]) + data):
        assert isinstance(judged(content), (Accepted, Quarantined))
