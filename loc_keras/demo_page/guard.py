"""What a browser may ask of the page's server: the page itself, uploads of bounded size, no more.

It speaks ASGI (the Asynchronous Server Gateway Interface, version 3) and knows nothing of what it
guards, so that a route that the server's package brings along is closed until it is listed here.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from loc_keras.demo_page.limits import MEGABYTE, Limits

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
    most = limits.upload_bytes if path == UPLOAD else limits.question_bytes
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
