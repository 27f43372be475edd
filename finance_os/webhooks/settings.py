"""What can be set of webhooks, and the names of the secrets that they are verified with."""

from functools import cache

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

STRIPE_SECRET = "FINANCE_OS_STRIPE_WEBHOOK_SECRET"  # noqa: S105  the name of a setting
QUICKBOOKS_VERIFIER = "FINANCE_OS_QUICKBOOKS_WEBHOOK_VERIFIER"

MAX_BODY_BYTES = 1024 * 1024
"""Larger bodies are refused; the inbox has no room for them either."""

TOLERANCE_SECONDS = 300
"""How old a signature may be. https://docs.stripe.com/webhooks#verify-manually,
https://plaid.com/docs/api/webhooks/webhook-verification/"""


class WebhookSettings(BaseSettings):
    """Each field is read from `FINANCE_OS_WEBHOOK_<FIELD>`."""

    model_config = SettingsConfigDict(
        env_prefix="FINANCE_OS_WEBHOOK_", env_ignore_empty=True, frozen=True, hide_input_in_errors=True
    )

    hosts: str = Field(
        default="",
        description="Names under which vendors reach the receiver, separated by commas; the pages do not answer.",
    )
    body_days: int = Field(
        default=30,
        ge=0,
        le=36_500,
        description="So many days after its events are done, a body is pruned; 0 keeps bodies for ever.",
    )
    body_seconds: float = Field(default=30.0, gt=0, description="How long a webhook's body may take to arrive.")
    max_tries: int = Field(
        default=5, ge=3, le=100, description="After so many reads that failed, an event is set aside as poisoned."
    )
    batch_events: int = Field(default=5_000, ge=1, le=100_000, description="Most events that one run reads for.")
    batch_reads: int = Field(default=1_000, ge=1, le=10_000, description="Most objects that one run reads for events.")
    runs_at_once: int = Field(default=2, ge=1, le=20, description="Most runs for the events of one connection.")
    retry_seconds: float = Field(
        default=30.0,
        ge=0,
        description="The wait after a read that failed; it doubles up to 30 minutes.",
    )
    gap_grace_minutes: int = Field(
        default=10, ge=0, description="For so long an event may still be on its way before it counts as never come."
    )

    @property
    def host_names(self) -> tuple[str, ...]:
        """The names in `hosts`."""
        return tuple(name for part in self.hosts.split(",") if (name := part.strip()))


@cache
def webhook_settings() -> WebhookSettings:
    """The settings of this process, read once."""
    return WebhookSettings()
