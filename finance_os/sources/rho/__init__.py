"""Rho: cash transactions, from the CSV files that an operator exports and drops.

No public document gives the header of these files (the help centre names the columns of a page, and says that an
export's columns are chosen: https://help.rho.co/hc/en-us/articles/7553101698075-Understanding-Transaction-Tables).
So the names in `Columns` are assumed. FINANCE_OS_RHO_COLUMNS replaces them, field by field:

    {"amount": "Net Amount", "posted_on": ["Settled", "Closed On"], "date_format": "%m/%d/%Y"}

A file is read as a whole or refused as a whole: whatever could be meant in two ways is refused with the row and the
column. Files must hold whole days; what two exports both hold is then the same records under the same source IDs,
whatever the order of rows or of files. A row without a transaction ID is named by its day, so one that is exported
while it is pending and again on another day, posted, is two: export the transaction ID, or posted rows only.
"""

from datetime import timedelta

from finance_os.sources.guard import Take
from finance_os.sources.rho.columns import COLUMNS_SETTING
from finance_os.sources.rho.reading import extract, judge, open_reader
from finance_os.sources.source import Cadence, Column, EvidenceSource, Reads, Source, SourceObject

RHO = Source(
    system="rho",
    title="Rho CSV",
    order=5,
    description="Cash transactions of the company's bank, from CSV exports that an operator drops.",
    cadence=Cadence.MANUAL,
    sla=timedelta(days=7),
    credentials=(),
    options=(COLUMNS_SETTING,),
    reads=(Take("*.csv"),),
    cursor_strategy="Operator-provided CSV import with source filename and row number for replayable fallback.",
    evidence_policy="Store transaction ID/reference or row hash, source file name, row number, "
    "posting/settlement date, and payload hash.",
    objects=(
        SourceObject(
            "rho_cash_transaction",
            description="One movement of cash on a Rho account, on the day it was posted (until then: begun).",
            detail=None,
            label="rho_cash_transaction",
            reads=Reads.DROP,
            columns=(
                Column("transaction_id", "text", "Rho's ID, where the export has one"),
                Column("posted_on", "date", "Settlement or posting date"),
                Column("transacted_on", "date", "Date of the transaction"),
                Column("amount_minor", "integer", "Signed minor units of the currency; money that came in is positive"),
                Column("currency", "text", "ISO 4217 code"),
                Column("direction", "text", "in, out or none"),
                Column("status", "text", "posted, pending, cancelled or other"),
                Column("type", "text", "How it was paid, as the file has it"),
                Column("reference", "text", "Reference, as the file has it"),
                Column("description", "text", "Free text"),
                Column("counterparty", "text", "Who paid or was paid"),
                Column("account", "text", "Account, as the file has it"),
                Column("row", "object", "The row as it was read: text by header"),
            ),
            shown=("transaction_id", "posted_on", "transacted_on", "amount_minor", "currency", "direction", "status"),
        ),
    ),
    open=open_reader,
    extract=extract,
    judge=judge,
    kinds=("csv",),
    evidence=(EvidenceSource("rho_cash_transaction", "Rho CSV", ("rho_cash_transaction",), 9),),
    read_scope="CSV files that an operator hands in.",
)
