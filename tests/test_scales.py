"""Scales of activations: files of our own, and calibration caches in all the forms that are about."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.build import scales as module
from edgeface.build.scales import ScaleFile, cache_text, is_cache, read_cache, read_scales, write_cache, write_scales
from edgeface.errors import ConfigError, EngineError

names = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), min_size=1, max_size=30)
values = st.floats(width=32, min_value=2.0**-126, allow_infinity=False, allow_nan=False)

TAO = """TRT-8001-EntropyCalibration2\r
input_1: 3c010a14\r
conv1/convolution: 3C3C6577\r
(Unnamed Layer* 48) [Shuffle]_output: 3a4e7687\r
softargmax:1: 3c0647de\r
small: 7fffff\r
\r
"""


def written(folder: Path, data: str | bytes) -> Path:
    path = folder / "cache.txt"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@given(st.dictionaries(names, values), st.sampled_from(["5.1.5", "8.5.2", "8.6.1.6", "10.3.0", "10.16.2.10"]))
def test_what_is_written_is_read_back_to_the_bit(scales: dict[str, float], version: str) -> None:
    text = cache_text(scales, version)
    if scales:
        with tempfile.TemporaryDirectory() as folder:
            cache = read_cache(written(Path(folder), text))
        assert (cache.scales, cache.skipped) == (scales, ())
    assert text.count("\n") == len(scales) + 1


@pytest.mark.parametrize(
    ("version", "digits"),
    [
        ("7.2.1", "7201"),
        ("8.5.2", "8502"),
        ("8.6.1.6", "8601"),
        ("10.0.1", "100001"),
        ("10.3.0", "100300"),
        ("10.14.1", "101401"),
    ],
)
def test_the_header_has_the_digits_of_each_version(tmp_path: Path, version: str, digits: str) -> None:
    path = tmp_path / "cache"
    write_cache(path, {"input": 1 / 127}, version)
    bits = struct.pack(">f", np.float32(1 / 127)).hex()
    assert path.read_text() == f"TRT-{digits}-EntropyCalibration2\ninput: {bits}\n"
    assert is_cache(path)
    assert read_cache(path).version == digits


@pytest.mark.parametrize("version", ["11.0.0", "1.7.1.116", "4.0.0", "8.6", "", "ten", "8.6.1000"])
def test_versions_that_read_no_cache(version: str) -> None:
    with pytest.raises(ConfigError, match="expected the version of a TensorRT that reads calibration caches"):
        cache_text({}, version)


@pytest.mark.parametrize("scales", [{"": 1.0}, {"a\nb": 1.0}, {"a": 0.0}, {"a": -1.0}, {"a": np.inf}, {"a": np.nan}])
def test_what_a_cache_cannot_hold(scales: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="a calibration cache cannot hold the tensor"):
        cache_text(scales, "8.6.1")


def test_a_cache_as_tao_writes_it(tmp_path: Path) -> None:
    cache = read_cache(written(tmp_path, TAO))
    assert (cache.version, cache.algorithm, cache.skipped) == (
        "8001",
        "EntropyCalibration2",
        ("small: its scale is 1.17549e-38, not a positive number",),  # a subnormal number, its leading zeros left out
    )
    assert [*cache.scales] == [
        "input_1",
        "conv1/convolution",
        "(Unnamed Layer* 48) [Shuffle]_output",
        "softargmax:1",
    ]
    assert cache.scales["input_1"] * 127 == pytest.approx(1.0002, abs=1e-4)
    assert read_cache(written(tmp_path, TAO.replace("\r", "").replace(" 7fffff", " 800000"))).scales["small"] == 2**-126


@pytest.mark.parametrize(
    "header", ["TRT-8502-MinMaxCalibration", "TRT-10300-EntropyCalibration2", "TRT-100300-Legacy_1"]
)
def test_headers_of_every_kind(tmp_path: Path, header: str) -> None:
    cache = read_cache(written(tmp_path, f"\ufeff{header}  \n a : 3f800000\n"))
    assert f"TRT-{cache.version}-{cache.algorithm}" == header
    assert cache.scales == {" a ": 1.0}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("x: 0", "x: its scale is 0, not a positive number"),
        ("x: 7f800000", "x: its scale is inf, not"),
        ("x: 7fc00000", "x: its scale is nan, not"),
        ("x: bf800000", "x: its scale is -1, not"),
        ("x: ", "line 3: expected a name, a colon and up to 8 hexadecimal digits: 'x: '"),
        ("x: 3f8000001", "line 3: expected"),
        ("x: 0x3f80", "line 3: expected"),
        ("x 3f800000", "line 3: expected"),
        (": 3f800000", "line 3: expected"),
        ("good: 40000000", "good: a second scale, 2; the first is 1"),
    ],
)
def test_a_line_that_is_no_scale_is_said_and_never_used(tmp_path: Path, line: str, why: str) -> None:
    cache = read_cache(written(tmp_path, f"TRT-8601-EntropyCalibration2\ngood: 3f800000\n{line}\ngood: 3f800000\n"))
    assert cache.scales == {"good": 1.0}
    (skipped,) = cache.skipped
    assert skipped.startswith(why)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "expected a calibration cache that begins TRT-8601-..., found ''"),
        (b"\x7fELF\x00\xff", "not a text"),
        (b"{}", "expected a calibration cache"),
        (b"TRT-8601\na: 3f800000", "expected a calibration cache"),
        (b"TRT-x-EntropyCalibration2\na: 3f800000", "expected a calibration cache"),
        (b"TRT-8601-EntropyCalibration2\n", r"no scale in it that can be used \(0 lines\)"),
        (b"TRT-8601-EntropyCalibration2\na: 0\n" + b"\0" * 100, r"no scale in it that can be used \(2 lines\)"),
    ],
)
def test_what_is_no_cache(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(EngineError, match=why):
        read_cache(written(tmp_path, data))


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="cannot be read: No such file"):
        read_cache(tmp_path / "none")
    with pytest.raises(EngineError, match="cannot be read: Is a directory"):
        read_cache(tmp_path)
    assert not is_cache(tmp_path / "none")
    path = written(tmp_path, TAO)
    monkeypatch.setattr(module, "_MOST_BYTES", 100)
    with pytest.raises(EngineError, match="expected scales, found a file of more than 0 MiB"):
        read_cache(path)


@given(st.binary(max_size=200))
def test_any_bytes_are_scales_or_one_error(data: bytes) -> None:
    for begin in (b"", b"TRT-8601-EntropyCalibration2\n"):
        with tempfile.TemporaryDirectory() as folder:
            path = written(Path(folder), begin + data)
            try:
                found = read_cache(path).scales
            except EngineError as error:
                assert "\n" not in str(error)
            else:
                assert all(0 < value < np.inf for value in found.values())


# --- our own files


def scale_file(**changes: Any) -> ScaleFile:
    usual: dict[str, Any] = {
        "schema": 1,
        "card": "net",
        "onnx_sha256": "0" * 64,
        "method": "percentile",
        "percentile": 99.99,
        "crops": 5,
        "shown_sha256": "1" * 64,
        "date": "2025-01-01T00:00:00+00:00",
        "scales": {"input": 0.5},
    }
    return ScaleFile(**(usual | changes))


@given(st.dictionaries(names, values, max_size=5))
def test_a_file_of_scales_is_read_back_to_the_bit(scales: dict[str, float]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net" / "percentile.json"
        write_scales(path, scale_file(scales=scales))
        assert read_scales(path) == scale_file(scales=scales)
        assert [*path.parent.iterdir()] == [path]  # nothing half-written is left


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('"schema": 1', '"schema": 2', "schema"),
        ('"input": 0.5', '"input": 0', r"\$.scales\[...\]"),
        ('"input": 0.5', '"input": -1', r"\$.scales\[...\]"),
        ('"input": 0.5', '"input": 1e300', r"\$.scales\[...\]"),
        ('"input": 0.5', '"input": null', r"\$.scales\[...\]"),
        ('"percentile",', '"guess",', "method"),
        ("0000", "zero", "onnx_sha256"),
        ("{", "", "not a file of scales"),
        ("net", "\ud800", "not a file of scales"),
    ],
)
def test_a_file_of_scales_that_is_none(tmp_path: Path, old: str, new: str, why: str) -> None:
    path = tmp_path / "scales.json"
    write_scales(path, scale_file())
    text = path.read_text()
    assert old in text
    path.write_bytes(text.replace(old, new, 1).encode(errors="surrogatepass"))
    with pytest.raises(EngineError, match=why):
        read_scales(path)


def test_keys_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "scales.json"
    write_scales(path, scale_file())
    path.write_text(path.read_text().replace("{", '{"later": [1],', 1))
    assert read_scales(path) == scale_file()


def test_scales_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="file: cannot be made: "):
        write_scales(tmp_path / "file" / "percentile.json", scale_file())
    with pytest.raises(EngineError, match="cannot be written: "):
        write_cache(tmp_path / "none" / "cache", {"a": 1.0}, "8.6.1")
