"""Many clients at once, and what no honest client sends: the server stays up and small."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers.hostile_images import HOSTILE, noise, spoilt
from helpers.served_bundles import exported_bundle
from helpers.serving_server import KINDS, MODEL, Server, peak_mb, running

from loc_keras.errors import ServingError
from loc_keras.serving.client import ServingClient
from loc_keras.serving.client_transport import GrpcInterface, RestInterface, Target

pytestmark = pytest.mark.slow

CLIENTS = 50
REQUESTS = 2
MOST_GROWTH_MB = 256
"""One picture of 20,000 x 20,000 px alone takes 381 MB when it is decoded in grey."""

GOOD = [noise(2), noise(3)]


@pytest.fixture(scope="module", params=KINDS)
def server(request):
    _, base = exported_bundle()
    with running(request.param, base) as server:
        for interface in interfaces(server):
            with ServingClient(server.address(interface), MODEL) as client:
                client.predict(GOOD * 16)
        yield server


@pytest.fixture(scope="module")
def alone(server):
    """What `GOOD` are answered, each by itself."""
    with ServingClient(server.rest, MODEL) as client:
        return [client.predict(image) for image in GOOD]


@pytest.fixture(params=["rest", "grpc"])
def client(request, server):
    address = server.address(request.param)
    with ServingClient(address, MODEL, timeout_s=60, max_images=2000, max_bytes=2**30) as client:
        yield client


def interfaces(server: Server) -> list[str]:
    return ["rest", "grpc"] if server.grpc else ["rest"]


def assert_same(answer, expected) -> None:
    # Larger batches may be rounded otherwise.
    assert answer.ok
    assert answer.label == expected.label
    assert answer.score == pytest.approx(expected.score, abs=1e-4)
    assert answer.box_px == pytest.approx(expected.box_px, abs=0.05)


def test_fifty_clients_get_their_own_answers(server):
    images = [noise(seed, width=64, height=48) for seed in range(CLIENTS)]
    with ServingClient(server.rest, MODEL, max_images=1) as client:
        expected = client.predict(images)
    # Each is wider than the one before, so no two have the same box.
    assert len({answer.box_px for answer in expected}) == CLIENTS

    def one(number: int):
        which = interfaces(server)
        address = server.address(which[number % len(which)])
        with ServingClient(address, MODEL, timeout_s=60) as client:
            return [client.predict([images[number], b"bad"]) for _ in range(REQUESTS)]

    with ThreadPoolExecutor(CLIENTS) as threads:
        answers = list(threads.map(one, range(CLIENTS)))
    for told, right in zip(answers, expected, strict=True):
        assert len(told) == REQUESTS
        for good, bad in told:
            assert_same(good, right)
            assert not bad.ok


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_image_gets_a_reason_and_others_their_answer(server, client, alone, kind):
    before = peak_mb(server.pid)
    first, bad, last = client.predict([GOOD[0], HOSTILE[kind], GOOD[1]])
    assert_same(first, alone[0])
    assert_same(last, alone[1])
    assert not bad.ok
    assert bad.reason
    assert peak_mb(server.pid) - before < MOST_GROWTH_MB


def test_a_request_of_hostile_images_alone_is_answered(server, client):
    before = peak_mb(server.pid)
    answers = client.predict(list(HOSTILE.values()) * 4)
    assert not any(answer.ok for answer in answers)
    assert all(answer.reason for answer in answers)
    assert peak_mb(server.pid) - before < MOST_GROWTH_MB


def test_bytes_changed_at_random_bring_nothing_down(client, alone):
    broken = [spoilt(seed, form) for seed, form in enumerate(["jpeg", "png", "gif", "bmp"] * 8)]
    answers = client.predict([*broken, GOOD[1]])
    assert_same(answers[-1], alone[1])
    assert all(one.ok or one.reason for one in answers)


def test_a_thousand_images_in_one_request(server, client):
    images = [noise(0, width=32), noise(1, width=32)]
    expected = client.predict(images)
    before = peak_mb(server.pid)
    answers = client.predict(images * 500)
    assert len(answers) == 1000
    for number, answer in enumerate(answers):
        assert_same(answer, expected[number % 2])
    assert peak_mb(server.pid) - before < MOST_GROWTH_MB


def test_a_request_of_no_image_is_answered_or_refused(server):
    # Our client does not send it; another may.
    rest = RestInterface(server.rest, Target(MODEL))
    with pytest.raises(ServingError, match=r"\(400\): .*No values"):
        rest.ask([])
    grpc = GrpcInterface(server.address("grpc"), Target(MODEL))
    assert grpc.ask([]) == []
    grpc.close()
