"""Get a card's weights: licence first, checksum before they get their name."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urldefrag

from edgeface.errors import ConfigError, EdgefaceError, EngineError, one_line
from edgeface.model_card import Card, find_onnx, target_folder
from edgeface.models.download import Limits, Progress, download, forget

_BLOCK_BYTES = 1 << 20
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def pull(
    card: Card,
    engines: Sequence[str],
    *,
    sha256: str = "",
    commercial: bool = False,
    progress: Progress,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
) -> tuple[Path, bool]:
    """Put the card's ONNX into an engines folder or over a damaged one. Returns where, and whether it had to come.

    `sha256`: for a card that has none. `commercial`: refuse what may not be used so. Raises ConfigError, EdgefaceError
    (the network, the disk), EngineError (another file than the card's). A part of it that has come stays for next time.
    """
    if commercial and card.commercial in (False, "unknown"):
        why = "commercial use is not allowed" if card.commercial is False else "its card does not say what it allows"
        raise ConfigError(f"{card.name}: refused under --profile commercial: {why}: {card.licence}; {card.allows}")
    if sha256 and card.sha256 and sha256 != card.sha256:
        raise ConfigError(f"{card.name}: --sha256 is not the card's, which is {card.sha256}")
    wanted, present = card.sha256 or sha256, find_onnx(card)
    if wanted and present is not None and sha256_of(present) == wanted:
        return present, False
    if not card.url:
        raise ConfigError(
            f"{card.name}: no address to download it from; get it from {card.source} "
            f"(licence: {card.licence}; {card.allows}) and put it into {(engines or card.folders)[0]} as {card.onnx}"
        )
    if not wanted:
        raise ConfigError(f"{card.name}: its card has no sha256 to check it by: give the one you trust with --sha256")
    url, member = urldefrag(card.url)
    target = present or target_folder(card, engines) / card.onnx
    partial = target.with_name(f".{card.onnx}.partial")
    with _alone(target.parent):
        try:
            download(url, partial, limits=limits, progress=progress)
            if member:
                _install_member(partial, unquote(member), target, wanted, url, limits)
            else:
                _install(partial, target, wanted, url)
        except KeyboardInterrupt as error:
            raise EdgefaceError(f"{card.name}: stopped; the same command goes on with what has come") from error
        except OSError as error:
            raise EdgefaceError(f"{target}: cannot be written: {error.strerror}") from error
        forget(partial)
    return target, True


def sha256_of(path: Path) -> str:
    """The checksum of a file of any size."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _install(path: Path, target: Path, wanted: str, url: str) -> None:
    """Give a whole file its name. What is another file goes, so that the next download begins anew."""
    found = sha256_of(path)
    if found != wanted:
        forget(path)
        raise EngineError(f"{url}: expected sha256 {wanted[:16]}..., found {found[:16]}...: refused")
    path.replace(target)


def _install_member(archive: Path, member: str, target: Path, wanted: str, url: str, limits: Limits) -> None:
    """The same for one file of a zip archive, wherever in it: of its path only the last name counts."""
    unpacked = target.with_name(f".{target.name}.unpacked.partial")
    try:
        with zipfile.ZipFile(archive) as files:
            one = _only(files, member)
            if one.file_size > limits.most_bytes:
                raise zipfile.BadZipFile(f"{member} has {one.file_size} bytes")
            with files.open(one) as source, unpacked.open("wb") as file:  # gives no more than file_size
                shutil.copyfileobj(source, file, _BLOCK_BYTES)
                file.flush()
                os.fsync(file.fileno())
        _install(unpacked, target, wanted, f"{url}: {member}")
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error, struct.error) as error:
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            raise  # the archive is good
        forget(archive)
        raise EngineError(f"{url}: no zip archive with {member}: {ascii(one_line(error))[1:-1]}") from error
    except EngineError:
        forget(archive)
        raise
    finally:
        unpacked.unlink(missing_ok=True)


def _only(files: zipfile.ZipFile, member: str) -> zipfile.ZipInfo:
    """The one file of this name. Raises BadZipFile."""
    found = [one for one in files.infolist() if PurePosixPath(one.filename).name == member and not one.is_dir()]
    if len(found) != 1 or found[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile(f"expected one such file, stored or deflated, found {len(found)}")
    return found[0]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One download into a folder at a time: the folder itself is locked, so that no lock file is left behind."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise EdgefaceError(f"{folder}: another download into it is under way") from error
    try:
        yield
    finally:
        os.close(descriptor)
