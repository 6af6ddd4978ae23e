"""The bus: the wire schema, late joiners, sequence numbers, slow and hostile readers."""

from __future__ import annotations

import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgpack
import numpy as np
import pytest
import zmq
from fakes import detections, frame, tracker
from hypothesis import example, given
from hypothesis import strategies as st

from edgeface import message
from edgeface.client import Subscriber, landmark_points, landmark_scores
from edgeface.errors import ConfigError
from edgeface.publisher import ZmqPublisher
from edgeface.values import HeadPoses, Landmarks, Quality, Signals


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/bus.ipc"


@pytest.fixture
def publisher(endpoint: str) -> Iterator[ZmqPublisher]:
    opened = ZmqPublisher(endpoint, "front", 30.0)
    yield opened
    opened.close()


def joined(publisher: ZmqPublisher, bus: Subscriber) -> None:
    """Wait until the subscription has arrived."""
    publisher.send("status", {"state": "ready"})
    deadline = time.monotonic() + 5
    while bus.receive(0.02) is None:
        publisher.serve()
        assert time.monotonic() < deadline


LANDMARKS = Landmarks(np.array([[[11, 22], [13.5, 24]]], np.float32), np.array([[0.5, 0.25]], np.float32))


def faces_body(landmarks: Landmarks = LANDMARKS, signals: Signals | None = None) -> dict[str, object]:
    one = np.ones(1, np.float32)
    poses = HeadPoses(np.array([[0, 0, 0, 1]], np.float32), np.zeros((1, 3), np.float32), np.ones((1, 3)), one)
    quality = Quality(one, one, one, one, one, one, one)
    return message.faces_body(
        frame(),
        tracker().update(detections((10, 20, 30, 50)), 0),
        dropped=0,
        keyframe_age=0,
        keyframe_reason="start",
        mode="fixed",
        timing_us={"faces": 7},
        landmarks=landmarks,
        signals=signals or Signals(poses, np.array([[0.5, 1]], np.float32), quality),
    )


def test_a_faces_message_has_every_field_of_the_schema(publisher: ZmqPublisher, endpoint: str) -> None:
    with Subscriber(endpoint, ["faces", "status"]) as bus:
        joined(publisher, bus)
        before_ns = time.monotonic_ns()
        publisher.send("faces", faces_body())
        topic, body = bus.receive(5.0)
    assert topic == "faces"
    expected = {
        "schema": int, "camera": str, "run_id": str, "seq": int, "frame_id": int, "width": int, "height": int,
        "capture_ns": int, "publish_ns": int, "mono_to_real_ns": int, "capture_clock": str, "dropped": int,
        "keyframe": bool, "keyframe_age": int, "keyframe_reason": str, "mode": str, "timing_us": dict, "faces": list,
    }  # fmt: skip
    assert {key: type(value) for key, value in body.items()} == expected
    (face,) = body["faces"]
    expected = {
        "track_id": int, "score": float, "xyxy": list, "velocity": list, "source": str, "age_ms": int,
        "track_age_ms": int, "keypoints": list, "landmarks": dict, "pose": dict, "eyes": dict, "quality": dict,
    }  # fmt: skip
    assert {key: type(value) for key, value in face.items()} == expected
    assert {key: type(value) for key, value in face["landmarks"].items()} == {"n": int, "xy": bytes, "score": bytes}
    assert list(face["pose"]) == ["yaw", "pitch", "roll", "q", "position_m", "error"]
    assert face["eyes"] == {"right": 0.5, "left": 1}
    assert list(face["quality"]) == list(message.QUALITIES)
    assert landmark_points(face["landmarks"]) == [(11, 22), (13.5, 24)]
    assert landmark_scores(face["landmarks"]) == [0.5, 0.25]
    assert face["xyxy"] == pytest.approx([10, 20, 30, 50], abs=1e-4)
    assert (body["schema"], body["camera"], body["seq"]) == (1, "front", 0)
    assert before_ns <= body["publish_ns"] <= time.monotonic_ns()
    assert abs(body["publish_ns"] + body["mono_to_real_ns"] - time.time_ns()) < 2e9


