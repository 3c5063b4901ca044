"""Refuses and records every connection, datagram and name look-up that leaves this machine.

A process (and the Python processes it starts) is guarded when this folder is on PYTHONPATH and
OSV_NETWORK_LOG names a file to record attempts in.
"""

import ipaddress
import os
import sys
import traceback

_LOG = os.environ.get("OSV_NETWORK_LOG")


def _is_local(host: object) -> bool:
    if host is None or host in ("", b"", "localhost", b"localhost", "0.0.0.0", "::", "<broadcast>"):
        return True
    text = host.decode() if isinstance(host, bytes) else str(host)
    try:
        return ipaddress.ip_address(text.split("%")[0]).is_loopback
    except ValueError:
        return False


def _guard(event: str, args: tuple) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = args[1]
        host = address[0] if isinstance(address, tuple) else None
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = args[0]
    else:
        return
    if _is_local(host):
        return
    stack = "".join(traceback.format_stack(limit=12))
    with open(_LOG, "a") as log:
        log.write(f"{event} {host!r} in {sys.argv[:2]}\n{stack}\n")
    raise OSError(101, f"Network is unreachable (refused by the test guard): {host!r}")


if _LOG:
    sys.addaudithook(_guard)
