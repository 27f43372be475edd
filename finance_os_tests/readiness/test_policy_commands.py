"""`finance-os policy` as people run it: each a login of its own, which asks or approves and cannot do both."""

import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from finance_os.commands import policy as command
from finance_os.commands.policy import moment
from finance_os.evidence import audit, embedded
from finance_os.evidence.database import APPLICATION_ROLE, Database, migrate
from finance_os.readiness.approvals import APPROVER_ROLE, PolicyRefused
from finance_os.readiness.policies import POLICIES, UnknownPolicy, policy_state, policy_states
from finance_os_tests.readiness.approvers import login, login_name
from finance_os_tests.readiness.test_policies import force

QBO = "qbo_export"
GATED = "policy_gated_read_only_ingestion_only"
REALM = "9130357"

Run = Callable[..., Result]


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of ours is set but the home."""
    for name in [name for name in os.environ if name.startswith("FINANCE_OS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FINANCE_OS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def application(database: Database, acme: object, globex: object) -> Iterator[Database]:
    """The application's login: a member of its role and of no other."""
    with login(database, APPLICATION_ROLE) as found:
        yield found


@pytest.fixture
def bob(database: Database) -> Iterator[Database]:
    """A login that approves."""
    with login(database, APPROVER_ROLE) as found:
        yield found


@pytest.fixture
def run(clean: None, application: Database) -> Run:
    """Runs `finance-os policy` as the application, for acme; `approver` is the login that approves."""

    def invoke(*arguments: str, approver: Database | None = None, **environment: str) -> Result:
        variables = {"FINANCE_OS_DATABASE_URL": application.url, "FINANCE_OS_BUSINESS": "acme"} | environment
        if approver is not None:
            variables["FINANCE_OS_APPROVER_DATABASE_URL"] = approver.url
        return CliRunner().invoke(command.app, arguments, env=variables)

    return invoke


def said(result: Result) -> str:
    """What a command that succeeded printed, in one line."""
    assert result.exit_code == 0, result.output or result.exception
    return " ".join(result.output.split())


def refused(result: Result, kind: type[Exception] = PolicyRefused) -> str:
    """What a command that was refused says."""
    assert isinstance(result.exception, kind), result.output or result.exception
    return str(result.exception)


def events(database: Database, business: str = "acme") -> list[tuple[str, str, str, dict[str, Any]]]:
    """Type, subject, actor and details of each event of a policy, but for its recording."""
    assert audit.verify(database, business).sound
    return [
        (row["event_type"], row["subject"], row["actor"], row["details"])
        for row in database.fetch(
            "SELECT event_type, subject, actor, details FROM finance_os.finance_audit_events WHERE business_id = "
            "%s AND event_type LIKE 'policy.%%' AND event_type <> 'policy.recorded' ORDER BY sequence",
            (business,),
        )
    ]


def test_the_way_of_a_policy(run: Run, application: Database, bob: Database) -> None:
    asks = ("request", QBO, "--scope", REALM, "--reason", "go live")
    words = said(run(*asks, "--expires", "30d"))
    found = re.fullmatch(
        rf"Request (\d+): qbo_export of acme for {REALM} until \d{{4}}-\d\d-\d\d \d\d:\d\d UTC, asked by "
        rf"{login_name(application)}\. Another login can approve it: `(finance-os policy approve .*) --reason …`\.",
        words,
    )
    assert found
    request = int(found[1])
    assert found[2] == f"finance-os policy approve qbo_export --business acme --request {request}"
    assert policy_state(application, "acme", QBO).status == GATED

    words = said(run(*found[2].split()[2:], "--reason", "books are ready", approver=bob))
    assert words.startswith(f"Request {request} is approved: qbo_export of acme for {REALM} until ")
    assert words.endswith(f", asked by {login_name(application)}, approved by {login_name(bob)}.")
    state = policy_state(application, "acme", QBO)
    assert (state.status, state.ready) == ("approved", True)
    assert policy_state(application, "globex", QBO).status == GATED

    assert said(run("revoke", QBO, "--reason", "wrong realm")) == (
        f"Revoked request {request}: qbo_export of acme is {GATED}."
    )
    assert policy_state(application, "acme", QBO).status == GATED
    assert "There is nothing to revoke" in refused(run("revoke", QBO, "--reason", "again"))

    until = state.approvals[0].expires_at.astimezone(UTC).isoformat()
    asked = {"reason": "go live", "scope": REALM, "expires_at": until}
    assert events(application) == [
        ("policy.requested", "policy:qbo_export", login_name(application), asked),
        (
            "policy.approved",
            "policy:qbo_export",
            login_name(bob),
            {**asked, "request_id": request, "reason": "books are ready"},
        ),
        (
            "policy.revoked",
            "policy:qbo_export",
            login_name(application),
            {"request_id": request, "reason": "wrong realm"},
        ),
    ]
    assert events(application, "globex") == []


