"""Blocks of a stream: the frames of the whole signal's STFT, however the signal comes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsep import blocks
from jaxsep.stft import frame_count, hann_window

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=200)


def frames(samples, n_fft, hop_length):
    """Windowed frames ``(..., frame, n_fft)`` without padding: their FFT is the STFT."""
    starts = range(0, samples.shape[-1] - n_fft + 1, hop_length)
    return np.stack([samples[..., s : s + n_fft] * hann_window(n_fft) for s in starts], axis=-2)


@EXAMPLES
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any),
    n_fft=st.sampled_from([2, 7, 16, 33]),
    hop_length=st.integers(1, 33),
    n_frames=st.integers(1, 6),
)
def test_frames_of_the_blocks_are_those_of_the_whole(lengths, n_fft, hop_length, n_frames):
    hop_length = min(hop_length, n_fft)
    n = sum(lengths)
    signal = np.random.default_rng(n).standard_normal((2, n))
    pieces = np.split(signal, np.cumsum(lengths)[:-1], axis=-1)
    sizes = {"n_frames": n_frames, "n_fft": n_fft, "hop_length": hop_length}
    made = list(blocks.cut(pieces, **sizes))

    assert {block.samples.shape for block in made} == {(2, (n_frames - 1) * hop_length + n_fft)}
    assert all(block.n_valid == n_frames for block in made[:-1])
    assert made[-1].length == n
    assert len(made) == blocks.count(n, **sizes)
    joined = np.concatenate([frames(b.samples, n_fft, hop_length)[:, : b.n_valid] for b in made], axis=-2)
    expected = frames(np.pad(signal, [(0, 0), (n_fft // 2,) * 2], mode="reflect"), n_fft, hop_length)
    assert expected.shape[-2] == frame_count(n, n_fft=n_fft, hop_length=hop_length)
    np.testing.assert_array_equal(joined, expected)
    # After the last sample, the reflection of the end included, there is silence.
    n_held = n + 2 * (n_fft // 2) - (len(made) - 1) * n_frames * hop_length
    np.testing.assert_array_equal(made[-1].samples[:, n_held:], 0)


def test_a_stream_is_read_only_as_far_as_needed(rng):
    # A block goes out as soon as the sample after it is there: memory holds one, whatever the length.
    read = []

    def pieces():
        for start in range(0, 10_000, 100):
            read.append(start)
            yield rng.standard_normal((1, 100))

    stream = blocks.cut(pieces(), n_frames=10, n_fft=16, hop_length=4)
    next(stream)
    assert len(read) == 1
    for _ in range(50):
        next(stream)
    assert len(read) <= 51 * 40 // 100 + 1


def test_blocks_do_not_hold_on_to_the_pieces_and_leave_them_alone(rng):
    signal = rng.standard_normal((1, 500))
    before = signal.copy()
    for block in blocks.cut([signal[:, :320], signal[:, 320:]], n_frames=10, n_fft=16, hop_length=4):
        block.samples[...] = 0
    np.testing.assert_array_equal(signal, before)


@pytest.mark.parametrize("pieces", [[], [np.zeros((2, 0))]])
def test_refuses_a_signal_without_samples(pieces):
    with pytest.raises(ValueError, match="at least one sample, got none"):
        list(blocks.cut(pieces, n_frames=10, n_fft=16, hop_length=4))
