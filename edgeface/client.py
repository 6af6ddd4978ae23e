"""What subscribers import: messages from the bus as dicts. Needs only pyzmq and msgpack."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

import zmq

from edgeface import message
from edgeface.message import landmark_points, landmark_scores

__all__ = ["Subscriber", "landmark_points", "landmark_scores"]


class Subscriber:
    """Receives one daemon's messages.

        with Subscriber("ipc:///tmp/edgeface-cam0.ipc") as bus:
            for topic, body in bus:
                ...

    `lost` counts messages that never came (gaps in `seq`), `malformed` those that were not of this schema.
    """

    def __init__(self, endpoint: str, topics: Iterable[str] = message.TOPICS, camera: str = "") -> None:
        """Subscribe to `topics` of `camera` (empty: any camera). Raises ValueError for a wrong topic or endpoint."""
        self.lost = self.malformed = 0
        self._next_seq: dict[tuple[bytes, str], int] = {}
        self._topics = tuple(topics)
        for topic in self._topics:
            if topic not in message.TOPICS:
                raise ValueError(f"topic {topic!r}: expected one of {', '.join(message.TOPICS)}")
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, message.MAX_MESSAGE_BYTES)
        self._socket.setsockopt(zmq.RCVHWM, 1000)
        if camera:
            for topic in self._topics:
                self._socket.subscribe(message.topic_name(camera, topic))
        else:  # prefixes cannot leave the camera open and name the topic: receive() sorts out the rest
            self._socket.subscribe(f"edgeface/{message.SCHEMA}/")
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise ValueError(
                f"endpoint {endpoint!r}: {error.strerror}; expected ipc:///path or tcp://host:port"
            ) from error

    def receive(self, timeout_s: float | None = None) -> tuple[str, dict[str, Any]] | None:
        """The next message as (topic, body), or None after `timeout_s` seconds (None: wait for ever)."""
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while self._socket.poll(None if deadline_s is None else max(round((deadline_s - time.monotonic()) * 1000), 0)):
            parts = self._socket.recv_multipart()
            topic = parts[0].decode("ascii", "replace").rstrip("/").rpartition("/")[2]
            if topic not in self._topics:
                continue
            try:
                if len(parts) != 2:
                    raise ValueError(f"message of {len(parts)} frames; expected 2")
                body = message.decode(parts[1])
                self._count_lost(parts[0], body)
            except ValueError:
                self.malformed += 1
                continue
            return topic, body
        return None

    def _count_lost(self, topic: bytes, body: dict[str, Any]) -> None:
        seq, run_id = body.get("seq"), body.get("run_id")
        if not isinstance(seq, int) or not isinstance(run_id, str):
            raise ValueError("a message without seq and run_id")
        expected = self._next_seq.get((topic, run_id))
        if expected is None:
            self._next_seq = {key: value for key, value in self._next_seq.items() if key[0] != topic}
        else:
            self.lost += max(seq - expected, 0)
        self._next_seq[topic, run_id] = max(seq + 1, expected or 0)

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        while True:
            received = self.receive()
            if received is not None:
                yield received

    def close(self) -> None:
        self._socket.close()
        self._context.term()

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
