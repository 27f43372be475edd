"""The pages: the businesses, the source sync plan of one, and whether the app can reach its database."""

import hashlib
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import psycopg
from fastapi import APIRouter, Depends, Request
from fastapi import Path as InPath
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, Field

from finance_os.evidence.database import Database, SchemaNotCurrent, require_current_schema
from finance_os.evidence.snapshot import snapshot
from finance_os.readiness.page import INTRODUCTION, KIND, NAME, TITLE, panels, summary
from finance_os.readiness.page.evidence import reachability_panel
from finance_os.readiness.page.panels import moment
from finance_os.readiness.plan import AT_HEAD, Plan, UnknownBusiness, source_sync_plan, unreachable
from finance_os.settings import Settings
from finance_os.sources.registry import SOURCES
from finance_os.web.rendering import rendered

PATIENCE = timedelta(seconds=10)
"""How long one query of a page may take."""

pages = APIRouter()


class Health(BaseModel):
    """Whether the app can work."""

    status: str = Field(description="ok, or what is missing.")


_HTML: dict[str, Any] = {"content": {"text/html": {"schema": {"type": "string"}}}}
_NOT_NOW = {**_HTML, "description": "The database cannot be reached, or its schema is another one: the page says so."}


def _database(request: Request) -> Database:
    return request.app.state.database


def _settings(request: Request) -> Settings:
    return request.app.state.settings


Opened = Annotated[Database, Depends(_database)]
Set = Annotated[Settings, Depends(_settings)]


@pages.head("/healthz", include_in_schema=False)
@pages.get(
    "/healthz",
    operation_id="healthz",
    summary="Whether the app can work",
    response_model=Health,
    responses={503: {"model": Health, "description": "It cannot."}},
)
def healthz(database: Opened) -> Response:
    """200 if the database answers and its schema is the one that this program needs, else 503."""
    try:
        with snapshot(database, PATIENCE) as seen:
            require_current_schema(seen)
    except SchemaNotCurrent:
        return JSONResponse({"status": "schema not current"}, 503)
    except psycopg.Error:
        return JSONResponse({"status": "database unreachable"}, 503)
    return JSONResponse({"status": "ok"})


@cache
def stylesheet() -> tuple[bytes, str]:
    """The style sheet, and a version of it for its address."""
    text = (Path(__file__).parent / "page.css").read_bytes()
    return text, hashlib.sha256(text).hexdigest()[:12]


@pages.head("/page.css", include_in_schema=False)
@pages.get(
    "/page.css",
    operation_id="stylesheet",
    summary="The pages' style sheet",
    response_class=Response,
    responses={200: {"description": "The style sheet.", "content": {"text/css": {"schema": {"type": "string"}}}}},
)
def css() -> Response:
    """The style sheet; its address changes when it does."""
    return Response(stylesheet()[0], media_type="text/css", headers={"Cache-Control": "max-age=31536000, immutable"})


@pages.head("/", include_in_schema=False)
@pages.get(
    "/",
    operation_id="businesses",
    summary="Every business",
    response_class=HTMLResponse,
    responses={
        200: {**_HTML, "description": "A page of all businesses, which lead to their plans."},
        307: {
            "description": "There is one business: the way to its plan.",
            "headers": {"Location": {"schema": {"type": "string"}, "description": "The address of the plan."}},
        },
        503: _NOT_NOW,
    },
)
def businesses(database: Opened, settings: Set) -> Response:
    """Every business, or the way to the only one."""
    try:
        with snapshot(database, PATIENCE) as seen:
            require_current_schema(seen)
            found = _names(seen)
    except (SchemaNotCurrent, psycopg.Error) as error:
        return _trouble(error)
    if len(found) == 1:
        return RedirectResponse(f"/{next(iter(found))}", 307)
    return _page("businesses.html", businesses=found, dagster=_dagster(settings))


@pages.head("/{business_id}", include_in_schema=False)
@pages.get(
    "/{business_id}",
    operation_id="plan",
    summary="The source sync plan of a business",
    response_class=HTMLResponse,
    responses={
        200: {**_HTML, "description": "The page of the plan."},
        404: {**_HTML, "description": "A page that says that there is no such business."},
        503: _NOT_NOW,
    },
)
def plan(
    business_id: Annotated[str, InPath(max_length=100, description="The business.")], database: Opened, settings: Set
) -> Response:
    """The source sync plan of a business."""
    try:
        with snapshot(database, PATIENCE) as seen:
            found = source_sync_plan(
                seen,
                SOURCES,
                business_id,
                excluded=settings.excluded,
                valid_for=timedelta(hours=settings.checkpoint_valid_hours),
            )
            names = _names(seen)
    except UnknownBusiness:
        return _page("missing.html", 404, business_id=business_id, dagster=_dagster(settings))
    except (SchemaNotCurrent, psycopg.Error) as error:
        return _trouble(error)
    return _plan_page(found, settings, others=len(names) > 1)


def _plan_page(found: Plan, settings: Settings, *, others: bool) -> Response:
    return _page(
        "plan.html",
        plan=found,
        panels=panels(found),
        summary=summary(found),
        as_of=moment(found.as_of, ZoneInfo(found.time_zone), found.as_of),
        others=others,
        dagster=_dagster(settings),
    )


def _names(database: Database) -> dict[str, str]:
    """ID → name of every business."""
    rows = database.fetch("SELECT business_id, name FROM finance_os.businesses ORDER BY business_id")
    return {row["business_id"]: row["name"] for row in rows}


def _trouble(error: Exception) -> Response:
    """The page without its plan, where there is none to be had: what is wrong and what to do about it."""
    if isinstance(error, SchemaNotCurrent):
        line = AT_HEAD.judge(False, None, str(error))
    else:
        line = unreachable(type(error).__name__)  # its words may hold an address
    return _page("trouble.html", 503, panels=(reachability_panel(line),), dagster=None)


def _dagster(settings: Settings) -> str | None:
    """Where the Dagster UI is, without a slash at its end; `None` if nobody said, or if it is no web address."""
    url = (settings.dagster_url or "").rstrip("/")
    return url if url.startswith(("http://", "https://")) else None


def _page(template: str, status: int = 200, **values: Any) -> Response:
    frame = {"name": NAME, "kind": KIND, "title": TITLE, "introduction": INTRODUCTION, "style": stylesheet()[1]}
    return HTMLResponse(rendered(template, **frame, **values), status)
