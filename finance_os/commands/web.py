"""`finance-os web`: the source sync plan as a page in the browser, and the receiver of webhooks, until Ctrl-C."""

import logging
from ipaddress import ip_address
from typing import Annotated

import typer

from finance_os.commands.opened import console, errors, opened_database
from finance_os.observability import logs, metrics
from finance_os.settings import Settings


def web(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any.")] = 3001,
    host: Annotated[str, typer.Option(help="Address to listen on. The page has no login of its own.")] = "127.0.0.1",
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Another name that the page answers to, behind a proxy; may be repeated.")
    ] = None,
) -> None:
    """Serve the source sync plan as a page, which only reads the finance database, and take webhooks into its inbox.

    FINANCE_OS_WEBHOOK_HOSTS names the hosts under which vendors reach the receiver; no page answers to them.
    """
    import uvicorn

    from finance_os.web.app import create_app
    from finance_os.web.hurried import MOST_CONNECTIONS, Hurried
    from finance_os.web.watched import watched

    with opened_database(require_schema=False) as database:
        app = create_app(database, Settings(), (host, *(allow_host or ())))
        metrics.watch(watched(database))
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            log_level=logging.WARNING,
            access_log=False,
            server_header=False,
            http=Hurried,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=30,  # deliveries that have begun are kept and answered
        )
        listening = config.bind_socket()
        listening.listen()  # so that the address works as soon as it is printed
        console.print(f"Source sync plan: [bold]http://{host}:{listening.getsockname()[1]}[/]  (Ctrl-C stops it)")
        if not _is_loopback(host):
            errors.print("Whoever reaches this address can read the page: put a proxy with a login in front of it.")
        uvicorn.Server(config).run(sockets=[listening])


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    logs.configure()
    metrics.start()
    typer.run(web)