def test_the_application_can_ask_and_cannot_approve(run: Run, application: Database) -> None:
    said(run("request", QBO, "--scope", REALM, "--reason", "go live", "--expires", "30d"))
    words = refused(run("approve", QBO, "--reason", "me"))
    assert words.startswith("Approving takes a login of its own, in FINANCE_OS_APPROVER_DATABASE_URL")
    assert "CREATE ROLE bob LOGIN PASSWORD '…' IN ROLE finance_os_approver" in words
    # Its own address in the approver's variable does not help.
    words = refused(run("approve", QBO, "--reason", "me", approver=application))
    assert words.startswith(f"{login_name(application)} approves nothing: it is no member of finance_os_approver")
    assert policy_state(application, "acme", QBO).status == GATED
    assert [event[0] for event in events(application)] == ["policy.requested"]


def test_nobody_approves_their_own_request(run: Run, database: Database, application: Database, bob: Database) -> None:
    with login(database, APPLICATION_ROLE, APPROVER_ROLE) as alice:  # who may ask and may approve
        asks = ("request", QBO, "--scope", REALM, "--reason", "go live", "--expires", "30d")
        said(run(*asks, FINANCE_OS_DATABASE_URL=alice.url))
        words = refused(run("approve", QBO, "--reason", "me", approver=alice))
        assert f"was made by {login_name(alice)}, who cannot approve it" in words
        assert policy_state(application, "acme", QBO).status == GATED
        said(run("approve", QBO, "--reason", "fine", approver=bob))
        assert policy_state(application, "acme", QBO).approved
        assert [(event[0], event[2]) for event in events(application)] == [
            ("policy.requested", login_name(alice)),
            ("policy.approved", login_name(bob)),
        ]


def test_who_owns_the_database_does_not_approve(run: Run, database: Database, application: Database) -> None:
    said(run("request", QBO, "--scope", REALM, "--reason", "go live", "--expires", "30d"))
    words = refused(run("approve", QBO, "--reason", "me", approver=database))
    assert f"{login_name(database)} owns the finance database" in words
    assert "CREATE ROLE bob LOGIN" in words
    assert policy_state(application, "acme", QBO).status == GATED


def test_an_approval_expires(run: Run, application: Database, bob: Database) -> None:
    said(run("request", QBO, "--scope", REALM, "--reason", "go live", "--expires", "2d"))
    refusal = refused(run("approve", QBO, "--reason", "fine", "--expires", "3d", approver=bob))
    assert "expires between now and" in refusal
    soon = datetime.now(UTC) + timedelta(seconds=4)
    said(run("approve", QBO, "--reason", "fine", "--expires", soon.isoformat(), approver=bob))
    assert policy_state(application, "acme", QBO).approvals[0].expires_at == soon
    deadline = time.monotonic() + 20
    while policy_state(application, "acme", QBO).approved and time.monotonic() < deadline:
        time.sleep(0.1)
    assert datetime.now(UTC) >= soon
    assert policy_state(application, "acme", QBO).status == GATED
    assert "approved:" not in said(run("list"))
    assert "has no open request" in refused(run("approve", QBO, "--reason", "again", approver=bob))


