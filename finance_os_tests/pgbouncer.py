"""A pgbouncer before the test server, on a loopback port: what a pooler keeps from working is found here."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from psycopg.conninfo import conninfo_to_dict


@contextmanager
def pgbouncer(server_url: str, users: Mapping[str, str], auth_type: str = "scram-sha-256") -> Iterator[str]:
    """A pooler in transaction mode before `server_url`; where it listens, as `host:port`.

    `users` are the logins that it admits, with their passwords; it passes them on to the server. Skips the test
    where no pgbouncer is installed. pgbouncer refuses to run as root, so root runs it as whoever owns the server's
    socket.
    """
    binary = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if binary is None:
        pytest.skip("pgbouncer is not installed")
    server = conninfo_to_dict(server_url)
    host = str(server.get("host") or "/tmp")
    login = f" password={server['password']}" if server.get("password") else ""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "users.txt").write_text("".join(f'"{user}" "{password}"\n' for user, password in users.items()))
        (folder / "pgbouncer.ini").write_text(
            f"""
            [databases]
            * = host={host} port={server.get("port") or 5432}{login}

            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = {port}
            unix_socket_dir =
            auth_type = {auth_type}
            auth_file = {folder / "users.txt"}
            pool_mode = transaction
            max_client_conn = 500
            default_pool_size = 20
            """.replace("            ", "")
        )
        command = [binary, "-q"]
        if os.geteuid() == 0:
            owner = pwd.getpwuid(os.stat(host).st_uid).pw_name if host.startswith("/") else "nobody"
            command += ["-u", owner if owner != "root" else "nobody"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([*command, str(folder / "pgbouncer.ini")], stdout=log, stderr=log)
        try:
            for _ in range(100):
                with closing(socket.socket()) as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                if process.poll() is not None:
                    break
                time.sleep(0.05)
            else:
                raise TimeoutError("pgbouncer does not listen")
            if process.poll() is not None:
                raise RuntimeError((folder / "log").read_text())
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


def pooled_url(address: str, server_url: str, user: str, password: str) -> str:
    """The URL of the database in `server_url` through the pooler at `address`, as `user`."""
    database = conninfo_to_dict(server_url)["dbname"]
    return f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@{address}/{database}"
