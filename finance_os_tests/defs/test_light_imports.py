"""What every process that Dagster starts imports: none of the vendors' SDKs, nor what speaks to them."""

import json
import subprocess
import sys

HEAVY = (
    "boto3",
    "fastapi",
    "google.auth",
    "googleapiclient",
    "httpx",
    "intuitlib.client",
    "jwt",
    "openpyxl",
    "plaid",
    "pypdf",
    "pyrate_limiter",
    "redshift_connector",
    "requests",
    "stripe",
)
"""Imported where they are needed. `intuitlib` itself is a namespace, which is there in every process."""


def test_the_definitions_import_what_they_need_and_no_more() -> None:
    """Beside what Dagster imports of its own accord."""
    code = f"""
import sys, dagster
before = set(sys.modules)
import finance_os.definitions
print(sorted(set({HEAVY}) & (set(sys.modules) - before)))
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (shown.stdout.strip(), shown.returncode) == ("[]", 0), shown.stderr


def test_nothing_is_collected_again_and_again_while_the_definitions_are_imported() -> None:
    """A process that begins a run has Dagster first, then its storage and the definitions: 250 collections by default,
    three of them of everything."""
    code = """
import gc, dagster
before = [each["collections"] for each in gc.get_stats()]
import finance_os.defs.storage, finance_os.definitions
print([each["collections"] - number for each, number in zip(gc.get_stats(), before)])
"""
    shown = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60)
    young, middle, everything = json.loads(shown.stdout)
    assert young < 30
    assert (middle, everything) <= (2, 0)