def test_what_cannot_be_told_is_left_out() -> None:
    nobody = Landmarks(np.zeros((0, 0, 2), np.float32), np.zeros((0, 0), np.float32))
    for without in (nobody, Landmarks(np.full((1, 2, 2), np.nan, np.float32), np.full((1, 2), np.nan, np.float32))):
        (face,) = faces_body(without)["faces"]
        assert not {"landmarks", "pose", "eyes", "quality"} & set(face)
    (face,) = faces_body(signals=Signals())["faces"]
    assert "landmarks" in face
    assert not {"pose", "eyes", "quality"} & set(face)
    one, unknown = np.ones(1, np.float32), np.full(1, np.nan, np.float32)
    nowhere = HeadPoses(*(np.full((1, size), np.nan, np.float32) for size in (4, 3, 3)), unknown)
    quality = Quality(one, unknown, one, one, one, unknown, one)
    (face,) = faces_body(signals=Signals(nowhere, np.array([[np.nan, 0.5]], np.float32), quality))["faces"]
    assert "pose" not in face
    assert face["eyes"] == {"left": 0.5}
    assert list(face["quality"]) == ["size_px", "brightness", "clipped", "landmark_score", "outside"]
    (face,) = faces_body(signals=Signals(openness=np.full((1, 2), np.nan, np.float32)))["faces"]
    assert "eyes" not in face


def numbers(value: object) -> Iterator[float]:
    """All floats in a message, also those of landmarks."""
    if isinstance(value, dict):
        if {"n", "xy", "score"} <= set(value):
            yield from np.ravel(landmark_points(value))
            yield from landmark_scores(value)
        for item in value.values():
            yield from numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, float):
        yield value


@given(st.integers(1, 4), st.data())
def test_no_message_has_a_nan(count: int, data: st.DataObject) -> None:
    """Faces of which anything may be unknown: a row of NaN."""

    def some(*shape: int) -> np.ndarray:
        rows = np.ones((count, *shape), np.float32)
        rows[[row for row in range(count) if data.draw(st.booleans())]] = np.nan
        return rows

    xy, error = some(68, 2), some()
    unknown = np.where(np.isnan(error), np.nan, 1).astype(np.float32)[:, None]
    poses = HeadPoses(np.tile(unknown, 4), np.tile(unknown, 3), np.tile(unknown, 3), error)
    body = message.faces_body(
        frame(),
        tracker().update(detections(*[(100.0 * row, 20, 100.0 * row + 50, 80) for row in range(count)]), 0),
        dropped=0,
        keyframe_age=0,
        keyframe_reason="start",
        mode="fixed",
        timing_us={},
        landmarks=Landmarks(xy, xy[:, :, 0]),
        signals=Signals(poses, np.stack([some(), some()], axis=1), Quality(*(some() for _ in message.QUALITIES))),
    )
    sent = message.decode(message.encode(body | {"schema": 1}))
    assert np.isfinite(list(numbers(sent))).all()
    assert ["landmarks" in face for face in sent["faces"]] == np.isfinite(xy[:, 0, 0]).tolist()


def test_rows_are_the_faces_own_also_where_another_is_left_out() -> None:
    """The first face lies outside the frame."""
    xy = np.array([[[1, 1]], [[2, 2]], [[3, 3]]], np.float32)
    three = np.arange(3, dtype=np.float32)
    poses = HeadPoses(np.zeros((3, 4), np.float32), np.tile(three[:, None], 3), np.zeros((3, 3), np.float32), three)
    quality = Quality(*[three] * len(message.QUALITIES))
    body = message.faces_body(
        frame(),
        tracker().update(detections((-90, 20, -30, 50), (10, 20, 30, 50), (100, 20, 130, 50)), 0),
        dropped=0,
        keyframe_age=0,
        keyframe_reason="start",
        mode="fixed",
        timing_us={},
        landmarks=Landmarks(xy, xy[:, :, 0] / 4),
        signals=Signals(poses, np.stack([three, three], axis=1) / 2, quality),
    )
    for row, face in enumerate(body["faces"], 1):
        assert face["xyxy"][0] == pytest.approx([None, 10, 100][row], abs=1e-3)
        assert landmark_points(face["landmarks"]) == [(row + 1, row + 1)]
        assert landmark_scores(face["landmarks"]) == [(row + 1) / 4]
        assert (face["pose"]["yaw"], face["pose"]["error"]) == (row, row)
        assert face["eyes"] == {"right": row / 2, "left": row / 2}
        assert face["quality"]["blur"] == row
    assert len(body["faces"]) == 2


