"""How PostgreSQL begins a connection with TLS, for a door before the test's server, which was built without TLS."""

from __future__ import annotations

import socket
import struct

TLS_REQUEST, GSS_REQUEST = 80877103, 80877104
REFUSAL = b"SFATAL\0C08P01\0MSSL required\0\0"  # the words of PgBouncer


def demand_tls(client: socket.socket) -> bool:
    """Agree to TLS; a client that begins without it is told that it must."""
    while (code := struct.unpack("!II", client.recv(8, socket.MSG_WAITALL))[1]) == GSS_REQUEST:
        client.sendall(b"N")
    if code != TLS_REQUEST:
        client.sendall(b"E" + struct.pack("!I", len(REFUSAL) + 4) + REFUSAL)
        return False
    client.sendall(b"S")
    return True
