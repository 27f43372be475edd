"""The web app: its routes, and what every answer of it carries.

It has no login of its own: it listens on this machine only unless told otherwise, and then belongs behind a proxy that
has one. No page has a script, a form, or anything from another host.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware

from finance_os.evidence.database import Database
from finance_os.settings import Settings
from finance_os.web.pages import pages
from finance_os.web.pooled import pooled

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


def create_app(database: Database, settings: Settings, hosts: Iterable[str] = ()) -> FastAPI:
    """The app over `database`, which is only read. It answers to this machine's own names and to `hosts`.

    A request for another name is refused: it comes from a page elsewhere that was led here by DNS.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with pooled(database) as opened:
            app.state.database = opened
            yield

    app = FastAPI(title="Finance OS", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.settings = settings
    app.include_router(pages)

    @app.middleware("http")
    async def with_headers(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await go_on(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, *hosts])
    return app
