"""What a network is calibrated on: a folder of pictures, a glob, a list of them, or every n-th frame of a film."""

from __future__ import annotations

import glob
import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from edgeface.cpu.source import open_source
from edgeface.errors import ConfigError, EndOfStream, SourceError
from edgeface.source_uri import PICTURES, SourceUri, existing_file, parse_source
from edgeface.values import Frame

log = logging.getLogger(__name__)

FILM_STEP = 10  # every which frame of a film counts, unless told
_LISTS = (".txt", ".lst")


@dataclass(frozen=True, slots=True)
class Pictures:
    """Files, in order."""

    name: str  # as they were asked for
    files: tuple[Path, ...]
    films: frozenset[Path]  # those of them that are films
    every: int | None  # every which one counts; None: all pictures, every tenth frame

    def sha256(self) -> str:
        """Of all their bytes, and of which ones count. Raises ConfigError."""
        digest = hashlib.sha256(f"{self.every} {len(self.files)}".encode())
        for path in self._counted():
            try:
                with path.open("rb") as file:
                    while block := file.read(1 << 20):
                        digest.update(block)
            except OSError as error:
                raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        return digest.hexdigest()

    def frames(self) -> Iterator[Frame]:
        """One after the other; a picture that cannot be read is said and passed over. Raises SourceError."""
        count = 0
        for path in self._counted():
            step = (self.every or FILM_STEP) if path in self.films else 1
            try:
                for frame in _frames(path, path in self.films):
                    if frame.frame_id % step == 0:
                        count += 1
                        yield frame
            except SourceError as error:
                if path in self.films:
                    raise
                log.warning("%s; passed over", error)
        if count == 0:
            raise SourceError(f"{self.name}: none of {len(self.files)} files is a picture that OpenCV can read")

    def _counted(self) -> Sequence[Path]:
        films = [path for path in self.files if path in self.films]
        return [*[path for path in self.files if path not in self.films][:: self.every or 1], *films]


def find_pictures(name: str, every: int | None = None) -> Pictures:
    """What `name` says: a folder, a glob, a text file with one of these a line, or a source URI of pictures or a film.

    Lines are meant from the list's folder; those that begin with # are passed over. Raises ConfigError.
    """
    path = Path(name).expanduser()
    if path.suffix.lower() in _LISTS and path.is_file():
        found = [file for line in _lines(path) for file in _files(_beside(path, line))]
        if not found:
            raise ConfigError(f"{path}: expected pictures, one a line, found none")
    else:
        found = _files(name)
    return Pictures(
        name,
        tuple(dict.fromkeys(file for file, _ in found)),
        frozenset(file for file, is_film in found if is_film),
        every,
    )


def _files(name: str) -> list[tuple[Path, bool]]:
    """Files, and whether each is a film."""
    path = Path(name).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in PICTURES and file.is_file())
        if not files:
            raise ConfigError(f"{path}: expected a folder with pictures ({', '.join(PICTURES)}), found none in it")
        return [(file, False) for file in files]
    if path.suffix.lower() in PICTURES and path.is_file():
        return [(path, False)]
    if glob.has_magic(name) and ":" not in name and not path.exists():
        name = f"images:{name}"
    uri = parse_source(name)
    if not isinstance(uri, SourceUri) or uri.live:
        raise ConfigError(f"{name}: expected pictures or a film to calibrate on")
    if uri.kind == "file":
        return [(existing_file(uri.target), True)]
    pattern = str(Path(uri.target).expanduser())
    found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 (absolute patterns)
    if not found:
        raise ConfigError(f"{pattern}: no such picture")
    return [(Path(file), False) for file in found]


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected a text file with a picture a line") from error
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _beside(path: Path, line: str) -> str:
    """A line's path from the list's folder, unless it is a URI."""
    return line if ":" in line.partition("/")[0] else str(path.parent / Path(line).expanduser())


def _frames(path: Path, is_film: bool) -> Iterator[Frame]:
    uri = SourceUri("file", str(path)) if is_film else SourceUri("pictures", glob.escape(str(path)))
    with closing(open_source(SourceUri(uri.kind, uri.target, pace=False))) as source:
        while True:
            try:
                frame = source.read(0)
            except EndOfStream:
                return
            assert frame is not None  # it is not paced
            yield frame
