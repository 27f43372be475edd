"""Every environment variable that Finance OS reads, typed, in one place.

Those of the webhook receiver are in `finance_os.webhooks.settings`. Vendor credentials are not listed here: each source
declares the names of its own (`Source.credentials`), and they are looked up by a connection's secret reference
(`finance_os.sources.credentials`).
"""

from datetime import date
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Settings(BaseSettings):
    """The installation's settings; each field is read from `FINANCE_OS_<FIELD>`."""

    model_config = SettingsConfigDict(
        env_prefix="FINANCE_OS_", env_ignore_empty=True, frozen=True, hide_input_in_errors=True
    )

    home: Path = Field(default=Path("var"), description="Where the embedded database and local files live.")
    database_url: SecretStr | None = Field(
        default=None, description="PostgreSQL 15 or newer; unset means the embedded server under `home`."
    )
    owner_database_url: SecretStr | None = Field(
        default=None,
        description="The login that runs migrations, direct rather than through a transaction pooler; "
        "unset means `database_url`.",
    )
    approver_database_url: SecretStr | None = Field(
        default=None,
        description="A login in the group finance_os_approver, for `finance-os policy approve` and `backtest sign`; "
        "not the application's.",
    )
    dagster_database_url: SecretStr | None = Field(
        default=None, description="Where Dagster keeps its runs and events (read by dagster.yaml)."
    )
    timezone: str = Field(default="UTC", description="Time zone of the plain installation's business.")
    business: str = Field(default="main", description="ID of the plain installation's business.")
    business_name: str = Field(default="Main business", description="Its name, as people read it.")
    start_date: date = Field(default=date(2024, 1, 1), description="First day that can be backfilled.")
    drops: str | None = Field(
        default=None, description="Folder or s3:// prefix for handed-in files; unset means `home`/drops."
    )
    drop_settle_seconds: float = Field(
        default=5.0, ge=0, description="How long a dropped file must have stayed the same before it is read."
    )
    drop_max_bytes: int = Field(default=32 * 1024 * 1024, ge=1, description="Larger dropped files are left alone.")
    anchors: str | None = Field(
        default=None, description="Folder or s3:// prefix for audit anchors; unset means `home`/anchors."
    )
    exports: str | None = Field(
        default=None, description="Folder that tables are exported to; unset means `home`/exports."
    )
    backtest_tolerance_bps: int = Field(
        default=10, ge=0, le=10_000, description="Hundredths of a percent of the baseline that a month may be off by."
    )
    backtest_tolerance_microdollars: int = Field(
        default=10_000, ge=0, description="What a month may be off by in any case: a cent."
    )
    backtest_baseline_states: Literal["publisher_share", "spend"] = Field(
        default="publisher_share",
        description="What the baseline's amounts are: the publishers' share of the spend, or the spend itself.",
    )
    encryption_key: SecretStr | None = Field(
        default=None,
        description="Key(s) for the secrets that Finance OS keeps, separated by commas: the first one encrypts, each "
        "decrypts; unset means `home`/encryption.key with the embedded database.",
    )
    gcp_secret_manager_api_base: str | None = Field(
        default=None, description="Where Google's Secret Manager answers; unset means Google."
    )
    chunk_rows: int = Field(default=10_000, ge=1, le=100_000, description="Most records committed at a time.")

    alert_slack_webhook: SecretStr | None = Field(
        default=None, description="Slack-compatible incoming webhook for alerts; its address is a secret."
    )
    alert_smtp: SecretStr | None = Field(
        default=None,
        description="Mail server for alerts: smtp://user:password@host:port?from=…&to=…; smtps:// for TLS at once.",
    )
    alert_digest_minutes: int = Field(
        default=15, ge=0, description="How many minutes lie at least between two alert messages of a channel."
    )
    dagster_url: str | None = Field(
        default=None, description="Where people open the Dagster UI, for the links in alert messages."
    )

    web_url: str | None = Field(
        default=None, description="Where people open the plan's page, for the link to it in the Dagster UI."
    )

    trailing_days: dict[str, Annotated[int, Field(ge=1, le=90)]] = Field(
        default_factory=dict,
        description='Past days that the daily run reads again, by source system: {"redshift": 14}.',
    )
    checkpoint_valid_hours: int = Field(
        default=24, ge=1, le=24 * 31, description="How long a recorded checkpoint counts at most."
    )
    excluded_connectors: str = Field(
        default="", description="Source systems taken out of the plan, separated by commas: they are not read."
    )

    qbo_rules: Annotated[dict[str, dict[str, Any]], NoDecode] = Field(
        default_factory=dict,
        description="Rules of the QuickBooks export, by business, as JSON: "
        '{"main": {"balance_date": "2026-01-01", "time_zone": "America/New_York"}}; '
        "what can be said is in `finance_os.stripe_qbo.rules`. A business without rules is not exported.",
    )

    @field_validator("timezone")
    @classmethod
    def _known_time_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"{name!r} is not an IANA time zone; write one such as 'America/New_York'") from error
        return name

    @field_validator("database_url", "owner_database_url", "approver_database_url", "dagster_database_url")
    @classmethod
    def _database_address(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("a database's address begins with postgresql://")  # its text may hold a password
        return url

    @field_validator("qbo_rules", mode="before")
    @classmethod
    def _by_business(cls, given: Any) -> Any:
        """Text is JSON, and its top is businesses: who wrote the rules of one business there is told so."""
        wanted = 'write JSON by business, such as {"main": {"balance_date": "2026-01-01", "time_zone": "UTC"}}'
        if isinstance(given, str):
            try:
                given = msgspec.json.decode(given)
            except msgspec.DecodeError as error:
                raise ValueError(f"it is no JSON ({error}): {wanted}") from None
        if not isinstance(given, dict):
            raise ValueError(f"it is not by business: {wanted}")
        bare = sorted(str(name) for name, rules in given.items() if not isinstance(rules, dict))
        if bare:
            raise ValueError(f"{', '.join(bare)}: no rules of a business: {wanted}")
        return given

    @property
    def excluded(self) -> frozenset[str]:
        """The source systems in `excluded_connectors`."""
        return frozenset(name for part in self.excluded_connectors.split(",") if (name := part.strip().lower()))

    @property
    def drops_location(self) -> str:
        """Folder or `s3://` prefix that handed-in files are dropped in."""
        return self.drops or str(self.home.absolute() / "drops")

    @property
    def exports_location(self) -> Path:
        """Folder that tables are exported to."""
        return Path(self.exports).absolute() if self.exports else self.home.absolute() / "exports"

    @property
    def anchors_location(self) -> str:
        """Folder or `s3://` prefix that audit anchors are written to."""
        return self.anchors or str(self.home.absolute() / "anchors")


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()
