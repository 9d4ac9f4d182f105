"""Why a port cannot be opened, and what a person changes: the address, the port, or the right to open it."""

from __future__ import annotations

import errno
import socket

LOWEST_FREE_PORT = 1024  # a lower one needs a right of its own


def is_about_the_host(error: OSError) -> bool:
    """Whether the machine does not have the address, so that no port of it can be opened."""
    # `create_server` passes the number of a failed look-up on in a plain OSError.
    return error.errno in {errno.EADDRNOTAVAIL, socket.EAI_NONAME, socket.EAI_AGAIN, socket.EAI_NODATA}


def system_reason(error: OSError) -> str:
    """The reason that the operating system gives, without the address that `create_server` adds in brackets."""
    return str(error.strerror).partition(" (")[0]


def remedy_of(error: OSError, host: str, port: str) -> str:
    """What to change; `host` and `port` name the settings."""
    if is_about_the_host(error):
        return f"set {host} to an address of this machine, such as 127.0.0.1"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return f"set {port} to {LOWEST_FREE_PORT} or above, because a lower port needs the right CAP_NET_BIND_SERVICE"
    return f"set {port} to a free port"
