"""Files that are no workbook, or are made to do harm: refused before they cost anything, and clearly."""

import base64
import io
import json
import re
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finance_os.sandbox import baseline as sandbox
from finance_os.sources.xlsx import archive as archive_module
from finance_os.sources.xlsx.baseline import read_baseline
from finance_os.sources.xlsx.columns import Columns
from finance_os.sources.xlsx.problems import Problems
from finance_os_tests.sources.test_xlsx import (
    ACORN,
    FULL,
    HEADER,
    MAIN,
    Raw,
    archive,
    baseline,
    book,
    brief,
    number,
    only_problem,
    parts,
    problems,
    raw_book,
    sheet_xml,
)  # fmt: skip

SHEET = "xl/worksheets/sheet1.xml"
GOOD = parts(("Baseline", sheet_xml([HEADER, FULL])))


def of(**changed: bytes) -> bytes:
    """The good workbook with other parts: `sheet`, `workbook`, `styles`, `types` or `rels`."""
    names = {
        "sheet": SHEET, "workbook": "xl/workbook.xml", "styles": "xl/styles.xml", "types": "[Content_Types].xml",
        "rels": "xl/_rels/workbook.xml.rels",
    }  # fmt: skip
    return archive({**GOOD, **{names[name]: content for name, content in changed.items()}})


def code(data: bytes) -> str:
    """The code of the one problem, which is the whole file's and says what to do."""
    (problem,) = problems(data)
    assert (problem.row, problem.column, problem.value) == (None, None, None)
    assert ": " in problem.message
    return problem.code


def entry_of(data: bytes, name: str) -> int:
    """Where the directory's entry of a part begins."""
    at = -1
    while True:
        at = data.index(b"PK\x01\x02", at + 1)
        length = int.from_bytes(data[at + 28 : at + 30], "little")
        if data[at + 46 : at + 46 + length] == name.encode():
            return at


def patched(data: bytes, name: str, offset: int, value: int, size: int = 4) -> bytes:
    """The archive with a field of one directory entry changed."""
    at = entry_of(data, name) + offset
    return data[:at] + value.to_bytes(size, "little") + data[at + size :]


def padded(padding: bytes) -> bytes:
    """The good sheet with a comment in it."""
    return GOOD[SHEET].replace(b"</sheetData>", b"</sheetData><!--" + padding + b"-->", 1)


NOISE = base64.b64encode(Random(1).randbytes(3_000_000))


def test_the_good_one_is_read() -> None:
    assert brief(archive(GOOD)) == [ACORN]
    assert brief(archive(GOOD, zipfile.ZIP_STORED)) == [ACORN]


# Other formats


def test_what_is_no_workbook() -> None:
    assert code(b"") == "empty_file"
    for data in (b"Period,Publisher\n2026-03,pub_1\n", b"<html><table></table></html>", b"%PDF-1.7", b"\0" * 100):
        assert code(data) == "not_a_workbook"
    assert code(archive({"word/document.xml": b"<x/>"})) == "not_a_workbook"


def test_old_encrypted_and_binary_workbooks() -> None:
    (row,) = [sandbox.Economics(sandbox.date(2026, 3, 1), "pub_1", "A", 1, 2, 3)]
    assert code(sandbox.render([row], fault="encrypted")) == "encrypted"
    assert code(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1_000)) == "old_format"
    assert code(archive({"[Content_Types].xml": GOOD["[Content_Types].xml"], "xl/workbook.bin": b"x"})) == (
        "binary_workbook"
    )
    strict = GOOD["xl/workbook.xml"].replace(MAIN.encode(), b"http://purl.oclc.org/ooxml/spreadsheetml/main")
    assert code(of(workbook=strict)) == "strict_workbook"
    flagged = patched(archive(GOOD), SHEET, 8, 1, 2)
    assert code(flagged) == "encrypted"


