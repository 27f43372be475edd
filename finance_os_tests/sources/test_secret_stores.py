"""Secret stores: each form of reference, what is remembered, what each failure is called, and what is never shown."""

import base64
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import moto
import pytest

from finance_os import settings as settings_module
from finance_os.evidence.extraction import SourceError
from finance_os.sources import cloud_secrets, secret_stores
from finance_os.sources.private_files import MAX_BYTES
from finance_os.sources.secret_stores import forget, look_up, parse_reference

CANARY = "canary-4242"


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No memory of another test, and none of this machine's cloud configuration."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "GOOGLE_", "GCLOUD", "CLOUDSDK")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    forget()
    yield
    forget()
    settings_module.settings.cache_clear()


def found(reference: str, *names: str) -> dict[str, str]:
    return look_up(parse_reference(reference), names, {})


def refusal(reference: str, *names: str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        found(reference, *(names or ("KEY",)))
    assert CANARY not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "vault:x",
        "environment",
        "file:",
        "file:relative/path",
        "file:~/secrets",
        "file:#PREFIX",
        "aws:",
        "aws:#PREFIX",
        "aws:two words",
        "aws:arn:aws:s3:::bucket",
        "gcp:prod",
        "gcp:projects/acme/secrets",
        "gcp:projects/acme/secrets/prod/versions/",
        "gcp:projects/acme/secrets/a/b",
    ],
)
def test_a_reference_of_another_form_is_refused(reference: str) -> None:
    with pytest.raises(ValueError, match="a secret reference is 'env'"):
        parse_reference(reference)


def test_only_the_last_hash_sign_begins_a_prefix() -> None:
    assert parse_reference("file:/etc/a#b.json#GLOBEX_").place == "/etc/a#b.json"
    assert parse_reference("file:/etc/a#b.json#").prefix == ""
    assert parse_reference("env:GLOBEX_#").prefix == "GLOBEX_#"


# --- a file


def private(path: Path, text: str | bytes) -> str:
    """Write a file of secrets; a reference to it."""
    path.touch(0o600)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return f"file:{path}"


def test_lines_are_read_as_shells_have_them(tmp_path: Path) -> None:
    text = (
        "\ufeff# of the finance team\nexport KEY=plain  # said why\n\nQUOTED=\"two\\nlines\"\nRAW='$HOME #1'\n"
        "ZONE=${HOME}\nEMPTY=\nGLOBEX_KEY=another's\n"
    )
    reference = private(tmp_path / "secrets.env", text)
    names = ("KEY", "QUOTED", "RAW", "ZONE", "EMPTY", "OTHER")
    assert found(reference, *names) == {
        "KEY": "plain",
        "QUOTED": "two\nlines",
        "RAW": "$HOME #1",
        "ZONE": "${HOME}",
    }
    assert found(f"{reference}#GLOBEX_", "KEY", "RAW") == {"KEY": "another's"}


