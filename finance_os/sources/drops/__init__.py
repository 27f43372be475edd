"""Drops: files that are handed in, found once they have settled, kept by their content, judged, and cleared away.

Each connection has an inbox of its own in the drop location, which is a folder or an `s3://bucket/prefix`:

    main/rho/                     of business "main" at "rho", account "default"
    main/rho/quarantined/         what was refused, each file with a report beside it
    main/rho@savings/             of another account
    .kept/4f/4f53cda18c2b…        every file that was ever read, named by the SHA-256 of its bytes

`take` keeps a copy, records the verdict in `finance_os.drops`, and only then clears the inbox. Wherever it stops,
taking the file again ends in the same state: a drop is known by its bytes, and nothing is removed that has changed
since it was read.
"""

from finance_os.sources.drops.inbox import (
    MAX_BYTES,
    DropFile,
    Ignored,
    Inbox,
    Observations,
    inbox_name,
    is_settled,
    look,
    observe,
    prepare_inbox,
)
from finance_os.sources.drops.intake import Outcome, Taken, take
from finance_os.sources.drops.kept import kept_as, read_kept
from finance_os.sources.drops.records import Drop, Target, Verdict, accepted_drops
from finance_os.sources.drops.stores import Stamp
from finance_os.sources.drops.verdicts import MAX_PROBLEMS, Accepted, Judge, Judged, Problem, Quarantined

__all__ = [
    "MAX_BYTES",
    "MAX_PROBLEMS",
    "Accepted",
    "Drop",
    "DropFile",
    "Ignored",
    "Inbox",
    "Judge",
    "Judged",
    "Observations",
    "Outcome",
    "Problem",
    "Quarantined",
    "Stamp",
    "Taken",
    "Target",
    "Verdict",
    "accepted_drops",
    "inbox_name",
    "is_settled",
    "kept_as",
    "look",
    "observe",
    "prepare_inbox",
    "read_kept",
    "take",
]
