"""Attack on the ports of a run, by another user or without the certificate of the run.

Call: ``python intruder.py UID FOLDER PORT...``. It prints a JSON list of its
successful attacks; an empty list is good.
"""

import asyncio
import json
import os
import socket
import ssl
import sys
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from distributed import Client
from distributed.comm import connect
from distributed.security import Security

TIMEOUT_S = 3.0
HOST = "127.0.0.1"


def main(uid: int, folder: Path, ports: Sequence[int]) -> list[str]:
    """Try everything as a user; what worked."""
    foreign = Security.temporary()
    certified = foreign.get_connection_args("client")
    for context in (certified["ssl_context"], blank := ssl.create_default_context()):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # an intruder trusts every server
    ways = {
        "tcp": {},
        "tls with another certificate": certified,
        "tls without a certificate": {"ssl_context": blank, "require_encryption": True},
    }
    if uid != os.getuid():
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    done = [] if uid == folder.stat().st_uid or not _opens(folder) else [f"listed {folder}"]
    done += asyncio.run(_connections(ways, ports))
    done += [
        f"HTTP at {port}"
        for port in ports
        if _answers_http(port, None) or _answers_http(port, blank)
    ]
    with ThreadPoolExecutor(len(ports)) as threads:
        taken = threads.map(lambda port: _takes_client(port, foreign), ports)
    return done + [f"client at {port}" for port, yes in zip(ports, taken, strict=True) if yes]


def _opens(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except PermissionError:
        return False


async def _connections(ways: dict[str, dict[str, Any]], ports: Sequence[int]) -> list[str]:
    """Ways by which a port lets a peer of Dask in, all tried at once."""

    async def attempt(name: str, port: int) -> str | None:
        try:
            comm = await connect(f"{name[:3]}://{HOST}:{port}", timeout=TIMEOUT_S, **ways[name])
        except (OSError, ValueError):
            return None
        comm.abort()
        return f"{name} at {port}"

    found = await asyncio.gather(*(attempt(name, port) for name in ways for port in ports))
    return [way for way in found if way]


def _answers_http(port: int, context: ssl.SSLContext | None) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=TIMEOUT_S) as plain:
            connection = context.wrap_socket(plain) if context else plain
            connection.sendall(b"GET /json/identity.json HTTP/1.0\r\n\r\n")
            return connection.recv(16).startswith(b"HTTP")
    except OSError:
        return False


def _takes_client(port: int, foreign: Security) -> bool:
    """Return True if a client can run code there."""
    for address, security in ((f"tcp://{HOST}:{port}", None), (f"tls://{HOST}:{port}", foreign)):
        try:
            with Client(
                address, security=security, timeout=TIMEOUT_S, set_as_default=False
            ) as client:
                client.run_on_scheduler(os.getuid)
                return True
        except Exception:  # noqa: BLE001 - a worker and a nanny fail a client in many ways
            continue
    return False


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    json.dump(
        main(int(sys.argv[1]), Path(sys.argv[2]), [int(port) for port in sys.argv[3:]]), sys.stdout
    )
