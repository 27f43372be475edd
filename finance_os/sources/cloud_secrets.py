"""One secret's text from AWS Secrets Manager or Google Secret Manager, and what their errors mean.

Error messages of the stores are not repeated: they name principals and accounts.
"""

import logging
import os
from typing import Any

from finance_os.evidence.extraction import SourceError
from finance_os.settings import settings

AWS_RETRIES = 2
PATIENCE_SECONDS = 20.0
"""How long Google is asked again where it does not answer or is busy."""

_AWS_MISSING = {"ResourceNotFoundException"}
# The documentation gives InternalServiceError status 400.
# https://docs.aws.amazon.com/secretsmanager/latest/apireference/CommonErrors.html
_AWS_PASSING = {
    "InternalFailure",
    "InternalServiceError",
    "InternalServiceFailure",
    "LimitExceededException",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
_AWS_UNREADABLE = {"DecryptionFailure", "InvalidParameterException", "InvalidRequestException", "ValidationException"}


def fetch_aws(secret: str) -> str | None:
    """The current text of an AWS secret, by name or ARN; `None` if there is none.

    Region, endpoint and credentials are those that boto3 finds (AWS_REGION too); an ARN brings its region.
    https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
    """
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectionError,  # noqa: A004  botocore's name for "it was not reached"
        CredentialRetrievalError,
        HTTPClientError,
    )
    from dagster_aws.secretsmanager.secrets import construct_secretsmanager_client

    _say_less("botocore.parsers")  # it writes whole answers to the debug log
    where = f"aws:{secret}"
    region = secret.split(":")[3] if secret.startswith("arn:") else _region()
    try:
        client = construct_secretsmanager_client(max_attempts=AWS_RETRIES, region_name=region)
        answer: dict[str, Any] = client.get_secret_value(SecretId=secret)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "an error")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _AWS_MISSING:
            return None
        if code in _AWS_PASSING or status >= 500 or status == 429:
            raise _unreachable(where, f"AWS answered {code}") from None
        if code in _AWS_UNREADABLE:
            raise _unreadable(where, f"AWS answered {code}: is it being deleted, or its KMS key disabled?") from None
        raise _denied(where, f"AWS answered {code}: allow secretsmanager:GetSecretValue on it") from None
    except (HTTPClientError, ConnectionError, CredentialRetrievalError) as error:
        raise _unreachable(where, type(error).__name__) from None
    except (BotoCoreError, ValueError) as error:  # no credentials, no region, no such profile, no such endpoint
        why = (
            f"{type(error).__name__}: look at AWS_REGION, at AWS's credentials here, and at its endpoint if one is set"
        )
        raise _denied(where, why) from None
    if "SecretString" in answer:
        return answer["SecretString"]
    return _text(answer["SecretBinary"], where)


def fetch_gcp(secret: str) -> str | None:
    """The text of a Google secret, `projects/*/secrets/*`, its latest version unless one is named; `None` if none.

    Credentials are Google's application default ones. FINANCE_OS_GCP_SECRET_MANAGER_API_BASE leads to another server;
    one without TLS is an emulator, and is given no credentials.
    https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access
    """
    import requests
    from google.api_core import exceptions
    from google.api_core.client_options import ClientOptions
    from google.api_core.retry import Retry, if_exception_type
    from google.auth.credentials import AnonymousCredentials
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError
    from google.cloud.secretmanager_v1 import SecretManagerServiceClient

    _say_less("google.cloud.secretmanager_v1")
    where = f"gcp:{secret}"
    base = settings().gcp_secret_manager_api_base
    passing = (
        exceptions.TooManyRequests,
        exceptions.ServerError,
        exceptions.RetryError,
        requests.ConnectionError,
        requests.Timeout,
        TransportError,
    )
    try:
        # REST: gRPC keeps threads that do not survive a fork.
        with SecretManagerServiceClient(
            transport="rest",
            credentials=AnonymousCredentials() if base and base.startswith("http://") else None,
            client_options=ClientOptions(api_endpoint=base) if base else None,
        ) as client:
            answer = client.access_secret_version(
                name=secret if "/versions/" in secret else f"{secret}/versions/latest",
                retry=Retry(if_exception_type(*passing), initial=0.5, maximum=5, timeout=PATIENCE_SECONDS),
                timeout=PATIENCE_SECONDS,
            )
    except exceptions.NotFound:
        return None
    except passing as error:
        raise _unreachable(where, _status(error)) from None
    except (exceptions.Forbidden, exceptions.Unauthorized) as error:
        raise _denied(where, f"{_status(error)}: grant roles/secretmanager.secretAccessor on it") from None
    except DefaultCredentialsError:
        raise _denied(where, "there are no Google credentials here: set GOOGLE_APPLICATION_CREDENTIALS") from None
    except GoogleAuthError as error:
        raise _denied(where, f"Google's credentials here were refused ({type(error).__name__})") from None
    except (exceptions.GoogleAPIError, requests.RequestException, ValueError) as error:
        raise _unreadable(where, f"{_status(error)}: is its version disabled or destroyed?") from None
    return _text(answer.payload.data, where)


def _region() -> str | None:
    """The region that containers are told in AWS_REGION, which boto3 does not read; `None` leaves it to boto3."""
    return os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION")


def _say_less(logger: str) -> None:
    """Keep a library's logger from writing answers, whatever the level above it is."""
    if logging.getLogger(logger).level < logging.INFO:
        logging.getLogger(logger).setLevel(logging.INFO)


def _status(error: Exception) -> str:
    code = getattr(error, "code", None)
    return f"Google answered {int(code)}" if code else f"Google did not answer ({type(error).__name__})"


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _unreadable(where, "it is not UTF-8 text") from None


def _unreachable(where: str, why: str) -> SourceError:
    return SourceError("secret_store_unreachable", f"the secret {where} could not be read now: {why}")


def _denied(where: str, why: str) -> SourceError:
    return SourceError("secret_denied", f"the secret {where} may not be read: {why}", permanent=True)


def _unreadable(where: str, why: str) -> SourceError:
    return SourceError("secret_unreadable", f"the secret {where} cannot be read: {why}", permanent=True)
