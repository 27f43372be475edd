"""Memory: what a run of many records adds to the peak of an empty one, each measured in a process of its own."""

import subprocess
import sys
from pathlib import Path

from finance_os.evidence.businesses import ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os_tests.benchmarks.figures import Figure
from finance_os_tests.benchmarks.staging import empty, records, stage_pages


def peak_of_runs(database: Database, counts: list[int]) -> list[Figure]:
    """Added peak memory of a run of each of `counts` records."""
    baseline = _peak(database, 0)
    return [
        Figure(f"memory added by a run of {count:,}", (_peak(database, count) - baseline) / 1024, "MB", at_most=100)
        for count in counts
    ]


def _peak(database: Database, count: int) -> int:
    """Peak resident memory in kB of a process that stages `count` records."""
    empty(database)
    command = [sys.executable, "-W", "ignore", "-m", "finance_os_tests.benchmarks.memory", database.url, str(count)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(answer.stdout)


def main() -> None:
    """Stage as many records as asked for, made as they are needed, and print the peak in kB."""
    database = Database(sys.argv[1])
    ensure_business(database, "bench", "Bench", "UTC")
    connection = ensure_connection(database, "bench", "stripe")
    stage_pages(database, connection, records(range(int(sys.argv[2])), 160))
    # Not getrusage's ru_maxrss: that begins with what the parent held when it forked.
    status = Path("/proc/self/status").read_text()
    sys.stdout.write(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


if __name__ == "__main__":
    main()