def test_macros_are_neither_read_nor_run_and_it_is_said() -> None:
    types = GOOD["[Content_Types].xml"].replace(
        b"spreadsheetml.sheet.main+xml", b"SHEET", 1
    ).replace(
        b"application/vnd.openxmlformats-officedocument.SHEET", b"application/vnd.ms-excel.sheet.macroEnabled.main+xml"
    ).replace(
        b"</Types>",
        b'<Override PartName="/xl/vbaProject.bin" ContentType="application/vnd.ms-office.vbaProject"/></Types>',
    )  # fmt: skip
    data = archive({**GOOD, "[Content_Types].xml": types, "xl/vbaProject.bin": b"not a macro at all"})
    assert brief(data) == [ACORN]
    assert baseline(data).notices == ["The workbook has macros; they were neither read nor run."]


def test_links_to_other_workbooks_are_not_followed() -> None:
    rels = GOOD["xl/_rels/workbook.xml.rels"].replace(
        b"</Relationships>",
        b'<Relationship Id="rId9" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/'
        b'externalLink" Target="file:///etc/passwd" TargetMode="External"/></Relationships>',
    )
    workbook = GOOD["xl/workbook.xml"].replace(
        b"</sheets>", b'</sheets><externalReferences><externalReference r:id="rId9"/></externalReferences>'
    )
    assert brief(of(rels=rels, workbook=workbook)) == [ACORN]
    worksheet = rels.replace(b"externalLink", b"worksheet").replace(b"rId9", b"rId1", 1)
    assert code(of(rels=re.sub(rb'<Relationship Id="rId1".*?/>', b"", worksheet, count=1))) == "broken_workbook"


# Damage


def test_damaged_files() -> None:
    data = archive(GOOD)
    for broken in (data[:-30], data[: len(data) // 2], data[:4], data[:1_000] + b"\xff" * 200 + data[1_200:]):
        assert code(broken) == "broken_archive"
    assert code(of(sheet=GOOD[SHEET][:-20])) == "broken_workbook"
    assert code(of(workbook=b"<workbook/>")) == "broken_workbook"
    assert code(of(workbook=b"no xml")) == "broken_workbook"
    assert code(archive({name: content for name, content in GOOD.items() if name != SHEET})) == "broken_workbook"
    assert code(archive({name: content for name, content in GOOD.items() if "rels" not in name})) == "broken_workbook"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'r="A2"', b'r="A0"'),
        (b'r="A2"', b'r="ZZZZ2"'),
        (b'r="A2"', b'r="A9999999"'),
        (b'<row r="2">', b'<row r="-1">'),
        (b'<row r="2">', b'<row r="1048577">'),
        (b"</sheetData>", b'</sheetData><mergeCells><mergeCell ref="A1:"/><mergeCell ref="?"/></mergeCells>'),
        (b'<c r="D2">', b'<c r="D2" s="x">'),
        (b'<c r="D2"><v>1234.5', b'<c r="D2" t="s"><v>7'),
        (b"2026-03", b"2" * 40_000),
    ],
)
def test_sheets_that_excel_would_not_write(old: bytes, new: bytes) -> None:
    assert old in GOOD[SHEET]
    assert code(of(sheet=GOOD[SHEET].replace(old, new, 1))) == "broken_workbook"


@given(st.data())
def test_a_file_that_was_changed_anywhere_is_read_or_refused(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(GOOD)))
    content = bytearray(GOOD[name])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    _read_or_refused(archive({**GOOD, name: bytes(content)}))


@given(st.data())
def test_an_archive_that_was_changed_anywhere_is_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(archive(GOOD))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    _read_or_refused(bytes(content))


def _read_or_refused(data: bytes) -> None:
    found = Problems()
    read_baseline(data, Columns(), found)
    assert all(": " in problem.message for problem in found.listed)


# Bombs


def test_a_part_that_inflates_too_well() -> None:
    assert code(of(sheet=padded(b" " * 3_000_000))) == "archive_bomb"
    assert brief(of(sheet=padded(b" " * 500_000))) == [ACORN]