def test_a_request_among_several_is_named(run: Run, application: Database, bob: Database) -> None:
    for scope in (REALM, "another"):
        said(run("request", QBO, "--scope", scope, "--reason", "go live", "--expires", "2030-01-31"))
    first, second = (each.request_id for each in policy_state(application, "acme", QBO).requests)
    words = refused(run("approve", QBO, "--reason", "which", approver=bob))
    assert f"({first} for {REALM}, {second} for another): name one with --request" in words
    said(run("approve", QBO, "--request", str(second), "--reason", "this", approver=bob))
    assert said(run("revoke", QBO, "--request", str(second), "--reason", "not this")).startswith(
        f"Revoked request {second}:"
    )
    assert [each.request_id for each in policy_state(application, "acme", QBO).requests] == [first]
    third = run("request", QBO, "--reason", "all", "--expires", "1d", "--business", "globex")
    assert "qbo_export of globex for any target until" in said(third)
    assert policy_state(application, "globex", QBO).requests[0].scope == "*"


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (("request", "qbo", "--reason", "x", "--expires", "1d"), UnknownPolicy, "no policy 'qbo'; there are outbound_"),
        (("approve", "qbo", "--reason", "x"), UnknownPolicy, "no policy 'qbo'"),
        (("revoke", "qbo", "--reason", "x"), UnknownPolicy, "no policy 'qbo'"),
        (("request", QBO, "--expires", "1d"), PolicyRefused, "A reason is needed"),
        (("request", QBO, "--reason", "x"), PolicyRefused, "say until when with --expires"),
        (("request", QBO, "--reason", "x", "--expires", "soon"), PolicyRefused, "'soon' is no time: write 30d"),
        (("request", QBO, "--reason", "x", "--expires", "2020-01-31"), PolicyRefused, "2020-01-31 is past"),
        (
            ("request", "outbound_alert_delivery", "--reason", "x", "--expires", "1d"),
            PolicyRefused,
            "name the channel's fingerprint with --scope",
        ),
        (
            ("request", QBO, "--reason", "x", "--expires", "1d", "--business", "initech"),
            LookupError,
            "there is no business 'initech'; there are acme, globex",
        ),
        (("list", "--business", "initech"), LookupError, "there is no business 'initech'"),
        (("revoke", QBO), PolicyRefused, "A reason is needed"),
    ],
)
def test_what_is_asked_wrongly_is_refused(
    run: Run, application: Database, arguments: tuple[str, ...], kind: type[Exception], words: str
) -> None:
    assert words in refused(run(*arguments), kind)
    assert events(application) == []


def test_policies_are_recorded_and_listed(run: Run, application: Database, owner: Database, bob: Database) -> None:
    before = said(run("list"))
    for policy in POLICIES:
        for word in (policy.title, policy.key, policy.gated_status, policy.sentence):
            assert word in before
    assert "Policies of acme" in before
    assert "Policies of globex" in before
    assert "acme: not recorded yet. `finance-os policy record`" in before
    assert said(run("record")) == f"acme: recorded {', '.join(policy.key for policy in POLICIES)}."
    assert said(run("record")) == "acme: nothing to do, every policy is recorded."
    assert all(state.recorded for state in policy_states(application, "acme"))

    said(run("request", QBO, "--scope", REALM, "--reason", "go live", "--expires", "2030-01-31"))
    said(run("approve", QBO, "--reason", "fine", approver=bob))
    odd = "[/red]"  # neither markup nor an error
    said(run("request", "plaid_production", "--scope", odd, "--reason", "x", "--expires", "2030-02-01T06:30+01:00"))
    action = force(owner, policy="runtime_regression_execution")
    words = said(run("list", "--business", "acme")).replace("│", " ")
    words = " ".join(words.split())
    assert "recorded" not in words
    assert f"approved: {REALM} until 2030-02-01 00:00 UTC, asked by {login_name(application)}" in words
    assert f"waits: request 2, {odd} until 2030-02-01 05:30 UTC, asked by {login_name(application)}" in words
    assert "unexplained: 1 external action(s)" in words
    assert f"--scope action:{action} --reason" in words
    assert "globex" not in words


