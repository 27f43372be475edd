"""A connection's secrets: where they are looked for, and that they are shown to nobody."""

import json
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Extraction, Request, SourceError
from finance_os.evidence.reading import CannotTry, perform
from finance_os.evidence.sync_runs import Origin, Trigger
from finance_os.sources.credentials import Credentials, CredentialsMissing, find_credentials, missing_credentials
from finance_os.sources.kept_secrets import ConnectionSecrets
from finance_os.sources.planning import plan_reads
from finance_os.sources.sealing import EncryptionKeys, new_key
from finance_os.sources.source import Source, SourceObject
from finance_os.sources.stripe import STRIPE
from finance_os_tests.evidence.staged import page, record
from finance_os_tests.sources.kept import MemorySecrets
from finance_os_tests.sources.test_planning import NOW, TODAY, Days

ENVIRONMENT = {
    "STRIPE_KEY": "canary-plain",
    "GLOBEX_STRIPE_KEY": "canary-globex",
    "BASE": "http://plain",
    "GLOBEX_RATE": "7",
    "EMPTY": "",
}


def test_names_are_taken_from_the_environment() -> None:
    found = find_credentials("env", ["STRIPE_KEY"], ["BASE", "RATE", "EMPTY"], environment=ENVIRONMENT)
    assert (found["STRIPE_KEY"], found.get("BASE"), found.get("RATE")) == ("canary-plain", "http://plain", None)
    assert found.get("EMPTY", "default") == "default"


def test_a_prefix_leads_to_another_business_and_never_back_to_the_first_one_s_secrets() -> None:
    found = find_credentials("env:GLOBEX_", ["STRIPE_KEY"], ["BASE", "RATE"], environment=ENVIRONMENT)
    assert found["STRIPE_KEY"] == "canary-globex"
    assert (found.get("BASE"), found.get("RATE")) == ("http://plain", "7")
    with pytest.raises(CredentialsMissing) as caught:
        find_credentials("env:INITECH_", ["STRIPE_KEY"], [], environment=ENVIRONMENT)
    assert caught.value.names == ["INITECH_STRIPE_KEY"]


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(CredentialsMissing, match="set A, EMPTY, B") as caught:
        find_credentials("env", ["A", "STRIPE_KEY", "EMPTY", "B"], [], environment=ENVIRONMENT)
    assert "canary" not in str(caught.value)
    assert missing_credentials("env", ["A", "STRIPE_KEY", "EMPTY", "B"], environment=ENVIRONMENT) == ["A", "EMPTY", "B"]
    assert missing_credentials("env:GLOBEX_", ["STRIPE_KEY"], environment=ENVIRONMENT) == []


@pytest.fixture
def secrets_file(tmp_path: Path) -> Path:
    path = tmp_path / "secrets.json"
    path.touch(0o600)
    path.write_text(json.dumps({"GLOBEX_STRIPE_KEY": "canary-of-the-file", "GLOBEX_RATE": "9", "STRIPE_KEY": ""}))
    return path


def test_what_is_not_at_a_place_comes_from_the_environment_only_if_it_is_an_option(secrets_file: Path) -> None:
    reference = f"file:{secrets_file}#GLOBEX_"
    found = find_credentials(reference, ["STRIPE_KEY"], ["RATE", "BASE"], environment=ENVIRONMENT)
    assert (found["STRIPE_KEY"], found.get("RATE"), found.get("BASE")) == ("canary-of-the-file", "9", "http://plain")
    assert missing_credentials(reference, ["STRIPE_KEY", "BASE"], environment=ENVIRONMENT) == ["GLOBEX_BASE"]
    with pytest.raises(CredentialsMissing) as caught:
        find_credentials(f"file:{secrets_file}", ["STRIPE_KEY"], environment=ENVIRONMENT)
    assert caught.value.advice == f"set STRIPE_KEY in file:{secrets_file}"


def test_a_source_that_needs_nothing_asks_for_nothing() -> None:
    assert repr(find_credentials("file:/there/is/no/such/file", [])) == "Credentials()"
    assert missing_credentials("file:/there/is/no/such/file", []) == []


