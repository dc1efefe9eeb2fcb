"""The page's server: requests that it takes, its folder of uploads, its address.

`Guard` speaks ASGI (the Asynchronous Server Gateway Interface, version 3) and knows nothing of the
application that it guards, so that a route that Gradio adds is closed until it is listed here.
"""

import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loc_keras.errors import DemoError

MEGABYTE = 2**20
"""Bytes of what the page and the browser call MB."""

FOLDER_VARIABLE = "GRADIO_TEMP_DIR"
"""Environment variable that names Gradio's folder of uploads, read when Gradio is imported."""

_SMALL = 65_536  # Bytes of a request that holds no file.
_BACKLOG = 128
_PATIENCE_SECONDS = 1


@dataclass(frozen=True)
class Limits:
    """What is taken.

    Attributes:
        file_bytes: Largest file.
        uploads: Uploads that may arrive at the same time.
        waiting: Images that may wait for their answer; answers are made one by one.
        kept: Uploads that stay on disk, the newest; more than may wait, since a page shows its own.
    """

    file_bytes: int
    uploads: int = 4
    waiting: int = 16
    kept: int = 32

    @property
    def upload_bytes(self) -> int:
        """Largest body of an upload: one file and the form around it."""
        return self.file_bytes + _SMALL


Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

UPLOAD = "/gradio_api/upload"

_GET = frozenset(
    {"/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/gradio_api/queue/data"}
    | {"/gradio_api/upload_progress", "/gradio_api/startup-events", "/gradio_api/theme.css"}
)
_GET_BELOW = ("/assets/", "/static/", "/gradio_api/file=", "/gradio_api/heartbeat/")
_POST = frozenset({UPLOAD, "/gradio_api/queue/join", "/gradio_api/cancel", "/gradio_api/reset"})

# Whatever the page's scripts hold, its browser asks no other host for anything.
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)
HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class Guard:
    """An ASGI application around another one.

    Args:
        app: What is guarded.
        limits: How much is taken.
        before_upload: Called ahead of each upload, to make room for it.
    """

    def __init__(self, app: App, limits: Limits, before_upload: Callable[[], None]) -> None:
        """Keeps what it is given; see the class."""
        self._app = app
        self._limits = limits
        self._before_upload = before_upload
        self._uploads = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one request, or hands it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        refusal = refused(scope["method"], scope["path"], _length(scope), self._limits)
        is_upload = scope["method"] == "POST" and scope["path"] == UPLOAD
        if refusal is None and is_upload and self._uploads >= self._limits.uploads:
            refusal = 503, "Too many images arrive at once; try again in a moment."
        if refusal is not None:
            await _refuse(send, *refusal)
            return
        self._uploads += is_upload
        try:
            if is_upload:
                self._before_upload()
            await self._app(scope, receive, _with_headers(send))
        finally:
            self._uploads -= is_upload


def refused(method: str, path: str, length: int | None, limits: Limits) -> tuple[int, str] | None:
    """Status and sentence with which a request is refused; None where it is not.

    Args:
        method: Of HTTP.
        path: Of the address, decoded.
        length: Bytes of its body, as it declares; None where it does not.
        limits: How much is taken.
    """
    if method in ("GET", "HEAD"):
        known = path in _GET or path.startswith(_GET_BELOW)
        # Of a file at another host, the server would look that host up before it refuses.
        odd = ".." in path or "://" in path
        return None if known and not odd else (404, "There is no such page.")
    if method != "POST" or path not in _POST:
        return 404, "There is no such page."
    if length is None:  # A server cuts a body at its declared length; without one it has no end.
        return 411, "A request must say how long it is."
    most = limits.upload_bytes if path == UPLOAD else _SMALL
    if length > most:
        return 413, f"At most {limits.file_bytes / MEGABYTE:g} MB are taken."
    return None


def _length(scope: Message) -> int | None:
    values = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(values[0]) if len(values) == 1 and values[0].isdigit() else None


async def _refuse(send: Send, status: int, sentence: str) -> None:
    kind = (b"content-type", b"text/plain; charset=utf-8")
    headers = [kind, *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": sentence.encode()})


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
        await send(message)

    return sent


@contextmanager
def uploads_folder() -> Iterator[Path]:
    """A fresh folder, named in `FOLDER_VARIABLE`; it is removed at the end, with all within it."""
    before = os.environ.get(FOLDER_VARIABLE)
    with tempfile.TemporaryDirectory(prefix="loc_keras-demo-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        os.environ[FOLDER_VARIABLE] = str(folder)
        try:
            yield folder
        finally:
            if before is None:
                del os.environ[FOLDER_VARIABLE]
            else:
                os.environ[FOLDER_VARIABLE] = before


def keep_newest(folder: Path, count: int) -> None:
    """Removes all but the newest uploads, each a folder of its own or a file still arriving."""
    dated = []
    for entry in os.scandir(folder):
        try:
            dated.append((entry.stat().st_mtime_ns, entry.path))
        except FileNotFoundError:  # Its upload was moved to its place meanwhile.
            continue
    for _, path in sorted(dated, reverse=True)[count:]:
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            Path(path).unlink(missing_ok=True)


def is_within(path: str, folder: Path) -> bool:
    """Whether a path, with its links followed, leads into a folder."""
    return Path(path).resolve().is_relative_to(folder.resolve())


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
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise DemoError(
                f"port {port} of {host} is in use; give another one by --port, 0 for any."
            ) from error
        raise DemoError(
            f"port {port} of {host} cannot be taken ({_why(error)}); give others by --host and "
            "--port."
        ) from error
    return listener


def address_of(listener: socket.socket) -> str:
    """What a browser on this machine is given."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "localhost"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def server_of(app: Any) -> Any:
    """A server of an ASGI application; its `run(sockets=[...])` serves until it is interrupted.

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
