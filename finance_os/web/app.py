"""The web app: its routes, and what every answer of it carries.

Its pages have no login of their own: it listens on this machine only unless told otherwise, and then belongs behind a
proxy that has one. No page has a script, a form, or anything from another host. What comes to the receiver of webhooks
is signed by its sender; it may answer to public names of its own, to which no page answers.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from finance_os.evidence.database import Database
from finance_os.settings import Settings
from finance_os.web.pages import pages
from finance_os.web.pooled import pooled, pooled_for_receiving
from finance_os.web.webhooks import NamedHosts, Receiving, webhooks
from finance_os.webhooks.settings import WebhookSettings

LOOPBACK = ("127.0.0.1", "localhost")

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class WithHeaders:
    """Adds to every answer the headers that it does not have; nothing of it is kept by a browser unless it says so."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


def create_app(database: Database, settings: Settings, hosts: Iterable[str] = ()) -> FastAPI:
    """The app over `database`: its pages only read it, and the receiver puts webhooks into the inbox.

    It answers to this machine's own names and to `hosts`, and the receiver also to those that are set for it. A request
    for another name is refused: it comes from a page elsewhere that was led here by DNS.
    """
    receiver = WebhookSettings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with pooled(database) as opened, pooled_for_receiving(database) as receiving:
            app.state.database = opened
            app.state.receiving = Receiving(receiving, receiver)
            yield

    app = FastAPI(title="Finance OS", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.settings = settings
    app.include_router(webhooks)
    app.include_router(pages)

    app.add_middleware(WithHeaders)
    app.add_middleware(NamedHosts, pages=[*LOOPBACK, *hosts], receiver=list(receiver.host_names))
    return app