def test_json_keeps_what_is_no_string_as_it_is_written(tmp_path: Path) -> None:
    text = '\n {"KEY": "caf\\u00e9", "PORT": 5432, "RATE": 0.10, "ON": true, "ACCOUNT": {"a": [1.0]}, "NOT": null}'
    names = ("KEY", "PORT", "RATE", "ON", "ACCOUNT", "NOT")
    assert found(private(tmp_path / "secrets", text), *names) == {
        "KEY": "café",
        "PORT": "5432",
        "RATE": "0.10",
        "ON": "true",
        "ACCOUNT": '{"a": [1.0]}',
    }


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601])
def test_a_file_that_others_may_open_is_refused(tmp_path: Path, mode: int) -> None:
    reference = private(tmp_path / "secrets", f"KEY={CANARY}")
    (tmp_path / "secrets").chmod(mode)
    (tmp_path / "link").symlink_to(tmp_path / "secrets")
    for place in (reference, f"file:{tmp_path}/link"):
        error = refusal(place)
        assert (error.code, error.permanent) == ("secret_file_exposed", True)
        assert f"mode {mode:04o}" in error.message
        assert "chmod 600" in error.message
    (tmp_path / "secrets").chmod(0o400)
    assert found(f"file:{tmp_path}/link", "KEY") == {"KEY": CANARY}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"OTHER=1\nKEY {CANARY}\n", "line 2"),
        (f"{CANARY}\n", "line 1"),
        (f"KEY='{CANARY}\n", "line 1"),
        (f'{{"KEY": "{CANARY}"', "not one JSON object"),
        (f'{{"KEY": "{CANARY}"}} {{}}', "not one JSON object"),
        (f"KEY={CANARY}\xff".encode("latin-1"), "not UTF-8"),
        (b"#" * (MAX_BYTES + 1), "larger than"),
    ],
)
def test_a_file_of_another_form_is_named_without_what_it_holds(tmp_path: Path, text: str | bytes, said: str) -> None:
    error = refusal(private(tmp_path / "secrets", text))
    assert (error.code, error.permanent) == ("secret_unreadable", True)
    assert said in error.message


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    private(tmp_path / "file", "")
    codes = {name: refusal(f"file:{tmp_path}/{name}").code for name in ("none", "none/x", "file/x", "pipe", ".")}
    assert codes == {
        "none": "secret_not_found",
        "none/x": "secret_not_found",
        "file/x": "secret_not_found",
        "pipe": "secret_unreadable",
        ".": "secret_unreadable",
    }


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    reference = private(tmp_path / "secrets", f"KEY={CANARY}")
    (tmp_path / "secrets").chmod(0o000)
    user = os.geteuid()
    if user == 0:  # who may open everything
        os.seteuid(65534)
    try:
        assert refusal(reference).code == "secret_denied"
    finally:
        os.seteuid(user)


def test_a_file_is_read_anew_each_time(tmp_path: Path) -> None:
    reference = private(tmp_path / "secrets", "KEY=1")
    assert found(reference, "KEY") == {"KEY": "1"}
    private(tmp_path / "secrets", "KEY=2")
    assert found(reference, "KEY") == {"KEY": "2"}


# --- a server on a socket, for what moto does not do


@dataclass
class Answers:
    """What a server says to each path (Google) or secret (AWS), and what it was asked."""

    base: str = ""
    say: dict[str, tuple[int, Any]] = field(default_factory=dict)
    otherwise: tuple[int, Any] = (500, {})
    asked: list[str] = field(default_factory=list)
    authorized: set[str | None] = field(default_factory=set)


@contextmanager
def serving() -> Iterator[Answers]:
    answers = Answers()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(urlsplit(self.path).path)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.answer(f"{self.headers['X-Amz-Target']} {body['SecretId']}")

        def answer(self, asked: str) -> None:
            answers.asked.append(asked)
            answers.authorized.add(self.headers["Authorization"])
            status, body = answers.say.get(asked, answers.otherwise)
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    answers.base = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield answers
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def answers() -> Iterator[Answers]:
    with serving() as answers:
        yield answers


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of the memory, in seconds."""
    now = [1000.0]
    monkeypatch.setattr(secret_stores, "monotonic", lambda: now[0])
    return now


# --- AWS


@pytest.fixture
def aws_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials and a region in the environment, as a container has them."""
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


@pytest.fixture
def aws(aws_account: None) -> Iterator[Any]:
    """Secrets Manager, by moto; a client to put secrets there."""
    with moto.mock_aws():
        yield boto3.client("secretsmanager", region_name="eu-central-1")


def test_aws_json_object_with_a_prefix_or_without(aws: Any) -> None:
    aws.create_secret(Name="finance/prod", SecretString=json.dumps({"KEY": "1", "GLOBEX_KEY": "2", "PORT": 5432}))
    assert found("aws:finance/prod", "KEY", "PORT", "NONE") == {"KEY": "1", "PORT": "5432"}
    assert found("aws:finance/prod#GLOBEX_", "KEY", "PORT") == {"KEY": "2"}


