"""Where Redshift is and as whom it is read: one URL, for a connection to the cluster or for the Data API."""

import re
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from finance_os.evidence.extraction import SourceError

URL = "FINANCE_OS_REDSHIFT_URL"
CLUSTER_FORM = "redshift://user:password@host:5439/database?sslmode=verify-full"
DATA_API_FORM = "redshift-data://workgroup/database?region=us-east-1"

# What redshift-connector can do. Without a mode it would check the certificate's chain, but not the name in it.
_SSL_MODES = {"verify-full", "verify-ca", "disable"}
# As the service's model has it: https://docs.aws.amazon.com/redshift-data/latest/APIReference/API_ExecuteStatement.html
_NAMES = {"workgroup": re.compile(r"[a-z0-9-]{3,64}"), "cluster": re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")}
_DATA_API_PARAMETERS = {"kind", "region", "secret_arn", "db_user", "endpoint"}


@dataclass(frozen=True)
class ClusterAddress:
    """A cluster's or workgroup's endpoint, spoken to in its wire protocol; `sslmode` is libpq's word."""

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)
    sslmode: str = "verify-full"


@dataclass(frozen=True)
class DataApiAddress:
    """A cluster or workgroup behind the Redshift Data API.

    The database user comes from a secret (`secret_arn`), is named (`db_user`, clusters only), or follows from the AWS
    identity. `region` and `endpoint` default to what the AWS configuration says. `endpoint` ends in `/`.
    """

    kind: str
    name: str
    database: str
    region: str | None = None
    secret_arn: str | None = None
    db_user: str | None = None
    endpoint: str | None = None

    @property
    def target(self) -> dict[str, str]:
        """The parameters by which the first statement of a session says where it is to run."""
        named = {"cluster": "ClusterIdentifier", "workgroup": "WorkgroupName"}[self.kind]
        given = {named: self.name, "Database": self.database, "SecretArn": self.secret_arn, "DbUser": self.db_user}
        return {name: value for name, value in given.items() if value is not None}


Address: TypeAlias = ClusterAddress | DataApiAddress


def parse_address(url: str) -> Address:
    """The address that a URL of either form says. Raises `SourceError` without quoting it: it may hold a password."""
    try:
        parts = urlsplit(url)
        given = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        if parts.scheme == "redshift":
            return _cluster(parts.hostname, parts.port, parts.username, parts.password, parts.path, given)
        if parts.scheme == "redshift-data":
            return _data_api(parts.netloc, parts.path, given)
    except ValueError:
        pass
    raise SourceError("invalid_url", f"{URL} is neither of the form {CLUSTER_FORM} nor {DATA_API_FORM}", permanent=True)


def _cluster(
    host: str | None, port: int | None, user: str | None, password: str | None, path: str, given: dict[str, str]
) -> ClusterAddress:
    database, sslmode = unquote(path.removeprefix("/")), given.pop("sslmode", "verify-full")
    if not (host and user and password and database) or given or sslmode not in _SSL_MODES:
        raise ValueError
    return ClusterAddress(host, port or 5439, database, unquote(user), unquote(password), sslmode)


def _data_api(name: str, path: str, given: dict[str, str]) -> DataApiAddress:
    database = unquote(path.removeprefix("/"))
    kind = given.pop("kind", "workgroup")
    if not database or set(given) - _DATA_API_PARAMETERS or "" in given.values():
        raise ValueError
    if kind not in _NAMES or not _NAMES[kind].fullmatch(name) or (kind == "workgroup" and "db_user" in given):
        raise ValueError
    endpoint = given.get("endpoint")
    if endpoint is not None and (urlsplit(endpoint).scheme not in ("http", "https") or not urlsplit(endpoint).hostname):
        raise ValueError
    return DataApiAddress(
        kind,
        name,
        database,
        region=given.get("region"),
        secret_arn=given.get("secret_arn"),
        db_user=given.get("db_user"),
        endpoint=endpoint and endpoint.rstrip("/") + "/",
    )