def test_sizes_that_are_lies() -> None:
    bomb = of(sheet=padded(b" " * 3_000_000))
    large = of(sheet=padded(NOISE))
    assert brief(large) == [ACORN]
    for data in (bomb, large):
        for size in (len(GOOD[SHEET]), 0, 1_000_000):
            assert code(patched(data, SHEET, 24, size)) == "archive_bomb"
    assert code(patched(archive(GOOD), SHEET, 24, 3_000_000)) == "archive_bomb"
    assert code(patched(archive(GOOD), SHEET, 24, len(GOOD[SHEET]) + 1)) == "archive_bomb"
    assert code(patched(archive(GOOD), SHEET, 20, 4_000_000)) == "archive_bomb"


def test_more_than_is_borne(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "MAX_INFLATED", 2_000_000)
    large = of(sheet=padded(NOISE))
    assert code(large) == "archive_too_large"
    assert code(patched(large, SHEET, 24, 1_000)) == "archive_too_large"
    assert brief(archive(GOOD)) == [ACORN]


def test_many_parts() -> None:
    assert brief(archive({**GOOD, **{f"xl/media/{n}.png": b"" for n in range(1_900)}})) == [ACORN]
    assert code(archive({**GOOD, **{f"xl/media/{n}.png": b"" for n in range(2_000)}})) == "archive_bomb"


def test_parts_that_share_their_bytes() -> None:
    """Many directory entries of one and the same compressed part: https://www.bamsoftware.com/hacks/zipbomb/"""
    data = archive({**GOOD, "xl/media/a.bin": NOISE})
    at = entry_of(data, "xl/media/a.bin")
    end = data.rindex(b"PK\x05\x06")
    entry = data[at : at + 46 + len("xl/media/a.bin")]
    copies = b"".join(entry[:46] + b"xl/media/%c.bin" % letter for letter in b"bcdefgh")
    directory = data[: at + len(entry)] + copies + data[at + len(entry) : end]
    count = int.from_bytes(data[end + 10 : end + 12], "little") + 7
    size = int.from_bytes(data[end + 12 : end + 16], "little") + len(copies)
    tail = data[end : end + 8] + count.to_bytes(2, "little") * 2 + size.to_bytes(4, "little") + data[end + 16 :]
    assert code(directory + tail) in ("archive_bomb", "broken_archive")


def test_two_parts_of_one_name(recwarn: pytest.WarningsRecorder) -> None:
    buffer = io.BytesIO(archive(GOOD))
    with zipfile.ZipFile(buffer, "a") as file:
        file.writestr(SHEET, GOOD[SHEET])
    assert code(buffer.getvalue()) == "broken_archive"


def test_compression_that_excel_does_not_use() -> None:
    for compression in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        assert code(archive(GOOD, compression)) == "broken_archive"


LAUGHS = b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'