def test_aws_arn_brings_its_region(aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = boto3.client("secretsmanager", region_name="us-west-2")
    arn = elsewhere.create_secret(Name="prod", SecretString='{"KEY": "west"}')["ARN"]
    assert found(f"aws:{arn}", "KEY") == {"KEY": "west"}
    assert found(f"aws:{arn}#WEST_", "KEY") == {}
    assert refusal("aws:prod").code == "secret_not_found"


def test_aws_one_secret_a_name(aws: Any) -> None:
    aws.create_secret(Name="finance/KEY", SecretString=CANARY)
    aws.create_secret(Name="finance/ACCOUNT", SecretBinary=b'{"type": "service_account"}')
    aws.create_secret(Name="finance/GLOBEX_KEY", SecretString="2")
    names = ("KEY", "ACCOUNT", "NONE")
    assert found("aws:finance/", *names) == {"KEY": CANARY, "ACCOUNT": '{"type": "service_account"}'}
    assert found("aws:finance/#GLOBEX_", *names) == {"KEY": "2"}


def test_aws_secret_of_another_form_or_on_its_way_out(aws: Any) -> None:
    aws.create_secret(Name="text", SecretString=CANARY)
    aws.create_secret(Name="bytes", SecretBinary=b"\xff\xfe")
    aws.create_secret(Name="deleted", SecretString="{}")
    aws.delete_secret(SecretId="deleted")
    errors = {name: refusal(f"aws:{name}") for name in ("text", "bytes", "deleted", "none")}
    assert {name: error.code for name, error in errors.items()} == {
        "text": "secret_unreadable",
        "bytes": "secret_unreadable",
        "deleted": "secret_unreadable",
        "none": "secret_not_found",
    }
    assert all(error.permanent and f"aws:{name}" in error.message for name, error in errors.items())
    assert "end the reference with '/'" in errors["text"].message


@pytest.fixture
def aws_at(answers: Answers, aws_account: None, monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Secrets Manager at an address of our own, as AWS_ENDPOINT_URL_SECRETS_MANAGER gives it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", answers.base)
    monkeypatch.setattr(cloud_secrets, "AWS_RETRIES", 0)
    return answers


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (400, "AccessDeniedException", "secret_denied"),
        (400, "UnrecognizedClientException", "secret_denied"),
        (400, "ExpiredTokenException", "secret_denied"),
        (400, "DecryptionFailure", "secret_unreadable"),
        (400, "ThrottlingException", "secret_store_unreachable"),
        (400, "InternalServiceError", "secret_store_unreachable"),
        (503, "Anything", "secret_store_unreachable"),
    ],
)
def test_aws_errors_say_whether_to_try_again(aws_at: Answers, status: int, error: str, code: str) -> None:
    aws_at.otherwise = status, {"__type": error, "Message": f"arn:aws:iam::1:user/somebody {CANARY}"}
    caught = refusal("aws:finance/prod")
    assert (caught.code, caught.permanent) == (code, code != "secret_store_unreachable")
    assert error in caught.message
    assert "aws:finance/prod" in caught.message
    assert "somebody" not in caught.message


def aws_says(answers: Answers, secret: str, text: str) -> None:
    """Let the server have an AWS secret."""
    answers.say[f"secretsmanager.GetSecretValue {secret}"] = 200, {"Name": secret, "SecretString": text}


def test_aws_is_asked_through_the_environment_s_endpoint(aws_at: Answers) -> None:
    aws_says(aws_at, "finance/prod", '{"KEY": "1"}')
    assert found("aws:finance/prod", "KEY") == {"KEY": "1"}
    assert aws_at.asked == ["secretsmanager.GetSecretValue finance/prod"]
    assert all("Credential=testing/" in (header or "") for header in aws_at.authorized)


def test_a_busy_aws_is_asked_again(aws_at: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud_secrets, "AWS_RETRIES", 1)
    aws_at.otherwise = 503, {"__type": "ServiceUnavailable"}
    assert not refusal("aws:finance/prod").permanent
    assert len(aws_at.asked) == 2


def test_aws_that_is_not_there(aws_account: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud_secrets, "AWS_RETRIES", 0)
    with serving() as gone:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", gone.base)
    error = refusal("aws:finance/prod")
    assert (error.code, error.permanent) == ("secret_store_unreachable", False)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "nonsense")
    assert refusal("aws:finance/prod").code == "secret_denied"


