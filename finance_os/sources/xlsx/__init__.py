"""XLSX: the publisher economics of past months, from the workbooks that finance keeps and drops.

What is read: every visible sheet with a header of a publisher, a month (or a sheet that is named after one) and an
amount; `columns` has the headers that are known, and FINANCE_OS_XLSX_COLUMNS replaces them. A workbook is read as a
whole or refused as a whole: whatever could be meant in two ways is refused with the sheet, the row and the column.

A workbook belongs to the day on which it was accepted, and is the truth from then on for the months and publishers
that it names. What only earlier workbooks name stays as it is, as a workbook of April says nothing of March: a row
that is to be withdrawn is handed in once more with its amounts left empty. The same bytes are never read twice, so to
go back to an earlier workbook save it again, and drop that."""

from datetime import timedelta

from finance_os.sources.guard import Take
from finance_os.sources.source import Cadence, Column, EvidenceSource, Reads, Source, SourceObject
from finance_os.sources.xlsx.columns import COLUMNS_SETTING
from finance_os.sources.xlsx.reading import extract, judge, open_reader

XLSX = Source(
    system="xlsx",
    title="XLSX publisher baseline",
    order=None,
    description="Import Finance spreadsheet rows as a historical benchmark for Phase 5 variance/backtest review. "
    "Backtest benchmark only: Spreadsheet rows explain historical variance but do not replace event-level spend.",
    cadence=Cadence.MANUAL,
    sla=timedelta(days=30),
    credentials=(),
    options=(COLUMNS_SETTING,),
    # What cannot be read is taken too, so that it is refused with a report instead of lying there.
    reads=(Take("*.xlsx"), Take("*.xlsm"), Take("*.xls"), Take("*.xlsb")),
    read_scope="Workbooks that an operator hands in.",
    cursor_strategy="Operator-provided workbook with source filename, sheet and row number for replayable benchmarks.",
    evidence_policy="Store period and publisher key, raw amount text, source file name, sheet, row number, and payload "
    "hash.",
    objects=(
        SourceObject(
            "publisher_month_baseline",
            description="What finance's spreadsheet says that a publisher earned, was paid and had on deposit in a "
            "month. Backtest benchmark only: Spreadsheet rows explain historical variance but do not replace "
            "event-level spend.",
            detail=None,
            label="publisher_month_baseline",
            reads=Reads.DROP,
            dated_by_drop=True,
            columns=(
                Column("period", "text", "Month, as 2026-03"),
                Column("publisher_key", "text", "The publisher's ID in small letters, else a hash of its name"),
                Column("publisher_id", "text", "The publisher's ID, as the workbook has it"),
                Column("publisher", "text", "The publisher's name, as the workbook has it"),
                Column("baseline_accrual_microdollars", "integer", "Millionths of a US dollar"),
                Column("baseline_cash_microdollars", "integer", "Millionths of a US dollar"),
                Column("baseline_deposit_microdollars", "integer", "Millionths of a US dollar"),
                Column("raw", "object", "The texts of the amount cells in the file, by header"),
                Column("sheet", "text", "Name of the sheet"),
                Column("row", "integer", "Number of the row on the sheet"),
                Column("occurrence", "integer", "Which of the workbook's rows of this month and publisher it is"),
                Column("occurrences", "integer", "How many rows of them the workbook has: more than one is wrong"),
                Column("duplicate_as_of", "text", "When the workbook came in, where it has more than one"),
                Column("total_off_as_of", "text", "When the workbook came in, where a total over the row is wrong"),
            ),
            shown=(
                "period",
                "publisher_key",
                "baseline_accrual_microdollars",
                "baseline_cash_microdollars",
                "baseline_deposit_microdollars",
                "row",
                "occurrences",
            ),
        ),
    ),
    open=open_reader,
    extract=extract,
    judge=judge,
    kinds=("excel",),
    evidence=(
        EvidenceSource("publisher_month_baseline", "XLSX publisher baseline", ("publisher_month_baseline",), 10),
    ),
)
