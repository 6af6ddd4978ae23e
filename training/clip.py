"""Makes the demo clip again: demo.mp4, rendered people who come and go, and demo.json, its exact truth."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path

import av
import cv2
import msgspec
import numpy as np

from edgeface.values import U8
from training import assets
from training.render import figure, video
from training.render import light as lights
from training.render.acting import CHANNELS, Actor, Keys
from training.render.person import person

OUT = Path(__file__).parent.parent / "edgeface" / "demo"
CONFIG = Path(__file__).parent / "clip.toml"
OF_A_PERSON = frozenset(["identity", "skin", "beard", "hair"])  # what is drawn at random
KEY_FRAMES = 30  # one a second: seeking is quick
ABOUT = {
    "coordinates": "frame pixels, origin at the top-left corner of the top-left pixel",
    "xyxy": "tight face box, hairline to chin, temple to temple, clipped to the frame",
    "keypoints": "left-image eye, right-image eye, nose tip, left-image mouth corner, right-image mouth corner",
    "landmarks": "68 points, iBUG order, not clipped",
    "irises_and_ears": "points 69 to 80: the irises' edges and the ears, not clipped",
    "visible_fraction": "share of the projected camera-facing face surface that lies inside the frame "
    "and is not behind another person",
    "pose": "degrees: yaw to the picture's right, pitch up, roll clockwise",
    "eyes": "openness 0 to 1, left-image eye first",
}


def scene(folder: Path, config: Path) -> video.Scene:
    """The scene that a file says: see clip.toml."""
    said = msgspec.toml.decode(config.read_bytes())
    setting = said["scene"]
    lamp, number = setting["lamp"], setting["panorama"]
    key = lights.Lamp(
        lights.direction(lamp["azimuth"], lamp["elevation"]), np.float32(lamp["colour"]), lamp["wrap"], lamp["shadow"]
    )
    ambient = lights.surroundings(folder, number)[setting["turn"]] * np.float32(setting["ambient"])
    return video.Scene(
        actors=tuple(actor(folder, **one) for one in said["actor"]),
        light=lights.Light(ambient, (key,)),
        panorama=lights.panoramas(folder)[number],
        seconds=setting["seconds"],
        facing=setting["facing"],
        pan=setting["pan"],
        tremor=setting["tremor"],
    )


def actor(
    folder: Path, track_id: int, seed: int, iris: list[float], cloth: list[float], trousers: list[float],
    keys: dict[str, Keys], skin: list[float] | None = None, hair: list[float] | None = None, sleeve: float = 0.9,
    worn: Sequence[Sequence] = (), rise: float = 0.0, blinks: Sequence[float] = (),
) -> Actor:  # fmt: skip
    """Somebody drawn from `seed`, with colours and things worn as the scene wants them."""
    if unknown := set(keys) - set(CHANNELS):
        raise ValueError(f"actor {track_id}: no channels {sorted(unknown)}; there are {sorted(CHANNELS)}")
    drawn_person = person(np.random.default_rng(seed), folder, OF_A_PERSON)
    somebody = replace(
        drawn_person,
        collar=-99.0,  # the body has its own
        eye_white=0.36,
        iris_colour=np.float32(iris),
        skin=drawn_person.skin if skin is None else np.float32(skin),
        hair_colour=drawn_person.hair_colour if hair is None else np.float32(hair),
        worn=tuple((kind, number) for kind, number in worn),
    )
    dress = figure.dressed(somebody, seed, np.float32(cloth), np.float32(trousers), sleeve)
    return Actor(track_id, somebody, keys, dress, rise, tuple(blinks))


def drawn(config: Path, numbers: Iterable[int], jobs: int) -> Iterator[tuple[U8, list[dict]]]:
    """These frames of a scene with their truth, in the order of `numbers`."""
    with ProcessPoolExecutor(jobs, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        yield from pool.map(partial(_drawn, config), numbers)


def _drawn(config: Path, number: int) -> tuple[U8, list[dict]]:
    return video.frame(_scene(config), assets.folder(), number)


@lru_cache(maxsize=1)
def _scene(config: Path) -> video.Scene:
    return scene(assets.folder(), config)


def encode(path: Path, pictures: Iterable[U8], fps: int, quality: int) -> None:
    """Writes H.264 that plays anywhere: 4:2:0, BT.709, the index in front. `quality` is x264's rate factor."""
    with av.open(str(path), "w", options={"movflags": "+faststart", "fflags": "+bitexact"}) as film:
        stream = None
        for number, picture in enumerate(pictures):
            if stream is None:
                stream = film.add_stream("libx264", rate=fps)
                stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv420p"
                stream.time_base = Fraction(1, fps)
                every = str(KEY_FRAMES)
                stream.options = {"preset": "slow", "crf": str(quality), "threads": "1"}  # several differ by machine
                stream.options |= {"g": every, "keyint_min": every, "sc_threshold": "0"}
                stream.codec_context.flags |= av.codec.context.Flags.bitexact
                stream.codec_context.color_range = av.video.reformatter.ColorRange.MPEG
                stream.codec_context.colorspace = av.video.reformatter.Colorspace.ITU709
                stream.codec_context.color_primaries = stream.codec_context.color_trc = 1  # BT.709
            shown = av.VideoFrame.from_ndarray(picture, format="rgb24")
            shown = shown.reformat(format="yuv420p", src_colorspace="ITU709", dst_colorspace="ITU709",
                                   src_color_range="JPEG", dst_color_range="MPEG")  # fmt: skip
            shown.pts = number
            film.mux(stream.encode(shown))
        if stream is not None:
            film.mux(stream.encode())


def write_truth(path: Path, faces: list[list[dict]], size: tuple[int, int], fps: float) -> None:
    """One line a frame."""
    about = {"width": size[0], "height": size[1], "fps": fps, "frames": len(faces), **ABOUT}
    rows = ",\n".join(json.dumps(row, separators=(",", ":")) for row in faces)
    path.write_text(f'{{"about": {json.dumps(about)},\n"frames": [\n{rows}\n]}}\n')


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.clip", description=__doc__)
    parser.add_argument("config", type=Path, nargs="?", default=CONFIG)
    parser.add_argument("--out", type=Path, default=OUT, help="folder of demo.mp4 and demo.json")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--quality", type=int, default=24, help="x264's rate factor")
    given = parser.parse_args()
    shown = scene(assets.folder(), given.config)
    faces: list[list[dict]] = []

    def pictures() -> Iterator[U8]:
        for picture, truth in drawn(given.config, range(video.count(shown)), given.jobs):
            faces.append(truth)
            if len(faces) % 30 == 0:
                print(f"{len(faces)} frames", flush=True)
            yield picture

    given.out.mkdir(parents=True, exist_ok=True)
    film = given.out / "demo.mp4"
    encode(film, pictures(), round(shown.fps), given.quality)
    write_truth(film.with_suffix(".json"), faces, (shown.width, shown.height), shown.fps)
    print(f"{film}: {film.stat().st_size} bytes, {sum(map(len, faces))} faces")


if __name__ == "__main__":
    main()