def test_aws_without_an_account_or_a_region(aws_account: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    assert "NoRegionError" in refusal("aws:finance/prod").message
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    error = refusal("aws:finance/prod")
    assert (error.code, error.permanent) == ("secret_denied", True)
    assert "NoCredentialsError" in error.message


# --- what is remembered


def test_what_aws_said_is_used_again_for_some_minutes(aws_at: Answers, clock: list[float]) -> None:
    aws_says(aws_at, "prod", '{"KEY": "old", "GLOBEX_KEY": "globex"}')
    for _ in range(3):
        assert found("aws:prod", "KEY") == {"KEY": "old"}
    assert found("aws:prod#GLOBEX_", "KEY") == {"KEY": "globex"}
    assert len(aws_at.asked) == 1
    aws_says(aws_at, "prod", '{"KEY": "new"}')
    clock[0] += secret_stores.REMEMBERED_SECONDS - 1
    assert found("aws:prod", "KEY") == {"KEY": "old"}
    clock[0] += 1
    assert found("aws:prod", "KEY") == {"KEY": "new"}
    assert len(aws_at.asked) == 2


def test_what_is_not_there_is_remembered_too_but_no_failure_is(aws_at: Answers, clock: list[float]) -> None:
    aws_at.otherwise = 400, {"__type": "ResourceNotFoundException"}
    aws_says(aws_at, "finance/KEY", "1")
    for _ in range(2):
        assert found("aws:finance/", "KEY", "OPTION") == {"KEY": "1"}
    assert len(aws_at.asked) == 2
    clock[0] += secret_stores.REMEMBERED_SECONDS
    aws_at.otherwise = 400, {"__type": "AccessDeniedException"}
    for _ in range(2):
        assert refusal("aws:finance/", "KEY", "OPTION").code == "secret_denied"
    aws_says(aws_at, "finance/OPTION", "2")
    assert found("aws:finance/", "KEY", "OPTION") == {"KEY": "1", "OPTION": "2"}


def test_many_clients_at_once_ask_once(aws_at: Answers) -> None:
    aws_says(aws_at, "prod", '{"KEY": "1"}')
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: found("aws:prod", "KEY"), range(16)))
    assert results == [{"KEY": "1"}] * 16
    assert len(aws_at.asked) == 1


# --- Google


