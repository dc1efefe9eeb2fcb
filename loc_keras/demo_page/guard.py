"""The page's server: requests that it takes, its address.

`Guard` speaks ASGI (the Asynchronous Server Gateway Interface, version 3) and knows nothing of the
application that it guards, so that a route that Gradio adds is closed until it is listed here.
"""

import asyncio
import errno
import ipaddress
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loc_keras.errors import DemoError

MEGABYTE = 2**20  # Bytes of what the page and the browser call MB.

ANY_HOST = ("0.0.0.0", "::")  # All interfaces of this machine.

_SMALL = 65_536  # Bytes of a request that holds no file.
_BACKLOG = 128
_PATIENCE_SECONDS = 1
_SETTLED_SECONDS = 2  # Before that an upload cannot be told from one that stands still.
_SHARING = b"access-control-"


@dataclass(frozen=True)
class Limits:
    """What is taken.

    Attributes:
        uploads: Uploads that may arrive at the same time.
        waiting: Images that may wait for their answer; answers are made one by one.
        kept: Uploads that stay on disk, the newest; more than may wait, since a page shows its own.
        connections: Connections that are held.
        pause_seconds: Longest wait for a request, or for the next part of its body.
        body_seconds: Longest time that a body may take.
        hosts: Names of this server, beside those of the machine itself.
    """

    file_bytes: int
    uploads: int = 4
    waiting: int = 16
    kept: int = 32
    connections: int = 256
    pause_seconds: float = 10
    body_seconds: float = 120
    hosts: Collection[str] = ()

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
    | {"/gradio_api/info", "/gradio_api/upload_progress"}
    | {"/gradio_api/startup-events", "/gradio_api/theme.css"}
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

    `before_upload` is called ahead of each upload, to make room for it.
    """

    def __init__(self, app: App, limits: Limits, before_upload: Callable[[], None]) -> None:
        self._app = app
        self._limits = limits
        self._before_upload = before_upload
        self._arriving: list[_Arriving] = []

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one request, or hands it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        method, path = scope["method"], scope["path"]
        refusal = refused_sender(scope["headers"], self._limits.hosts, posts=method == "POST")
        refusal = refusal or refused(method, path, _length(scope), self._limits)
        is_upload = method == "POST" and path == UPLOAD
        if refusal is None and is_upload and not self._has_room():
            refusal = 503, "Too many images arrive at once; try again in a moment."
        if refusal is not None:
            await _refuse(send, *refusal)
        elif method == "POST":
            await self._take(scope, receive, send, is_upload=is_upload)
        else:
            await self._app(scope, receive, _with_headers(send))

    async def _take(self, scope: Message, receive: Receive, send: Send, *, is_upload: bool) -> None:
        """Hands a request with a body on, as long as the body keeps coming."""
        answered = False
        now = asyncio.get_running_loop().time()
        arriving = _Arriving(str((scope.get("client") or ("",))[0]), now)

        async def received() -> Message:
            message = await receive()
            arriving.bytes += len(message.get("body", b""))
            if message.get("more_body"):
                pause = asyncio.get_running_loop().time() + self._limits.pause_seconds
                arriving.give_up(min(pause, arriving.since + self._limits.body_seconds))
            else:
                arriving.give_up(None)
                self._end(arriving)
            return message

        async def sent(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        if is_upload:
            self._arriving.append(arriving)
            self._before_upload()
        try:
            async with asyncio.timeout(self._limits.pause_seconds) as arriving.until:
                await self._app(scope, received, _with_headers(sent))
        except TimeoutError:
            if not answered:
                await _refuse(send, 408, "The image took too long to arrive; send it again.")
        finally:
            self._end(arriving)

    def _end(self, arriving: "_Arriving") -> None:
        if arriving in self._arriving:
            self._arriving.remove(arriving)

    def _has_room(self) -> bool:
        """Whether one more upload may begin, perhaps since one that hardly moves is ended.

        That is one of the client who has most of them, and of these the slowest.
        """
        if len(self._arriving) < self._limits.uploads:
            return True
        now = asyncio.get_running_loop().time()
        old = [one for one in self._arriving if now - one.since > _SETTLED_SECONDS]
        if not old:
            return False
        counts = Counter(one.client for one in self._arriving)
        slowest = min(old, key=lambda one: (-counts[one.client], one.bytes / (now - one.since)))
        self._end(slowest)
        slowest.give_up(now)
        return True


@dataclass(eq=False)
class _Arriving:
    """A body that is on its way: from whom, since when (by the clock of the loop), how much."""

    client: str
    since: float
    bytes: int = 0
    until: asyncio.Timeout = field(default_factory=lambda: asyncio.Timeout(None))

    def give_up(self, when: float | None) -> None:
        """Sets the time when it is given up, unless it has ended."""
        with suppress(RuntimeError):
            self.until.reschedule(when)


def refused_sender(
    headers: Collection[tuple[bytes, bytes]], hosts: Collection[str], *, posts: bool
) -> tuple[int, str] | None:
    """Status and sentence with which a request by its origin is refused; None where it is not.

    A page elsewhere may have a name of its own lead to this machine, and any page may send forms.
    `hosts` are names of this server beside those of the machine itself.
    """
    given = [value.decode("latin-1") for name, value in headers if name == b"host"]
    if len(given) != 1 or not _is_own(given[0], hosts):
        return 403, "This page has another name; let a name in by --allow-host."
    origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
    if posts and any(one.lower().rpartition("://")[2] != given[0].lower() for one in origins):
        return 403, "Only this page itself may send something here."
    return None


def _is_own(host: str, hosts: Collection[str]) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name in {own.lower() for own in hosts}:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def refused(method: str, path: str, length: int | None, limits: Limits) -> tuple[int, str] | None:
    """Status and sentence with which a request is refused; None where it is not.

    The path is decoded; `length` are the bytes of the body as it declares, None where it does not.
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
            # Gradio answers any page of this machine, with its cookies; nothing needs that.
            kept = [one for one in message.get("headers", ()) if not one[0].startswith(_SHARING)]
            message = {**message, "headers": [*kept, *HEADERS]}
        await send(message)

    return sent


