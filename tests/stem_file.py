"""Stem files for tests: an MP4 with an AAC stream a stem."""

import numpy as np
import pytest


def write_stem_file(path, stems, rate=44100):
    av = pytest.importorskip("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as container:
        streams = [container.add_stream("aac", rate=rate, layout="stereo") for _ in stems]
        for stream, stem in zip(streams, stems, strict=True):
            stream.bit_rate = 256_000
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(stem), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = rate, 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
