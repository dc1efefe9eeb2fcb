"""An address that is taken before anything is loaded, and the server on it."""

import errno
import socket
from typing import Any

from loc_keras.errors import DemoError

_BACKLOG = 128
_PATIENCE_SECONDS = 1


def listen(host: str, port: int) -> socket.socket:
    """Takes an address.

    Args:
        host: Name or number of an interface of this machine.
        port: 1..65535, or 0 for any free one.

    Returns:
        A socket that listens.

    Raises:
        DemoError: If the port is in use or not allowed, or the host is not this machine's.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise DemoError(f"--host {host} is no address of this machine ({_why(error)}).") from error
    taken = socket.socket(family, kind, proto)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
        taken.listen(_BACKLOG)
    except OSError as error:
        taken.close()
        if error.errno == errno.EADDRINUSE:
            raise DemoError(
                f"port {port} of {host} is in use; give another one by --port, 0 for any."
            ) from error
        raise DemoError(
            f"port {port} of {host} cannot be taken ({_why(error)}); give others by --host and "
            "--port."
        ) from error
    return taken


def address_of(taken: socket.socket) -> str:
    """What a browser on this machine is given."""
    host, port = taken.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "localhost"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def server_of(app: Any) -> Any:
    """A server for an ASGI application; its `run(sockets=[...])` serves until it is interrupted.

    On Ctrl-C it waits shortly for requests on their way, then raises `KeyboardInterrupt`.
    """
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=_PATIENCE_SECONDS,
    )
    return uvicorn.Server(config)


def _why(error: OSError) -> str:
    return error.strerror or str(error)