@pytest.mark.parametrize(
    "landmarks",
    [
        {},
        {"n": 1},
        {"n": 2, "xy": b"12345678", "score": b"1234"},
        {"n": -1, "xy": b"12345678", "score": b"1234"},
        {"n": 10**30, "xy": b"", "score": b""},
        {"n": 1.0, "xy": b"12345678", "score": b"1234"},
        {"n": "1", "xy": b"12345678", "score": b"1234"},
        {"n": None, "xy": b"", "score": b""},
        {"n": 1, "xy": "12345678", "score": "1234"},
        {"n": 1, "xy": [1.0, 2.0], "score": [1.0]},
        {"n": 1, "xy": b"1234567", "score": b"123"},
        {"xy": b"12345678", "score": b"1234"},
    ],
)
def test_landmarks_that_are_none_raise_value_error(landmarks: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected landmarks with xy of 8 bytes for each of n points"):
        landmark_points(landmarks)
    with pytest.raises(ValueError, match="expected landmarks with score of 4 bytes for each of n points"):
        landmark_scores(landmarks)


hostile = st.one_of(st.none(), st.booleans(), st.integers(-2, 3), st.floats(), st.binary(max_size=24), st.text())


@example({"n": True, "xy": b"12345678", "score": b"1234"})
@given(st.dictionaries(st.sampled_from(["n", "xy", "score", "more"]), hostile, max_size=4))
def test_reading_landmarks_raises_value_error_and_nothing_else(landmarks: dict[str, object]) -> None:
    for read in (landmark_points, landmark_scores):
        try:
            assert len(read(landmarks)) == landmarks["n"]
        except ValueError as error:
            assert str(error)


@pytest.mark.parametrize("count", [0, 1, 68, 104])
def test_landmarks_are_little_endian_floats(count: int) -> None:
    xy, score = np.random.default_rng(0).random((count, 2), np.float32), np.linspace(0, 1, count, dtype=np.float32)
    landmarks = {"n": count, "xy": xy.astype("<f4").tobytes(), "score": score.astype("<f4").tobytes()}
    np.testing.assert_array_equal(np.reshape(landmark_points(landmarks), (-1, 2)), xy)
    assert landmark_scores(landmarks) == score.tolist()
    if count:
        sent = faces_body(Landmarks(xy[None].astype(">f4"), score[None].astype(np.float64)))["faces"][0]["landmarks"]
        assert sent == landmarks


def test_two_frames_a_message_topic_first(publisher: ZmqPublisher, endpoint: str) -> None:
    socket = zmq.Context.instance().socket(zmq.SUB)
    socket.subscribe("edgeface/1/front/status/")
    socket.connect(endpoint)
    publisher.send("status", {"state": "ready"})
    deadline = time.monotonic() + 5
    while not socket.poll(20):
        publisher.serve()
        assert time.monotonic() < deadline
    topic, payload = socket.recv_multipart()
    socket.close(0)
    assert topic == b"edgeface/1/front/status/"
    assert msgpack.unpackb(payload)["state"] == "ready"


def test_every_late_joiner_gets_the_last_status_at_once(publisher: ZmqPublisher, endpoint: str) -> None:
    publisher.send("status", {"state": "starting"})
    publisher.send("status", {"state": "ready"})
    for topics in (["status"], ["status"], message.TOPICS):  # also a second one with the same subscription
        with Subscriber(endpoint, topics, camera="front") as bus:
            deadline = time.monotonic() + 5
            while (received := bus.receive(0.02)) is None:
                publisher.serve()
                assert time.monotonic() < deadline
        assert received[1]["state"] == "ready"
        assert received[1]["seq"] == 1


def test_a_reader_of_faces_alone_gets_no_status(publisher: ZmqPublisher, endpoint: str) -> None:
    publisher.send("status", {"state": "ready"})
    with Subscriber(endpoint, ["faces"], camera="front") as bus:
        for _ in range(20):
            publisher.serve()
            assert bus.receive(0.01) is None


def test_a_camera_whose_name_begins_alike_is_not_mixed_up(publisher: ZmqPublisher, endpoint: str) -> None:
    with Subscriber(endpoint, ["status"], camera="fron") as bus:
        publisher.send("status", {"state": "ready"})
        for _ in range(20):
            publisher.serve()
            assert bus.receive(0.01) is None


def test_seq_counts_each_topic_without_gaps(publisher: ZmqPublisher, endpoint: str) -> None:
    with Subscriber(endpoint) as bus:
        joined(publisher, bus)
        for _ in range(20):
            publisher.send("faces", {})
            publisher.send("events", {"event": "track_started"})
        seen: dict[str, list[int]] = {"faces": [], "events": [], "status": []}
        for _ in range(40):
            topic, body = bus.receive(5.0)
            seen[topic].append(body["seq"])
        assert seen["faces"] == seen["events"] == list(range(20))
        assert bus.lost == 0


def test_a_slow_reader_loses_messages_and_blocks_nobody(publisher: ZmqPublisher, endpoint: str) -> None:
    with Subscriber(endpoint, ["faces", "status"]) as bus:
        bus._socket.setsockopt(zmq.RCVBUF, 4096)
        joined(publisher, bus)
        padding = {"mode": "x" * 20_000}
        slowest = 0.0
        for _ in range(5000):
            begun = time.perf_counter()
            publisher.send("faces", padding)
            slowest = max(slowest, time.perf_counter() - begun)
        assert slowest < 0.25
        while bus.receive(0.2) is not None:
            pass
        publisher.send("faces", {})
        assert bus.receive(5.0) is not None
        assert bus.lost > 0


def test_a_reader_that_sends_rubbish_is_ignored(publisher: ZmqPublisher, endpoint: str) -> None:
    hostile = zmq.Context.instance().socket(zmq.XSUB)
    hostile.setsockopt(zmq.LINGER, 0)
    hostile.connect(endpoint)
    for payload in (b"", b"\x02junk", b"\x01" + b"x" * 100_000, b"\x00", b"\xff" * 5000):
        hostile.send(payload)
    with Subscriber(endpoint) as bus:
        joined(publisher, bus)
        publisher.send("faces", {})
        assert bus.receive(5.0) is not None
    hostile.close()


# --- binding


def test_a_second_daemon_on_the_same_endpoint_is_refused(publisher: ZmqPublisher, endpoint: str) -> None:
    with pytest.raises(ConfigError, match="another edgeface publishes here"):
        ZmqPublisher(endpoint, "front", 30.0)
    with Subscriber(endpoint) as bus:  # and the first one still has its socket
        joined(publisher, bus)


def test_a_lock_file_that_was_cleaned_away_does_not_open_the_door(publisher: ZmqPublisher, endpoint: str) -> None:
    Path(endpoint.removeprefix("ipc://") + ".lock").unlink()
    with pytest.raises(ConfigError, match="another edgeface publishes here"):
        ZmqPublisher(endpoint, "front", 30.0)


def test_the_endpoint_is_free_again_after_closing(endpoint: str) -> None:
    for _ in range(2):
        ZmqPublisher(endpoint, "front", 30.0).close()


def test_a_socket_left_by_a_dead_daemon_is_taken_over(endpoint: str) -> None:
    path = Path(endpoint.removeprefix("ipc://"))
    import socket

    leftover = socket.socket(socket.AF_UNIX)
    leftover.bind(str(path))
    leftover.close()
    opened = ZmqPublisher(endpoint, "front", 30.0)
    with Subscriber(endpoint) as bus:
        joined(opened, bus)
    opened.close()


def test_others_than_the_group_cannot_read(publisher: ZmqPublisher, endpoint: str) -> None:
    mode = Path(endpoint.removeprefix("ipc://")).stat().st_mode
    assert stat.S_IMODE(mode) == 0o660


@pytest.mark.parametrize(
    ("endpoint", "complaint"),
    [
        ("ipc:///no/such/folder/a.ipc", "cannot write there: No such file"),
        ("ipc:///proc/a.ipc", "cannot write there"),
        ("ipc://relative.ipc", "absolute path"),
        ("ipc:///tmp/" + "x" * 120, "at most 107 bytes"),
        ("ipc:///dev/null", "not a socket"),
        ("tcp://nowhere.invalid:1", "cannot bind"),
        ("tcp://127.0.0.1:x", "cannot bind"),
        ("nonsense", "expected ipc:///absolute/path or tcp"),
        ("inproc://x", "expected ipc:///absolute/path or tcp"),
    ],
)
def test_endpoints_that_cannot_be_bound(endpoint: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        ZmqPublisher(endpoint, "front", 30.0)
    assert "\n" not in str(caught.value)


def test_tcp_when_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    probe = zmq.Context.instance().socket(zmq.REP)
    port = probe.bind_to_random_port("tcp://127.0.0.1")
    with pytest.raises(ConfigError, match="Address already in use"):
        ZmqPublisher(f"tcp://127.0.0.1:{port}", "front", 30.0)
    probe.close()
    assert "anybody" not in caplog.text
    ZmqPublisher("tcp://127.0.0.1:*", "front", 30.0).close()
    assert "anybody" not in caplog.text
    ZmqPublisher("tcp://0.0.0.0:*", "front", 30.0).close()
    assert "anybody who reaches this address" in caplog.text


# --- reading


def test_a_restart_is_no_loss(endpoint: str) -> None:
    with Subscriber(endpoint, ["status"]) as bus:
        for _ in range(2):
            opened = ZmqPublisher(endpoint, "front", 30.0)
            joined(opened, bus)
            for _ in range(5):
                opened.send("status", {"state": "ready"})
            opened.close()
        assert bus.lost == 0


def test_a_time_out_holds_also_while_other_topics_flow(publisher: ZmqPublisher, endpoint: str) -> None:
    stop = threading.Event()

    def flow() -> None:
        while not stop.wait(0.02):
            publisher.send("faces", {})

    with Subscriber(endpoint, ["events"]) as bus:
        sender = threading.Thread(target=flow)
        sender.start()
        begun = time.monotonic()
        assert bus.receive(0.4) is None
        assert time.monotonic() - begun < 1.5
        stop.set()
        sender.join()


def test_endpoints_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="expected ipc:///path or tcp://host:port"):
        Subscriber("foo")


def test_unknown_topics_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one of faces, status, events"):
        Subscriber("ipc:///tmp/x", ["face"])


def test_malformed_messages_are_counted_and_passed_over(endpoint: str) -> None:
    rogue = zmq.Context.instance().socket(zmq.XPUB)
    rogue.setsockopt(zmq.LINGER, 0)
    rogue.bind(endpoint)
    good = {"schema": 1, "seq": 0, "run_id": "a"}
    with Subscriber(endpoint) as bus:
        assert rogue.poll(5000)
        for parts in (
            [b"edgeface/1/x/faces/"],
            [b"edgeface/1/x/faces/", b"\xc1"],
            [b"edgeface/1/x/faces/", msgpack.packb([1])],
            [b"edgeface/1/x/faces/", msgpack.packb(good | {"schema": 2})],
            [b"edgeface/1/x/faces/", msgpack.packb({"schema": 1})],
            [b"edgeface/1/x/faces/", b"\xdf\xff\xff\xff\xff"],
            [b"edgeface/1/x/other/", msgpack.packb(good)],
            [b"edgeface/1/x/faces/", msgpack.packb(good | {"later": "key"})],
        ):
            rogue.send_multipart(parts)
        assert bus.receive(5.0) == ("faces", good | {"later": "key"})
        assert bus.malformed == 6
    rogue.close()


def test_goodbye_arrives_although_the_publisher_closes_at_once(endpoint: str) -> None:
    for _ in range(20):
        opened = ZmqPublisher(endpoint, "front", 30.0)
        with Subscriber(endpoint) as bus:
            joined(opened, bus)
            for _ in range(50):
                opened.send("faces", {"mode": "x" * 2000})
            opened.send("status", {"state": "stopped"})
            opened.close()
            last = None
            while (received := bus.receive(0.3)) is not None:
                last = received
        assert last[1]["state"] == "stopped"


@given(st.binary(max_size=200))
def test_decoding_rubbish_raises_value_error_and_nothing_else(payload: bytes) -> None:
    try:
        assert message.decode(payload)["schema"] == 1
    except ValueError as error:
        assert str(error)


def test_huge_messages_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at most"):
        message.decode(b"\x80" * (message.MAX_MESSAGE_BYTES + 1))


def test_default_endpoints() -> None:
    assert message.default_endpoint("front") == "ipc:///tmp/edgeface-front.ipc"
    assert message.default_endpoint("front", "/run/edgeface") == "ipc:///run/edgeface/front.ipc"
