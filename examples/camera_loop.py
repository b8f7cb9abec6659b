"""Instance masks on a camera: predict each frame, draw the instances, show or write the overlay.

    python examples/camera_loop.py kitchen.bmz 0                            # camera 0 in a window; q or Esc ends
    python examples/camera_loop.py kitchen.bmz drive.mp4 --output masks.mp4   # a video file into another
    python examples/camera_loop.py kitchen.bmz images/ --output masks.mp4   # a folder of images, by name
    python examples/camera_loop.py kitchen.bmz rtsp://robot/front --track   # a network camera, with identities

Frames are captured and resized while others run through the network. If the camera is faster than the network, the
oldest frames are dropped. Needs the extra `video`; a window needs a display as well, and the package opencv-python in
the place of opencv-python-headless.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Optional, Sequence, Tuple

import cv2
import numpy as np

from blendmask_edge import BlendMaskError, MaskPredictor, OutputError

END_KEYS = {ord("q"), 27}


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Run the loop until the source or the user ends it."""
    options = parse_arguments(arguments)
    with MaskPredictor(options.bundle, threads=options.threads, score_threshold=options.score) as predictor:
        stream = predictor.stream(options.source, channels="bgr", track=options.track)
        sink = VideoFile(options.output, options.fps or stream.source_rate or 15) if options.output else Window()
        with stream:
            try:
                for frame, instances in stream:
                    # A robot would act here: instances.class_names, .boxes, and .crops() for masks inside their boxes.
                    overlay = instances.draw(frame)
                    write_text(overlay, f"{stream.report.rate:.1f} FPS, {len(instances)} instances")
                    if not sink.show(overlay):
                        break
            finally:
                sink.close()
    print(f"{stream.report}, {predictor.runtime}")
    if options.output:
        print(f"The video lies in {options.output}")


class Window:
    """Frames in a window, until a key of `END_KEYS`."""

    def show(self, frame: np.ndarray) -> bool:
        """Show a frame; False when the user wants to end."""
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise OutputError("There is no display. Give --output masks.mp4 to write a video.")
        try:
            cv2.imshow("blendmask", frame)
            return (cv2.waitKey(1) & 0xFF) not in END_KEYS
        except cv2.error as error:
            raise OutputError(
                "This OpenCV opens no window. Give --output masks.mp4, or replace it: "
                "pip uninstall -y opencv-python-headless && pip install opencv-python"
            ) from error

    def close(self) -> None:
        """Close it; without windows there is nothing to close."""


class VideoFile:
    """Frames in a video file, which begins with the first frame and has its size."""

    def __init__(self, path: Path, fps: float) -> None:
        """Remember where it goes; nothing is written before the first frame."""
        self._path, self._fps = path, fps
        self._writer: Optional[cv2.VideoWriter] = None
        self._size: Tuple[int, int] = (0, 0)

    def show(self, frame: np.ndarray) -> bool:
        """Append a frame."""
        if self._writer is None:
            self._size = (frame.shape[1], frame.shape[0])
            code = "MJPG" if self._path.suffix == ".avi" else "mp4v"
            self._writer = cv2.VideoWriter(str(self._path), cv2.VideoWriter_fourcc(*code), self._fps, self._size)
            if not self._writer.isOpened():
                raise OutputError(
                    f"Cannot write {self._path}. Give a file NAME.mp4 or NAME.avi in a folder that exists."
                )
        self._writer.write(cv2.resize(frame, self._size))
        return True

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()


def write_text(image: np.ndarray, text: str) -> None:
    """Write white on black into the lower left corner."""
    size = max(0.5, image.shape[0] / 960)
    (width, height), rest = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    foot = image.shape[0] - rest
    cv2.rectangle(image, (0, foot - height - rest), (width + rest, image.shape[0]), (0, 0, 0), cv2.FILLED)
    cv2.putText(image, text, (rest // 2, foot), cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), 1, cv2.LINE_AA)


def parse_arguments(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", metavar="M.bmz")
    parser.add_argument("source", help="number of a camera, video file, folder of images, or URL")
    parser.add_argument("--output", type=Path, help="video file to write, .mp4 or .avi; a window if left out")
    parser.add_argument(
        "--score", type=float, help="least score that is shown, 0 to 1; the display threshold if left out"
    )
    parser.add_argument("--threads", type=int, help="threads of the network; the runtime's choice if left out")
    parser.add_argument("--fps", type=float, help="of the written video; that of the source if left out, else 15")
    parser.add_argument("--track", action="store_true", help="identities; needs the extra `track`")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        main()
    except BlendMaskError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