@pytest.fixture
def google_at(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Secret Manager at an address of our own, where nothing is found that was not put there."""
    monkeypatch.setenv("FINANCE_OS_GCP_SECRET_MANAGER_API_BASE", answers.base)
    monkeypatch.setattr(cloud_secrets, "PATIENCE_SECONDS", 1.0)
    settings_module.settings.cache_clear()
    answers.otherwise = google_error(404, "NOT_FOUND")
    return answers


def google_error(status: int, name: str) -> tuple[int, Any]:
    """An error as Google's APIs write it: https://cloud.google.com/apis/design/errors"""
    return status, {"error": {"code": status, "message": f"somebody@acme {CANARY}", "status": name}}


def google_says(answers: Answers, secret: str, text: str | bytes, version: str = "latest") -> None:
    """Let the server have a Google secret."""
    data = text if isinstance(text, bytes) else text.encode()
    path = f"/v1/projects/acme/secrets/{secret}/versions/{version}:access"
    answers.say[path] = (
        200,
        {
            "name": f"projects/1/secrets/{secret}/versions/7",
            "payload": {"data": base64.b64encode(data).decode(), "dataCrc32c": "1"},
        },
    )


def test_google_json_object_of_the_latest_version_or_a_named_one(google_at: Answers) -> None:
    google_says(google_at, "prod", '{"KEY": "1", "GLOBEX_KEY": "2"}')
    google_says(google_at, "prod", '{"KEY": "old"}', version="3")
    assert found("gcp:projects/acme/secrets/prod", "KEY", "NONE") == {"KEY": "1"}
    assert found("gcp:projects/acme/secrets/prod#GLOBEX_", "KEY") == {"KEY": "2"}
    assert found("gcp:projects/acme/secrets/prod/versions/3", "KEY") == {"KEY": "old"}
    assert len(google_at.asked) == 2
    assert google_at.authorized == {None}


def test_google_one_secret_a_name(google_at: Answers) -> None:
    google_says(google_at, "KEY", CANARY)
    google_says(google_at, "GLOBEX_KEY", "2")
    assert found("gcp:projects/acme/secrets/", "KEY", "NONE") == {"KEY": CANARY}
    assert found("gcp:projects/acme/secrets/#GLOBEX_", "KEY", "NONE") == {"KEY": "2"}


@pytest.mark.parametrize(
    ("status", "name", "code"),
    [
        (403, "PERMISSION_DENIED", "secret_denied"),
        (401, "UNAUTHENTICATED", "secret_denied"),
        (404, "NOT_FOUND", "secret_not_found"),
        (400, "FAILED_PRECONDITION", "secret_unreadable"),
        (429, "RESOURCE_EXHAUSTED", "secret_store_unreachable"),
        (500, "INTERNAL", "secret_store_unreachable"),
        (503, "UNAVAILABLE", "secret_store_unreachable"),
    ],
)
def test_google_errors_say_whether_to_try_again(google_at: Answers, status: int, name: str, code: str) -> None:
    google_at.otherwise = google_error(status, name)
    caught = refusal("gcp:projects/acme/secrets/prod")
    assert (caught.code, caught.permanent) == (code, code != "secret_store_unreachable")
    assert "gcp:projects/acme/secrets/prod" in caught.message
    assert "somebody" not in caught.message
    assert len(google_at.asked) == 1 if caught.permanent else len(google_at.asked) > 1


def test_google_that_is_not_there(google_at: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as gone:
        monkeypatch.setenv("FINANCE_OS_GCP_SECRET_MANAGER_API_BASE", gone.base)
    settings_module.settings.cache_clear()
    error = refusal("gcp:projects/acme/secrets/prod")
    assert (error.code, error.permanent) == ("secret_store_unreachable", False)


def test_google_without_an_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    settings_module.settings.cache_clear()
    error = refusal("gcp:projects/acme/secrets/prod")
    assert (error.code, error.permanent) == ("secret_denied", True)
    assert "GOOGLE_APPLICATION_CREDENTIALS" in error.message


def test_google_secret_of_another_form(google_at: Answers) -> None:
    google_says(google_at, "text", CANARY)
    google_says(google_at, "bytes", b"\xff\xfe")
    for name in ("text", "bytes"):
        error = refusal(f"gcp:projects/acme/secrets/{name}")
        assert (error.code, error.permanent) == ("secret_unreadable", True)


# --- what is shown


def ask_aws(answers: Answers) -> dict[str, str]:
    aws_says(answers, "prod", json.dumps({"KEY": CANARY}))
    return found("aws:prod", "KEY")


def ask_google(answers: Answers) -> dict[str, str]:
    google_says(answers, "prod", json.dumps({"KEY": CANARY}))
    return found("gcp:projects/acme/secrets/prod", "KEY")


@pytest.mark.parametrize("ask", [ask_aws, ask_google])
def test_no_library_writes_a_value_to_the_log_at_any_level(
    aws_at: Answers, google_at: Answers, ask: Callable[[Answers], dict[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    google = logging.getLogger("google")
    before = google.level, google.propagate
    google.propagate = True  # as GOOGLE_SDK_PYTHON_LOGGING_SCOPE=google has it
    google.setLevel(logging.DEBUG)
    try:
        with caplog.at_level(logging.DEBUG):
            assert ask(aws_at) == {"KEY": CANARY}
    finally:
        google.setLevel(before[0])
        google.propagate = before[1]
    said = [repr(vars(record)) for record in caplog.records]  # Google's answers would be in a record's extra fields
    assert said
    encoded = base64.b64encode(json.dumps({"KEY": CANARY}).encode()).decode()
    assert not [line for line in said if CANARY in line or encoded in line]
    answering = ("botocore.parsers", "google.cloud.secretmanager_v1")  # the loggers that are given whole answers
    assert not [record.name for record in caplog.records if record.name.startswith(answering)]
    assert CANARY not in repr(vars(secret_stores._memory))
