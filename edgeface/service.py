"""systemd: readiness, watchdog and status notes, and log lines for the journal.

systemd-python is used where it is installed. Without it the notes are sent as the datagrams that sd_notify(3)
describes, and log lines carry the `<N>` priorities of sd-daemon(3) on stderr: nothing but the structured journal
fields is lost. Outside systemd (no NOTIFY_SOCKET, no JOURNAL_STREAM) notes go nowhere and log lines are plain.
"""

from __future__ import annotations

import logging
import os
import socket
import sys

try:
    import systemd.daemon as _systemd_daemon
    import systemd.journal as _systemd_journal
except ImportError:
    _systemd_daemon = _systemd_journal = None

log = logging.getLogger(__name__)

_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))


def notify(state: str) -> bool:
    """Tell the service manager `state` ("READY=1", "WATCHDOG=1", lines of KEY=VALUE); False when there is none."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    try:
        if _systemd_daemon is not None:
            return bool(_systemd_daemon.notify(state))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as datagram:
            datagram.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
    except OSError as error:  # a manager that has gone must not take us along
        log.debug("the service manager cannot be reached at %s: %s", address, error)
        return False
    return True


def watchdog_period_s() -> float:
    """How often WATCHDOG=1 is due: half of what the unit allows; 0 when it has no watchdog."""
    usec, pid = os.environ.get("WATCHDOG_USEC", "0"), os.environ.get("WATCHDOG_PID", "")
    if pid not in ("", str(os.getpid())) or not usec.isdecimal():
        return 0.0
    return int(usec) / 2e6


def setup_logging(level: int) -> None:
    """Log to the journal under systemd, else to stderr."""
    status = os.fstat(2)
    to_journal = os.environ.get("JOURNAL_STREAM", "") == f"{status.st_dev}:{status.st_ino}"  # systemd.exec(5)
    if to_journal and _systemd_journal is not None:
        handler: logging.Handler = _systemd_journal.JournalHandler(SYSLOG_IDENTIFIER="edgeface")
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_PriorityFormatter() if to_journal else _PLAIN)
    logging.basicConfig(level=level, handlers=[handler], force=True)


class _PriorityFormatter(logging.Formatter):
    """`<4>text`: the journal reads the number as the line's priority."""

    def format(self, record: logging.LogRecord) -> str:
        priority = next(number for level, number in _PRIORITIES if record.levelno >= level)
        return f"<{priority}>{super().format(record)}".replace("\n", f"\n<{priority}>")


_PLAIN = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