@pytest.mark.parametrize("name", ["sheet", "workbook", "styles", "types", "rels"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused_in_every_part_that_is_read(name: str, encoding: str) -> None:
    plain = {"sheet": SHEET, "workbook": "xl/workbook.xml", "styles": "xl/styles.xml", "types": "[Content_Types].xml",
             "rels": "xl/_rels/workbook.xml.rels"}[name]  # fmt: skip
    for doctype in (LAUGHS, b'<!DOCTYPE x SYSTEM "file:///etc/passwd">', b"<!DOCTYPE x>"):
        assert code(of(**{name: (doctype + GOOD[plain]).decode().encode(encoding)})) == "xml_entities"
    assert brief(of(**{name: GOOD[plain].decode().encode(encoding)})) == [ACORN]


def test_entities_in_shared_texts() -> None:
    strings = f'<sst xmlns="{MAIN}"><si><t>Period</t></si></sst>'
    data = parts(("x", sheet_xml([HEADER, FULL])), strings=LAUGHS.decode() + strings)
    assert code(archive(data)) == "xml_entities"


def test_a_tree_that_is_too_large_or_too_deep(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = b"<a>" * 20_000 + b"</a>" * 20_000
    for name, plain in (("workbook", "xl/workbook.xml"), ("styles", "xl/styles.xml"), ("sheet", SHEET)):
        end = GOOD[plain].rindex(b"</")
        _read_or_refused(of(**{name: GOOD[plain][:end] + deep + GOOD[plain][end:]}))
    monkeypatch.setattr("finance_os.sources.xlsx.workbook.MAX_TREE", 100)
    assert code(archive(GOOD)) == "workbook_too_complex"


# What it costs, measured where memory has a limit

MEASURE = """
    import json, re, resource, sys, time
    limit = 700 * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    from zoneinfo import ZoneInfo
    from finance_os.sources.credentials import Credentials
    from finance_os.sources.xlsx.reading import judge
    results = []
    for path in sys.argv[1:]:
        data = open(path, "rb").read()
        started = time.process_time()
        verdict = judge(data, "x.xlsx", ZoneInfo("UTC"), Credentials({}))
        seconds = time.process_time() - started
        status = open("/proc/self/status").read()  # unlike ru_maxrss, not that of the process which began this one
        peak = int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) // 1024
        code = verdict.problems[0].code if hasattr(verdict, "problems") else f"accepted {verdict.rows}"
        results.append([code, seconds, peak])
    print(json.dumps(results))
"""


def measured(folder: Path, files: Sequence[bytes]) -> list[tuple[str, float, int]]:
    """Code, seconds of processor time and megabytes at most (of the process so far), of each file."""
    paths: list[str] = []
    for number_, data in enumerate(files):
        path = folder / f"{number_}.xlsx"
        path.write_bytes(data)
        paths.append(str(path))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEASURE), *paths], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return [tuple(result) for result in json.loads(done.stdout)]


def test_bombs_cost_nearly_nothing(tmp_path: Path) -> None:
    rows = [sandbox.Economics(sandbox.date(2026, 3, 1), "pub_1", "A", 1, 2, 3)]
    bomb = sandbox.render(rows, fault="bomb")
    assert len(bomb) < 200_000
    lying = patched(bomb, SHEET, 24, 1_000)
    bombs = [bomb, lying, sandbox.render(rows, fault="entity_bomb"), archive({f"{n}": b"" for n in range(60_000)})]
    found = measured(tmp_path, bombs)
    assert [result[0] for result in found] == ["archive_bomb", "archive_bomb", "xml_entities", "archive_bomb"]
    for _, seconds, megabytes in found:
        assert seconds < 1
        assert megabytes < 200


def test_a_sheet_that_claims_a_million_rows_of_nothing_is_quick(tmp_path: Path) -> None:
    claim = b'<dimension ref="A1:XFD1048576"/><sheetFormatPr defaultRowHeight="15"/>'
    claiming = GOOD[SHEET].replace(b"<sheetData>", claim + b"<sheetData>")
    far = claiming.replace(b"</sheetData>", b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData>')
    merged = far.replace(b"</sheetData>", b'</sheetData><mergeCells><mergeCell ref="A3:F1048576"/></mergeCells>')
    texts = sheet_xml([*[[f"note {column}" for column in range(26)]] * 59, HEADER, FULL])
    areas = "".join(f'<mergeCell ref="AA1:IV{60 + n % 1_000}"/>' for n in range(19_000))
    crowded = texts.replace("</sheetData>", f"</sheetData><mergeCells>{areas}</mergeCells>").encode()
    files = [of(sheet=claiming), of(sheet=far), of(sheet=merged), of(sheet=crowded)]
    for result, seconds, megabytes in measured(tmp_path, files):
        assert result == "accepted 1"
        assert seconds < 1
        assert megabytes < 200


# What it does not do

WATCH = """
    import os, sys
    seen = []
    FORBIDDEN = ("socket.", "subprocess.", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink",
                 "os.truncate", "os.chmod", "os.system", "os.exec", "os.posix_spawn", "os.fork", "shutil.", "tempfile.")
    def hook(event, arguments):
        if event == "open":
            path, mode, flags = arguments
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
                seen.append((event, str(path)))
        elif event.startswith(FORBIDDEN):
            seen.append((event, ""))
    sys.dont_write_bytecode = True
    from datetime import UTC, date, datetime
    from zoneinfo import ZoneInfo
    from finance_os.evidence.extraction import Kind, Request
    from finance_os.evidence.windows import Days, window_of
    from finance_os.sources.credentials import Credentials
    from finance_os.sources.xlsx import XLSX
    from finance_os.sources.xlsx.columns import Columns
    from finance_os.sources.xlsx.reading import XlsxReader
    location, *hashes = sys.argv[1:]
    class Nothing:
        def ids_between(self, *_): return []
        def ids_read_since(self, *_): return []
    zone, days = ZoneInfo("UTC"), Days(date(2026, 9, 1), date(2026, 9, 1))
    request = Request(Kind.DROP, days, window_of(days, zone), zone, lambda: datetime(2026, 9, 1, tzinfo=UTC), Nothing(),
                      targets=tuple(hashes))
    sys.addaudithook(hook)
    for content_hash in hashes:
        data = XlsxReader(location, Columns()).drop(content_hash)
        XLSX.judge(data, "x.xlsx", zone, Credentials({}))
    items = list(XLSX.extract(XlsxReader(location, Columns()), XLSX.objects[0], request))
    print(len(items), seen)
"""


def test_nothing_is_written_or_called_while_a_workbook_is_read(tmp_path: Path) -> None:
    from finance_os_tests.sources.test_rho import keep

    strings = f'<sst xmlns="{MAIN}"><si><t>pub_9</t></si></sst>'
    shared = Raw('t="s"', "<v>0</v>")
    with_strings = archive(parts(("x", sheet_xml([HEADER, ["2026-03", shared, "A", 1]])), strings=strings))
    hashes = [keep(tmp_path, data) for data in (book(FULL), with_strings)]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WATCH), str(tmp_path), *hashes],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["3", "[]"]


