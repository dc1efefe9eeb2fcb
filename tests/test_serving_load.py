"""Many clients at once, and what no honest client sends: the server stays up and small."""

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from serving_server import KINDS, MODEL, peak_mb, running
from tiny_bundle import write_tiny_bundle

from loc_keras.errors import ServingError
from loc_keras.serving.client import ServingClient

CLIENTS = 50
REQUESTS = 2
MOST_GROWTH_MB = 256
"""One picture of 20,000 x 20,000 px alone takes 381 MB when it is decoded in grey."""


@pytest.fixture(scope="module", params=KINDS)
def server(request, tmp_path_factory):
    base = tmp_path_factory.mktemp("served")
    write_tiny_bundle(base / "1")
    with running(request.param, base) as server:
        for interface in ("rest", *(["grpc"] if server.grpc else [])):
            with ServingClient(server.address(interface), MODEL) as client:
                client.predict([noise(seed=0)] * 32)
        yield server


@pytest.fixture(params=["rest", "grpc"])
def client(request, server):
    with ServingClient(
        server.address(request.param), MODEL, timeout_s=60, max_images=2000, max_bytes=2**30
    ) as client:
        yield client


def noise(seed: int, form: str = "jpeg", width: int = 320, height: int = 240) -> bytes:
    """A picture of random pixels; brightness and size follow from the seed."""
    rng = np.random.default_rng(seed)
    low, high = (0, 100) if seed % 2 else (150, 250)
    pixels = rng.integers(low, high, (height, width + seed, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def png_of(width: int, height: int, data: bytes = b"") -> bytes:
    """A grey PNG of one bit a pixel by the letter of its specification (W3C, 2003)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def bomb(side: int) -> bytes:
    """A whole and valid picture: a few kB, and side * side bytes when it is decoded."""
    line = bytes(1 + (side + 7) // 8)
    return png_of(side, side, zlib.compress(line * side))


def test_fifty_clients_get_their_own_answers(server):
    images = [noise(seed, width=64, height=48) for seed in range(CLIENTS)]
    interfaces = ["rest", "grpc"] if server.grpc else ["rest"]

    def one(number: int):
        address = server.address(interfaces[number % len(interfaces)])
        with ServingClient(address, MODEL, timeout_s=60) as client:
            return [client.predict([images[number], b"bad"]) for _ in range(REQUESTS)]

    with ThreadPoolExecutor(CLIENTS) as threads:
        answers = list(threads.map(one, range(CLIENTS)))
    for number, told in enumerate(answers):
        width = 64 + number
        for good, bad in told:
            assert good.label == ("dark" if number % 2 else "bright")
            assert good.box_px == pytest.approx((width / 4, 12, 3 * width / 4, 36))
            assert not bad.ok


HOSTILE = {
    "0 bytes": b"",
    "half a JPEG": noise(1)[: len(noise(1)) // 2],
    "a JPEG's first bytes": noise(1)[:11],
    "half a PNG": noise(1, "png")[:5000],
    "a PNG's first bytes": noise(1, "png")[:20],
    "half a GIF": noise(1, "gif")[:3000],
    "half a BMP": noise(1, "bmp")[:3000],
    "a header of 20,000 x 20,000 px": png_of(20_000, 20_000),
    "a picture of 20,000 x 20,000 px": bomb(20_000),
    "a header of 2**31 - 1 px a side": png_of(2**31 - 1, 2**31 - 1),
    "no pixel": png_of(0, 0),
    "a page": b"<html></html>",
    "zeros": bytes(100_000),
    "text": "çà et là".encode(),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_image_gets_a_reason_and_others_their_answer(server, client, kind):
    before = peak_mb(server.pid)
    first, bad, last = client.predict([noise(2), HOSTILE[kind], noise(3)])
    assert (first.label, last.label) == ("bright", "dark")
    assert not bad.ok
    assert bad.reason
    assert peak_mb(server.pid) - before < MOST_GROWTH_MB


def test_bytes_changed_at_random_bring_nothing_down(client):
    rng = np.random.default_rng(0)
    broken = []
    for seed, form in enumerate(["jpeg", "png", "gif", "bmp"] * 8):
        data = bytearray(noise(seed, form, 32, 24))
        for place in rng.integers(0, min(len(data), 200), 4):
            data[place] = rng.integers(256)
        broken.append(bytes(data))
    answers = client.predict([*broken, noise(3)])
    assert answers[-1].label == "dark"
    assert all(one.ok or one.reason for one in answers)


def test_a_thousand_images_in_one_request(server, client):
    before = peak_mb(server.pid)
    answers = client.predict([noise(0, width=32), noise(1, width=32)] * 500)
    assert [one.label for one in answers] == ["bright", "dark"] * 500
    assert peak_mb(server.pid) - before < MOST_GROWTH_MB


def test_a_request_of_no_image_is_answered_or_refused(server):
    # Our client does not send it; another may.
    from loc_keras.serving.client_grpc import GrpcInterface
    from loc_keras.serving.client_rest import RestInterface

    rest = RestInterface(server.rest, MODEL, None, "serving_default", 30.0, {})
    with pytest.raises(ServingError, match=r"\(400\): .*No values"):
        rest.ask([])
    target = server.address("grpc")
    grpc = GrpcInterface(target, MODEL, None, "serving_default", 30.0, {}, secure=False)
    assert grpc.ask([]) == []
    grpc.close()
