"""The OpenAPI description of the web app: the receiver of webhooks, the probes and the pages."""

import json
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from finance_os.web.pages import pages
from finance_os.web.webhooks import webhooks

ROUTERS = (webhooks, pages)

OPENAPI = Path(__file__).with_suffix(".json")
"""The description as it is checked in: `finance-os artifacts write` writes it anew."""


def openapi() -> dict[str, Any]:
    """The description, as OpenAPI has it: https://spec.openapis.org/oas/v3.1.0.

    A 422 is described for paths whose parameters have a limit, and for no other: whatever else an address says is found
    or not found.
    """
    app = FastAPI()
    for router in ROUTERS:
        app.include_router(router)
    described = get_openapi(
        title="Finance OS",
        version="1",
        description="What vendors send events to, what tells whether the app works, and pages for people, which only "
        "read. Every delivery is signed by its vendor; nothing else has a login of its own, and a name that the app "
        "does not answer to is refused with 400. What can be read with GET answers to HEAD too.",
        routes=app.routes,
    )
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    limited = {route.path for route in routes if _has_limit(route)}
    for path, operations in described["paths"].items():
        for operation in operations.values():
            if path not in limited:
                operation["responses"].pop("422", None)
    return described


def _has_limit(route: APIRoute) -> bool:
    return any(each.field_info.metadata for each in route.dependant.path_params)


def openapi_text() -> str:
    """What `OPENAPI` holds."""
    return json.dumps(openapi(), indent=2, ensure_ascii=False) + "\n"