# Texts


def test_shared_texts_with_formatting_and_pronunciation() -> None:
    strings = (
        f'<sst xmlns="{MAIN}"><si><t>2026-03</t></si><si><r><rPr><b/></rPr><t>pub</t></r><r><t xml:space="preserve">_1'
        '</t></r><rPh sb="0" eb="1"><t>pronounced</t></rPh></si><si/></sst>'
    )
    cells = [Raw('t="s"', f"<v>{n}</v>") for n in range(3)]
    data = archive(parts(("x", sheet_xml([HEADER, [*cells, number("1")]])), strings=strings))
    assert brief(data)[0][:2] == ("2026-03", "pub_1")


def test_values_of_formulas() -> None:
    formula = "<f>SUM(A1:A9)</f>"
    with_value = Raw("", f"{formula}<v>12.5</v>")
    without = Raw("", f"{formula}<v></v>")
    blank = Raw('t="str"', f"{formula}<v></v>")
    assert brief(raw_book(["2026-03", "pub_1", "A", with_value, blank]))[0][2] == {
        "accrual": 12_500_000, "cash": None, "deposit": None,
    }  # fmt: skip
    for broken in (without, Raw("", formula), Raw("", '<f t="shared" si="0"/>')):
        assert only_problem(raw_book(["2026-03", "pub_1", "A", broken])) == (
            "formula_without_value", 2, "baseline_accrual",
        )  # fmt: skip
    error = Raw('t="e"', f"{formula}<v>#REF!</v>")
    assert only_problem(raw_book(["2026-03", "pub_1", "A", 1, error])) == ("error_value", 2, "baseline_cash")


def test_cells_and_rows_without_their_references() -> None:
    plain = re.sub(rb' r="[A-Z]*[0-9]+"', b"", GOOD[SHEET])
    assert b' r="' not in plain
    assert brief(of(sheet=plain)) == [ACORN]