def test_a_reference_of_another_form_is_refused() -> None:
    for find in (find_credentials, missing_credentials):
        with pytest.raises(ValueError, match="'env', 'env:PREFIX'"):
            find("vault:stripe", ["STRIPE_KEY"], environment=ENVIRONMENT)


def test_secrets_are_shown_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    found = Credentials({"KEY": "canary", "OPTION": "canary"}, MemorySecrets({"token": "canary"}))
    logging.getLogger("test").warning("%s %r %s", found, found, vars(found))
    assert repr(found) == "Credentials(KEY, OPTION)"
    assert "canary" not in caplog.text
    with pytest.raises(KeyError) as caught:
        found["OTHER"]
    assert "canary" not in "".join(traceback.format_exception(caught.value))


def test_kept_secrets_come_with_the_credentials_or_not_at_all() -> None:
    kept = MemorySecrets({"token": "canary"})
    assert find_credentials("env", ["STRIPE_KEY"], [], kept, environment=ENVIRONMENT).kept.read("token") == "canary"
    with pytest.raises(RuntimeError, match="without kept secrets"):
        _ = find_credentials("env", ["STRIPE_KEY"], environment=ENVIRONMENT).kept


# --- as a sync run meets them


def token_source(*needed: str) -> Source:
    """A source whose reads replace a kept token, as OAuth does, and stage it as a record's ID."""

    @contextmanager
    def connect(credentials: Credentials) -> Iterator[Credentials]:
        with credentials.kept.exclusive("token") as secret:
            secret.store(f"{secret.value or 'first'}+")
        yield credentials

    def extract(credentials: Credentials, obj: SourceObject[Any], request: Request) -> Extraction:
        return Extraction([page(record(credentials.kept.read("token") or "", day=TODAY))])

    return replace(STRIPE, credentials=needed, options=(), open=connect, extract=extract)


def perform_today(database: Database, source: Source, connection: Connection, keys: EncryptionKeys) -> dict[str, Any]:
    kept = partial(ConnectionSecrets, database, keys=lambda: keys)
    obj = source.object("stripe_invoice")
    (read,) = plan_reads(source, obj, connection, Days(TODAY, TODAY), NOW, kept=kept)
    return perform(database, read, Origin(Trigger.MANUAL), chunk_rows=100)


def test_a_read_uses_and_replaces_what_is_kept_for_its_own_connection(
    database: Database, acme: Connection, globex: Connection
) -> None:
    keys = EncryptionKeys(new_key())
    assert [perform_today(database, token_source(), acme, keys)["rows_new"] for _ in range(2)] == [1, 1]
    perform_today(database, token_source(), globex, keys)
    kept = {c.business_id: ConnectionSecrets(database, c, lambda: keys).read("token") for c in (acme, globex)}
    assert kept == {"acme": "first++", "globex": "first+"}


def test_a_run_says_what_is_missing_and_where(database: Database, acme: Connection, secrets_file: Path) -> None:
    keys = EncryptionKeys(new_key())
    source = token_source("STRIPE_KEY")
    connection = replace(acme, secret_reference=f"file:{secrets_file}")
    with pytest.raises(CannotTry) as missing:
        perform_today(database, source, connection, keys)
    secrets_file.chmod(0o644)
    with pytest.raises(SourceError) as exposed:
        perform_today(database, source, connection, keys)
    with pytest.raises(CannotTry) as unknown:
        perform_today(database, source, replace(acme, secret_reference="vault:x"), keys)
    rows = database.fetch("SELECT status, error_code, error_message FROM finance_os.source_sync_runs ORDER BY 1, 2")
    assert [(row["status"], row["error_code"]) for row in rows] == [
        ("failed", "secret_file_exposed"),
        ("skipped", "credentials_missing"),
        ("skipped", "secret_reference_unknown"),
    ]
    assert missing.value.message == f"set STRIPE_KEY in file:{secrets_file}"
    assert exposed.value.permanent
    assert "vault:x" in unknown.value.message
    assert "canary" not in str(rows)
