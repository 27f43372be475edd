"""What vendors send as webhooks, as types: the least that a body must have for its events to be understood.

Vendors put more into their bodies, and may add to it at any time: nothing else is required or refused. Whatever is
signed and in none of these forms is kept too, and set aside as unreadable.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

EventId = Annotated[str, Meta(pattern="^[A-Za-z0-9_.:/-]{1,200}$", description="The vendor's ID of the event.")]
SourceId = Annotated[str, Meta(pattern="^[A-Za-z0-9_.:/-]{1,200}$", description="The vendor's ID of the object.")]
RealmId = Annotated[str, Meta(pattern="^[A-Za-z0-9_.:/-]{1,200}$", description="The QuickBooks company.")]
Word = Annotated[str, Meta(pattern="^[A-Za-z0-9_.:-]{1,200}$")]


class StripeEvent(msgspec.Struct, kw_only=True):
    """One event. https://docs.stripe.com/api/events/object"""

    id: EventId
    object: Literal["event"]
    type: Annotated[Word, Meta(description="What happened, such as invoice.paid.")]
    data: Annotated[dict[str, Any], Meta(description="`object` is the object as it was then.")] = {}


class CloudEvent(msgspec.Struct, kw_only=True):
    """One CloudEvent of Intuit's. https://developer.intuit.com/app/developer/qbo/docs/develop/webhooks"""

    id: EventId
    type: Annotated[Word, Meta(description="What happened, such as qbo.invoice.created.v1.")]
    intuitaccountid: RealmId
    intuitentityid: Annotated[str | msgspec.UnsetType, Meta(description="QuickBooks' ID of the object.")] = (
        msgspec.UNSET
    )


class ChangedEntity(msgspec.Struct, kw_only=True):
    """What the older form says of one entity. `deletedId` is the one that was merged into it."""

    name: Annotated[Word, Meta(description="QuickBooks' word for the kind of object.")]
    id: SourceId
    operation: Annotated[Word, Meta(description="Create, Update, Delete, Void, Merge or Emailed.")]


class DataChangeEvent(msgspec.Struct, kw_only=True):
    """What changed in a company."""

    entities: Annotated[list[ChangedEntity], Meta(min_length=1)]


class Notification(msgspec.Struct, kw_only=True):
    """What the older form says of one company."""

    realmId: RealmId  # noqa: N815 (Intuit's spelling)
    dataChangeEvent: DataChangeEvent  # noqa: N815


class Notifications(msgspec.Struct, kw_only=True):
    """The older form: several companies in one body."""

    eventNotifications: Annotated[list[Notification], Meta(min_length=1)]  # noqa: N815


QuickBooksDelivery = Annotated[list[CloudEvent], Meta(min_length=1)] | Notifications
"""An array of CloudEvents, possibly of several companies, or the older form."""


class PlaidDelivery(msgspec.Struct, kw_only=True):
    """Plaid gives its events no ID. https://plaid.com/docs/api/webhooks/"""

    webhook_type: Annotated[
        str, Meta(pattern="^[A-Za-z0-9_.:-]{1,100}$", description="What it is about, such as TRANSACTIONS.")
    ]
    webhook_code: Annotated[
        str, Meta(pattern="^[A-Za-z0-9_.:-]{1,99}$", description="What happened, such as SYNC_UPDATES_AVAILABLE.")
    ]
    item_id: Annotated[str | msgspec.UnsetType, Meta(description="Plaid's ID of the item.")] = msgspec.UNSET