def is_within(path: str, folder: Path) -> bool:
    """Whether a path, with its links followed, leads into a folder."""
    return Path(path).resolve().is_relative_to(folder.resolve())


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at an interface of this machine; port 0 takes any free one.

    DemoError if the port is in use or not allowed, or the host is not this machine's.
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
    if host in ANY_HOST:
        host = "localhost"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def server_of(app: Any, limits: Limits) -> Any:
    """A server of an ASGI application; its `run(sockets=[...])` serves until it is interrupted.

    On Ctrl-C it waits shortly for requests on their way, then raises `KeyboardInterrupt`. A
    connection without a request is cut off, and so is the oldest of the client who has most, once
    there are too many.
    """
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

    open_ones: list[Any] = []

    class Connection(H11Protocol):
        waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            open_ones.append(self)
            if len(open_ones) > limits.connections:
                counts = Counter(one.client and one.client[0] for one in open_ones)
                most = counts.most_common(1)[0][0]
                next(o for o in open_ones if (o.client and o.client[0]) == most).end()
            self.wait()

        def wait(self) -> None:
            if self.waiting is not None:
                self.waiting.cancel()
            self.waiting = self.loop.call_later(limits.pause_seconds, self.end_idle)

        def end_idle(self) -> None:
            if self.cycle is None or self.cycle.response_complete:
                self.end()

        def end(self) -> None:
            self.leave()
            self.transport.abort()

        def leave(self) -> None:
            if self.waiting is not None:
                self.waiting.cancel()
            if self in open_ones:
                open_ones.remove(self)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self.wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self.leave()
            super().connection_lost(exc)

    config = uvicorn.Config(
        app,
        http=Connection,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=_PATIENCE_SECONDS,
    )
    return uvicorn.Server(config)


def _why(error: OSError) -> str:
    return error.strerror or str(error)
