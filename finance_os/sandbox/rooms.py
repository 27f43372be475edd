"""What every vendor's room in the sandbox has, so that one server can serve them all."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from starlette.types import ASGIApp

from .company import Planted


class Room(Protocol):
    """One vendor, as one company sees it. It is served at `/c<number of the company>/<name>`."""

    name: str

    @property
    def app(self) -> ASGIApp:
        """Answers the vendor's own paths below its mount."""
        ...

    def env(self, base: str) -> dict[str, str]:
        """The environment variables that point a process at it; `base` is the address of its mount."""
        ...

    def follow(self) -> None:
        """Bring what it says up to the world's clock."""
        ...

    def fault(self, kind: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of a `429`, `500` or `403`, in the vendor's own form."""
        ...

    async def change(self, action: str, what: dict[str, Any]) -> Any:
        """Change something for a test or a demo. ValueError with a clear sentence for what makes no sense."""
        ...

    def planted(self) -> Sequence[Planted]:
        """Where it deliberately disagrees with the other systems."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


@runtime_checkable
class Tells(Protocol):
    """A room that tells of changes by webhooks, once it knows where to (`change("subscribe", url=…)`)."""

    async def deliver(self) -> None:
        """Send what has changed, and wait until it has arrived or was given up."""
        ...
