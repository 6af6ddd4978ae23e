"""The ZeroMQ publisher: XPUB, one socket a daemon, last status for late joiners, never blocking."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import stat
import time
import uuid
from pathlib import Path
from typing import Any

import zmq

from edgeface import message
from edgeface.errors import ConfigError

log = logging.getLogger(__name__)

_IPC_PATH_MAX = 107  # bytes of a UNIX socket's path
_EVENTS_PER_CALL = 64  # subscriptions handled in one go: a flood of them delays no frame
_FAREWELL_MS = 100  # how long the last messages (`stopped`) may take to leave when we close
_UNKNOWN_HZ = 60.0
_BACKLOG_S = 2.0  # what a slow reader may be behind before it loses messages


class ZmqPublisher:
    """Publishes a camera's messages at `endpoint`. An ipc endpoint is locked first: two daemons cannot share it."""

    def __init__(self, endpoint: str, camera: str, expected_hz: float) -> None:
        self._camera = camera
        self._run_id = uuid.uuid4().hex
        self._seq = dict.fromkeys(message.TOPICS, 0)
        self._topic = {topic: message.topic_name(camera, topic).encode() for topic in message.TOPICS}
        self._last_status: list[bytes] = []
        if not endpoint.startswith(("ipc://", "tcp://")):
            raise ConfigError(f"endpoint {endpoint}: expected ipc:///absolute/path or tcp://address:port")
        self._lock = _lock(endpoint) if endpoint.startswith("ipc://") else None
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)  # a second subscriber to the same topic is an event too
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, max(10, round(_BACKLOG_S * (expected_hz or _UNKNOWN_HZ))))
        self._socket.setsockopt(zmq.MAXMSGSIZE, 4096)  # readers send us subscriptions, nothing larger
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, 1000)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3000)
        try:
            self._socket.bind(endpoint)
            if self._lock is not None:
                _socket_path(endpoint).chmod(0o660)
        except (zmq.ZMQError, OSError) as error:
            self.close()
            raise ConfigError(f"endpoint {endpoint}: cannot bind: {error.strerror or error}") from error
        if endpoint.startswith("tcp://") and not endpoint.startswith(("tcp://127.", "tcp://localhost", "tcp://[::1]")):
            log.warning("%s: anybody who reaches this address can read what the camera sees", endpoint)

    def send(self, topic: str, body: dict[str, Any]) -> int:
        """Send `body` under `topic` (one of message.TOPICS), with seq, clocks and names added; the publish time."""
        publish_ns = time.monotonic_ns()
        envelope = {
            "schema": message.SCHEMA,
            "camera": self._camera,
            "run_id": self._run_id,
            "seq": self._seq[topic],
            "publish_ns": publish_ns,
            "mono_to_real_ns": time.time_ns() - publish_ns,
        }
        self._seq[topic] += 1
        parts = [self._topic[topic], message.encode(envelope | body)]
        if topic == "status":
            self._last_status = parts
        self._socket.send_multipart(parts, zmq.NOBLOCK)  # XPUB drops for a full reader, it never waits
        return publish_ns

    def serve(self) -> None:
        """Answer new subscriptions with the last status."""
        for _ in range(_EVENTS_PER_CALL):
            try:
                event = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            if event[:1] == b"\x01" and self._last_status and self._last_status[0].startswith(event[1:]):
                self._socket.send_multipart(self._last_status, zmq.NOBLOCK)

    def close(self) -> None:
        self._socket.close(linger=_FAREWELL_MS)
        self._context.term()
        if self._lock is not None:
            os.close(self._lock)


def _socket_path(endpoint: str) -> Path:
    return Path(endpoint.removeprefix("ipc://"))


def _lock(endpoint: str) -> int:
    """Take the lock beside an ipc socket; the open file. A bind would silently steal the socket of another daemon."""
    path = _socket_path(endpoint)
    if not path.is_absolute() or len(os.fsencode(path)) > _IPC_PATH_MAX:
        raise ConfigError(
            f"endpoint {endpoint}: expected an absolute path of at most {_IPC_PATH_MAX} bytes after ipc://"
        )
    try:
        if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
            raise ConfigError(f"endpoint {endpoint}: there is something that is not a socket; choose another path")
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"endpoint {endpoint}: cannot write there: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        taken = _answers(path)  # somebody without our lock, or whose lock file was cleaned away
    except OSError:
        taken = True
    if taken:
        os.close(lock)
        raise ConfigError(f"endpoint {endpoint}: another edgeface publishes here; stop it or take another")
    return lock


def _answers(path: Path) -> bool:
    """Whether a process listens on the socket at `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        return probe.connect_ex(str(path)) == 0
