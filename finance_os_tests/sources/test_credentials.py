"""A connection's secrets: where they are looked for, and that they are shown to nobody."""

import logging
import traceback

import pytest

from finance_os.sources.credentials import Credentials, CredentialsMissing, find_credentials

ENVIRONMENT = {
    "STRIPE_KEY": "canary-plain",
    "GLOBEX_STRIPE_KEY": "canary-globex",
    "BASE": "http://plain",
    "GLOBEX_RATE": "7",
    "EMPTY": "",
}


def test_names_are_taken_from_the_environment() -> None:
    found = find_credentials("env", ["STRIPE_KEY"], ["BASE", "RATE", "EMPTY"], ENVIRONMENT)
    assert (found["STRIPE_KEY"], found.get("BASE"), found.get("RATE")) == ("canary-plain", "http://plain", None)
    assert found.get("EMPTY", "default") == "default"


def test_a_prefix_leads_to_another_business_and_never_back_to_the_first_one_s_secrets() -> None:
    found = find_credentials("env:GLOBEX_", ["STRIPE_KEY"], ["BASE", "RATE"], ENVIRONMENT)
    assert found["STRIPE_KEY"] == "canary-globex"
    assert (found.get("BASE"), found.get("RATE")) == ("http://plain", "7")
    with pytest.raises(CredentialsMissing) as caught:
        find_credentials("env:INITECH_", ["STRIPE_KEY"], [], ENVIRONMENT)
    assert caught.value.names == ["INITECH_STRIPE_KEY"]


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(CredentialsMissing, match="set A, EMPTY, B") as caught:
        find_credentials("env", ["A", "STRIPE_KEY", "EMPTY", "B"], [], ENVIRONMENT)
    assert "canary" not in str(caught.value)


def test_a_reference_of_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match="'env' or 'env:PREFIX'"):
        find_credentials("vault:stripe", ["STRIPE_KEY"], [], ENVIRONMENT)


def test_secrets_are_shown_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    found = Credentials({"KEY": "canary", "OPTION": "canary"})
    logging.getLogger("test").warning("%s %r %s", found, found, vars(found))
    assert repr(found) == "Credentials(KEY, OPTION)"
    assert "canary" not in caplog.text
    with pytest.raises(KeyError) as caught:
        found["OTHER"]
    assert "canary" not in "".join(traceback.format_exception(caught.value))