def test_no_status_word_is_cut_off(run: Run) -> None:
    narrow = run("list", "--business", "acme", COLUMNS="80").output
    for policy in POLICIES:
        assert policy.key in narrow
        assert policy.gated_status in narrow


def test_the_installations_business_is_made(clean: None, database: Database) -> None:
    listed = CliRunner().invoke(command.app, ["list"], env={"FINANCE_OS_DATABASE_URL": database.url})
    assert "Policies of main" in said(listed)


def test_moments_are_read_as_people_mean_them() -> None:
    now = datetime.now(UTC)
    assert abs(moment("30d") - now - timedelta(days=30)) < timedelta(minutes=1)
    assert abs(moment(" 12h ") - now - timedelta(hours=12)) < timedelta(minutes=1)
    assert moment("2030-01-31") == datetime(2030, 2, 1, tzinfo=UTC)  # the whole of that day
    assert moment("2030-01-31T18:00Z") == moment("2030-01-31T18:00") == datetime(2030, 1, 31, 18, tzinfo=UTC)
    assert moment("2030-01-31T18:00-05:00") == datetime(2030, 1, 31, 23, tzinfo=UTC)
    for text in ("0d", "-1d", "1.5d", "30", "tomorrow", "2030-02-30", "9999-12-31"):
        with pytest.raises(PolicyRefused, match="is no time: write 30d"):
            moment(text)


# An approver on the embedded server


@pytest.fixture
def home(clean: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home of an installation with an embedded database of its own."""
    # Not beneath pytest's own folder, which is closed to other users, such as the server's.
    with tempfile.TemporaryDirectory(prefix="finance-os-home-") as name:
        server = embedded.start(Path(name) / "postgres")
        server.cleanup_mode = "delete"
        migrate(embedded.ensure_database(server, "finance_os"))
        monkeypatch.setenv("FINANCE_OS_HOME", name)
        yield Path(name)
        server.cleanup()


def test_the_embedded_server_gets_an_approver(home: Path) -> None:
    def invoke(*arguments: str, **environment: str) -> Result:
        return CliRunner().invoke(command.app, arguments, env=environment)

    said(invoke("request", QBO, "--scope", REALM, "--reason", "go live", "--expires", "30d"))
    assert "`finance-os policy approver bob` makes one" in refused(invoke("approve", QBO, "--reason", "x"))
    for name in ("pg_bob", "finance_os_bob", "bob; DROP", "", "Bob"):
        assert "is no name for a login" in refused(invoke("approver", name))
    assert "postgres is a login that can do more than approve" in refused(invoke("approver", "postgres"))
    printed = [said(invoke("approver", "bob")) for _ in range(2)]
    assert printed[0] == printed[1]  # once more changes nothing
    found = re.fullmatch(r"export FINANCE_OS_APPROVER_DATABASE_URL='(.*)'", printed[0])
    assert found
    words = said(invoke("approve", QBO, "--reason", "fine", FINANCE_OS_APPROVER_DATABASE_URL=found[1]))
    assert words.endswith("asked by postgres, approved by bob.")
    assert "approved by bob" in said(invoke("list"))
    assert "permission denied" in refused(
        invoke("request", QBO, "--reason", "x", "--expires", "1d", FINANCE_OS_DATABASE_URL=found[1]), Exception
    )


def test_a_server_of_its_own_gets_no_login_from_us(run: Run) -> None:
    words = refused(run("approver", "carol"))
    assert "CREATE ROLE carol LOGIN PASSWORD '…' IN ROLE finance_os_approver" in words
