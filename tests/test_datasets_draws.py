"""What chance decides, and what follows from it alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.chunks import ChunkBatches, _narrow
from datasets.draws import AUGMENTATIONS, check_augmentations
from datasets.tracks import Track


class Sound:
    """A recording whose samples tell where they come from: track, source and place."""

    def __init__(self, level, frames=1000):
        self.level, self.frames = level, frames

    def read(self, start, count):
        place = np.arange(start, start + count)
        sounds = (place >= 0) & (place < self.frames)
        return np.stack([np.where(sounds, self.level + place, 0), np.where(sounds, self.level, 0)]).astype(
            np.int16
        )


SOURCES = ("a", "b", "c")
TRACKS = [
    Track(str(t), {s: (Sound(10000 * i + 1000 * t),) for i, s in enumerate(SOURCES)}, n_channels=2)
    for t in range(3)
]


def batches(tracks=TRACKS, **options):
    chosen = {"sources": SOURCES, "n_channels": 2, "count": 100, "batch_size": 6} | options
    return ChunkBatches(lambda seed, step: tracks, **chosen)


def same(left, right):
    for name, x, y in zip(left._fields, left, right, strict=True):
        np.testing.assert_array_equal(x, y, err_msg=name)
        assert x.dtype == y.dtype and x.shape == y.shape


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_a_batch_is_a_function_of_seed_and_step(seed, step):
    one, two = batches(augmentations=AUGMENTATIONS), batches(augmentations=AUGMENTATIONS)
    two(seed + 1, step)
    same(one(seed, step), two(seed, step))


def test_seeds_and_steps_differ():
    plans = [batches().plan(*key) for key in ((0, 0), (0, 1), (1, 0))]
    assert len({plan.start.tobytes() for plan in plans}) == 3


def test_these_draws_are_for_ever():
    """A run that is resumed with a later version must go on with the batches it would have seen."""
    plan = batches(augmentations=AUGMENTATIONS).plan(42, 1000)
    assert plan.track.tolist() == [[1, 1, 1], [0, 2, 1], [2, 1, 1], [1, 2, 0], [2, 0, 2], [1, 0, 2]]
    assert plan.start[0].tolist() == [39, 396, 590]
    np.testing.assert_allclose(plan.gain[0, :, 0], [-0.461697, 0.453076, 0.458299], rtol=1e-5)
    assert plan.swap[0, :, 0].tolist() == [False, False, True]


@pytest.mark.parametrize("hosts", [2, 3, 6])
@pytest.mark.parametrize("mix", [True, False])
def test_the_parts_of_all_hosts_are_the_whole_batch(hosts, mix):
    whole = batches(augmentations=AUGMENTATIONS, mix=mix)(3, 5)
    parts = [batches(augmentations=AUGMENTATIONS, mix=mix, part=(i, hosts))(3, 5) for i in range(hosts)]
    joined = type(whole)(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    same(whole._replace(origin=joined.origin), joined)
    np.testing.assert_array_equal(parts[-1].origin[:, 0], np.arange(6 // hosts))  # rows of its own part


def test_the_shapes_and_types_of_the_contract():
    batch = batches()(0, 0)
    assert batch.stems.shape == (6, 3, 2, 100) and batch.stems.dtype == np.int16
    for field, dtype in (("gain", np.float32), ("swap", bool), ("origin", np.int32), ("weight", np.float32)):
        assert getattr(batch, field).shape == (6, 3) and getattr(batch, field).dtype == dtype
    np.testing.assert_array_equal(batch.origin, np.arange(6)[:, None] + np.zeros((6, 3), int))
    assert (batch.gain == 1).all() and not batch.swap.any() and (batch.weight == 1).all()


def test_each_source_comes_from_its_own_track_and_place_or_all_from_one():
    drawn = [batches(batch_size=200).plan(0, 0), batches(batch_size=200, mix=False).plan(0, 0)]
    for plan, alike in zip(drawn, (False, True), strict=True):
        assert (plan.start[:, :1] == plan.start).all() == alike
        assert (plan.track[:, :1] == plan.track).all() == alike
        assert set(plan.track.ravel()) == {0, 1, 2}
        assert plan.start.min() >= 0 and plan.start.max() <= 900
    batch = batches()(0, 0)
    levels = batch.stems[:, :, 1, 0]
    np.testing.assert_array_equal(levels, 10000 * np.arange(3) + 1000 * batches().plan(0, 0).track)
    np.testing.assert_array_equal(batch.stems[:, :, 0, 0] - levels, batches().plan(0, 0).start)


def test_every_place_is_as_likely_as_any_other():
    starts = batches(count=991, batch_size=3000).plan(0, 0).start.ravel()
    counts = np.bincount(starts, minlength=10)
    assert counts.size == 10 and np.abs(counts - 900).max() < 5 * 30  # five standard deviations


def test_augmentations_draw_what_they_say():
    plain = batches(batch_size=2000).plan(1, 2)
    full = batches(batch_size=2000, augmentations=AUGMENTATIONS[:-1]).plan(1, 2)
    np.testing.assert_array_equal(plain.start, full.start)  # what is switched on leaves the others alone
    assert (plain.gain == 1).all() and not plain.swap.any()
    level = np.abs(full.gain[full.gain != 0])
    assert 0.25 <= level.min() < 0.26 and 1.24 < level.max() <= 1.25
    assert abs(level.mean() - 0.75) < 0.02
    assert abs((full.gain == 0).mean() - 0.1) < 0.02
    assert abs((full.gain < 0).mean() - 0.45) < 0.03
    assert abs(full.swap.mean() - 0.5) < 0.03
    one = batches(batch_size=2000, augmentations=("gain",)).plan(1, 2)
    np.testing.assert_array_equal(one.gain[full.gain > 0], full.gain[full.gain > 0])


def test_remix_exchanges_sources_within_the_batch():
    plain, mixed = (batches(mix=False, batch_size=64, augmentations=a).plan(0, 0) for a in ((), ("remix",)))
    for source in range(3):
        np.testing.assert_array_equal(np.sort(plain.start[:, source]), np.sort(mixed.start[:, source]))
    assert not (mixed.start[:, :1] == mixed.start).all()


def test_names_of_augmentations_are_checked():
    assert check_augmentations(["silence", "gain"]) == ("gain", "silence")
    with pytest.raises(ValueError, match=r"expected names among gain, .*; got 'reverb'"):
        check_augmentations(["reverb"])


def test_a_missing_source_is_drawn_from_where_it_is():
    tracks = [Track("with", TRACKS[0].stems, 2), Track("without", {s: TRACKS[1].stems[s] for s in "ac"}, 2)]
    plan = batches(tracks, batch_size=50).plan(0, 0)
    assert set(plan.track[:, 1]) == {0} and set(plan.track[:, 0]) == {0, 1}
    assert set(batches(tracks, batch_size=50, rest_without=True).plan(0, 0).track[:, 1]) == {0, 1}
    with pytest.raises(ValueError, match="b: expected at least one track that has it, got none"):
        batches(tracks[1:]).plan(0, 0)


@pytest.mark.parametrize("mix", [True, False])
def test_the_truth_of_what_another_stem_may_hide_has_no_weight(mix):
    tracks = [
        Track("with", TRACKS[0].stems, 2),
        Track("without", {s: TRACKS[1].stems[s] for s in "ac"}, 2, hidden=frozenset("b")),
    ]
    some = batches(tracks, batch_size=80, mix=mix, rest="c", augmentations=("silence",))
    batch, plan = some(0, 0), some.plan(0, 0)
    hides = (plan.track[:, 2] == 1) & (plan.gain[:, 2, 0] != 0)
    assert 0 < hides.sum() < 80
    np.testing.assert_array_equal(batch.weight[:, 1], np.where(hides, 0, 1))
    assert (batch.weight[:, [0, 2]] == 1).all()
    if not mix:
        assert (batch.stems[plan.track[:, 0] == 1, 1] == 0).all()


def test_a_short_sound_gets_a_place_in_silence():
    tracks = [Track("short", {"a": (Sound(100, frames=30),)}, 2)]
    some = batches(tracks, sources=("a",), batch_size=300)
    starts = some.plan(0, 0).start
    assert starts.min() == -70 and starts.max() == 0
    assert ((some(0, 0).stems != 0).any(axis=2).sum(axis=-1) == 30).all()


def test_parts_are_changed_each_for_itself_and_summed():
    tracks = [Track("x", {"a": (Sound(20000),), "b": tuple(Sound(9000 + i, 500) for i in range(4))}, 2)]
    some = batches(tracks, sources=("a", "b"), augmentations=("gain", "channelswap", "signflip"))
    batch, plan = some(5, 6), some.plan(5, 6)
    for row in range(6):
        expected = np.zeros((2, 100), np.float64)
        for part, recording in enumerate(tracks[0].stems["b"]):
            sound = recording.read(plan.start[row, 1], 100)
            expected += plan.gain[row, 1, part] * (sound[::-1] if plan.swap[row, 1, part] else sound).astype(
                float
            )
        got = batch.gain[row, 1] * batch.stems[row, 1]
        assert np.abs(got - expected).max() <= 0.51 * batch.gain[row, 1]  # half a step of 16 bits
    assert not batch.swap[:, 1].any() and batch.swap[:, 0].any()


def test_loud_sums_keep_their_shape():
    sound, scale = _narrow(np.array([[100000, -65534]], np.int32))
    assert sound.dtype == np.int16 and scale == 4 and (sound * scale).tolist() == [[100000, -65536]]
    assert _narrow(np.array([[32767, -32767]], np.int32))[1] == 1


def test_negative_numbers_are_no_steps():
    with pytest.raises(ValueError, match="non-negative"):
        batches()(0, -1)
