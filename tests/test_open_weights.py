"""The recipe of the packaged weights, from sounds to a model that separates, at toy size and without its sources."""

import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.score import Note
from jaxsep import openunmix
from jaxsep.config import OpenUnmixConfig
from jaxsep.io.checkpoint import load_weights, save_weights, saved_targets
from jaxsep.training import adam_with_l2, init_state, unstack
from recipes.open_weights import (
    arrange,
    average,
    backing,
    build,
    calibrate,
    corpus,
    export,
    nets,
    pack,
    page,
    patches,
    produce,
    singers,
    sources,
    sung_scores,
    syllables,
    train,
    validate,
    voices,
    world,
)
from recipes.open_weights.augment import equalise
from recipes.open_weights.cache import Follower, decode, held_back, is_decoded, open_corpus, whole_song
from recipes.open_weights.corpus import STEMS
from recipes.open_weights.device_mixer import DeviceMixer
from recipes.open_weights.mixer import Mixer
from recipes.open_weights.patch_lines import draw_bass_line, draw_parts
from recipes.open_weights.widen import widen

RATE = 44100


@pytest.fixture(scope="module")
def nothing_installed():
    """Every machine renders as one without the recipe's sources."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "_FONTS", ())
        for folder in ("_SONIC_PI", "_KITS", "_GUITARS", "_SPEECH", "MORE_SPEECH"):
            patch.setattr(sources, folder, sources.Path("/nonexistent"))
        patch.setattr(arrange, "_LIBRARY", sources.Path("/nonexistent"))
        sources.sampled_kits.cache_clear()
        arrange._grooves.cache_clear()
        yield
    sources.sampled_kits.cache_clear()
    arrange._grooves.cache_clear()


@pytest.fixture(scope="module")
def songs(nothing_installed, tmp_path_factory):
    """Two recorded songs of 7 s: rubidium, which is held back, and one whose bass was never separated."""
    folder = tmp_path_factory.mktemp("songs")
    rng = np.random.default_rng(0)
    for name, stems in (("rubidium", STEMS), ("hydrogen", ("vocals", "drums", "other"))):
        (folder / name).mkdir()
        for stem in stems:
            tone = np.sin(np.arange(7 * RATE) * rng.uniform(0.01, 0.3))[:, None] * [[0.3, 0.2]]
            soundfile.write(
                folder / name / f"{stem}.flac", tone + 0.01 * rng.normal(size=(7 * RATE, 2)), RATE
            )
    return folder


def _build(folder, songs):
    return f"--output {folder} --songs {songs} --rendered 2 --patches 1 --singers 1 --seconds 3 --workers 1".split()


@pytest.fixture(scope="module")
def built(songs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    assert build.main(_build(folder, songs)) == 0
    return folder


@pytest.fixture(scope="module")
def stems(built, tmp_path_factory):
    return open_corpus(built, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def mixer(stems):
    return Mixer(stems, batch_size=24, seconds=0.5)


def test_the_corpus_holds_what_was_asked_for(built, capfd):
    assert sorted(path.name for path in built.iterdir()) == [
        "patches_00000",
        "recorded_hydrogen",
        "recorded_rubidium",
        *(f"rendered_{n:05d}" for n in range(2)),
        "singers_00000",
    ]
    note = json.loads((built / "recorded_hydrogen" / "song.json").read_text())
    assert note["bass_in_other"]
    assert sorted(path.stem for path in (built / "patches_00000").glob("*.ogg")) == ["bass", "other"]
    assert [path.stem for path in (built / "singers_00000").glob("*.ogg")] == ["vocals"]
    for file in built.glob("*/*.ogg"):
        sound, rate = soundfile.read(file)
        assert rate == RATE
        assert sound.shape[1] == 2
        assert np.isfinite(sound).all()
        assert 1e-3 < np.abs(sound).max() < 1.2  # a coder may overshoot 0.9 a little


def test_building_again_changes_nothing_and_an_interrupted_song_is_made_anew(built, songs):
    stamps = {path: path.stat().st_mtime_ns for path in built.glob("*/*")}
    (built / ".rendered_00001.part").mkdir()
    assert build.main(_build(built, songs)) == 0
    assert {path: path.stat().st_mtime_ns for path in built.glob("*/*")} == stamps
    (built / ".rendered_00001.part").rmdir()


def test_a_builder_with_a_cache_decodes_what_was_there_before_it(built, songs, tmp_path):
    assert build.main([*_build(built, songs), "--cache", str(tmp_path)]) == 0
    assert all(is_decoded(song, tmp_path) for song in corpus.finished_songs(built))
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert open_corpus(built, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == stamps


@pytest.mark.skipif(not arrange._grooves(), reason="needs MMA")
def test_the_same_grooves_are_played_each_time():
    for groove in arrange._grooves()[::60]:
        first, again = (arrange._by_mma(np.random.default_rng(0), 12.0, groove) for _ in range(2))
        assert first == again


def test_a_song_is_a_function_of_seed_and_number(nothing_installed):
    first, again = (corpus.render_song(3, 1, 2.0, None) for _ in range(2))
    assert first[1] == again[1]
    assert first[0].keys() == again[0].keys()
    for stem, sound in first[0].items():
        np.testing.assert_array_equal(sound, again[0][stem])
    other = corpus.render_song(3, 2, 2.0, None)[0]
    assert not all(np.array_equal(first[0][s], other[s]) for s in first[0].keys() & other.keys())


def test_a_song_left_by_a_killed_builder_is_none(built, tmp_path):
    shutil.copytree(built, tmp_path / "corpus")
    (tmp_path / "corpus" / "rendered_00001").rename(tmp_path / "corpus" / ".rendered_00001.part")
    names = {path.name for path in built.iterdir()} - {"rendered_00001"}
    assert {path.name for path in corpus.finished_songs(tmp_path / "corpus")} == names
    opened = open_corpus(tmp_path / "corpus", tmp_path / "cache")
    assert {stem.song for stem in opened} <= names
    assert Follower(tmp_path / "corpus", tmp_path / "cache", opened)(0) == []


def test_patches_are_a_function_of_seed_and_number():
    first, again, other = (patches.render_patches(3, n, 9.0) for n in (1, 1, 2))
    assert first[1] == again[1]
    assert list(first[0]) == ["bass", "other"]
    for stem, sound in first[0].items():
        assert sound.shape == (2, 9 * RATE) and sound.dtype == np.float32
        np.testing.assert_array_equal(sound, again[0][stem])
        assert not np.array_equal(sound, other[0][stem])
        assert 0.02 < sound.std() < 0.2 and np.abs(sound).max() <= 0.9001


def test_singers_are_a_function_of_seed_and_number(nothing_installed):
    first, again, other = (singers.render_singers(3, n, 12.0) for n in (1, 1, 2))
    assert first[1] == again[1] and list(first[0]) == ["vocals"]
    sound = first[0]["vocals"]
    assert sound.shape == (2, 12 * RATE) and sound.dtype == np.float32
    np.testing.assert_array_equal(sound, again[0]["vocals"])
    assert not np.array_equal(sound, other[0]["vocals"])
    assert 0.01 < sound.std() < 0.2 and np.abs(sound).max() <= 0.9001


@given(seed=st.integers(0, 10_000))
@settings(deadline=None)
def test_phrases_are_one_after_the_other(seed):
    phrases = singers.draw_phrases(np.random.default_rng(seed), 6.0)
    notes = [note for phrase in phrases for note in phrase]
    assert all(phrases) and all(0.1 <= note.duration <= 4 and 30 < note.pitch < 90 for note in notes)
    assert all(a.start + a.duration <= b.start + 1e-9 for a, b in itertools.pairwise(notes))
    assert not notes or notes[-1].start + notes[-1].duration <= 6.0


@given(seed=st.integers(0, 10_000), low=st.booleans())
@settings(max_examples=25, deadline=None)
def test_any_patch_is_sound_of_the_length_asked_for(seed, low):
    rng = np.random.default_rng(seed)
    voices = [draw_bass_line(rng, 1.5)] if low else draw_parts(rng, 1.5)
    pitches = [note.pitch for voice in voices for note in voice]
    assert all(24 <= pitch <= 64 if low else 40 <= pitch <= 127 for pitch in pitches)
    assert all(0 <= note.start < 1.5 and note.duration > 0 for voice in voices for note in voice)
    sound = patches.play_patch(voices, 1.5, rng, low=low)
    assert sound.shape == (2, round(1.5 * RATE)) and np.isfinite(sound).all()
    assert bool(np.abs(sound).max() > 0.01) == bool(pitches)


def test_patches_and_singers_are_stems_of_no_band(stems):
    drawer = Mixer(stems, batch_size=24, seconds=0.5)._drawer
    kinds = {sound.stem.kind for step in range(4) for sound in drawer(0, step).first.values()}
    assert kinds >= {"patches", "singers"}
    assert not drawer._songs.keys() & {"patches", "singers"}


def test_what_is_missing_is_named(nothing_installed):
    assert "/nonexistent/Audiophob" in sources.missing()
    assert not sources.fonts() and not sources.speakers() and not sources.sampled_kits()


def test_wrong_folders_are_one_line(tmp_path, capsys):
    assert build.main(["--output", str(tmp_path / "out"), "--songs", str(tmp_path)]) == 2
    assert train.main(["--corpus", str(tmp_path), "--output", str(tmp_path / "run")]) == 2
    assert page.main(["--corpus", str(tmp_path), "--output", str(tmp_path / "page")]) == 2
    assert export.main(["--run", str(tmp_path), "--output", str(tmp_path / "model")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 4
    assert all("expected" in line or "No such file" in line for line in lines)


def test_every_thirtieth_rendered_song_and_rubidium_are_held_back(stems):
    held = {f"rendered_{n:05d}" for n in range(90) if corpus.is_held_back(f"rendered_{n:05d}")}
    assert held == {"rendered_00029", "rendered_00059", "rendered_00089"}
    assert not corpus.is_held_back("recorded_sodium")
    assert list(held_back(stems)) == ["recorded_rubidium"]
    assert all(stem.song != "recorded_rubidium" for stem in train.split(stems)[0])


def test_normalising_sets_the_level_of_what_sounds():
    rng = np.random.default_rng(0)
    sound = np.zeros((2, 4 * RATE), np.float32)
    sound[:, :RATE] = 0.003 * rng.normal(size=(2, RATE))
    loud = produce.normalise(sound)
    assert np.sqrt((loud[:, :RATE] ** 2).mean()) == pytest.approx(0.1, rel=0.02)
    np.testing.assert_array_equal(produce.normalise(np.zeros((2, RATE), np.float32)), 0)


@pytest.mark.parametrize("stem", STEMS)
def test_a_studio_keeps_length_and_headroom(stem):
    rng = np.random.default_rng(1)
    dry = rng.normal(size=(2, RATE)).astype(np.float32)
    for seed in range(4):
        made = produce.produce(stem, dry, produce.draw_medium(rng), np.random.default_rng(seed))
        assert made.shape == dry.shape and made.dtype == np.float32
        assert np.isfinite(made).all() and np.abs(made).max() <= 0.9001


def test_a_stretched_vowel_walks_only_inside_itself():
    frames = np.zeros(30)
    syllable = syllables.Syllable(world.Voice(frames, frames[:, None], frames[:, None], 8000.0), 10, 0.0)
    for length in (6, 20, 21, 200):
        walked = syllables.stretched(syllable, length)
        assert len(walked) == 10 + length
        np.testing.assert_array_equal(walked[:10], np.arange(10))
        assert walked[10:].min() >= 10 and walked.max() == 29
        assert np.abs(np.diff(walked[10:])).max() <= (4 if length < 20 else 1)


def test_clips_of_any_format_count_once_and_short_ones_do_not(monkeypatch, tmp_path):
    pytest.importorskip("pyworld")
    folder = tmp_path / "en_f_Someone"
    folder.mkdir()
    noise = 0.1 * np.random.default_rng(0).normal(size=(2 * RATE, 2))
    for name, sound in (("a.ogg", noise), ("a.wav", noise), ("b.flac", noise), ("short.wav", noise[:RATE])):
        soundfile.write(folder / name, sound, RATE)
    (folder / "c.g722").write_bytes(bytes(16_000))
    monkeypatch.setattr(sources, "_SPEECH", tmp_path)
    monkeypatch.setattr(sources, "MORE_SPEECH", tmp_path / "none")
    find = sources.find_spec
    monkeypatch.setattr(sources, "find_spec", lambda name: None if name == "av" else find(name))
    assert [clip.name for clip in sources.speakers()["en_f_Someone"]] == ["a.ogg", "b.flac"]
    assert syllables.spoken(folder / "a.ogg").envelope.shape == (401, 513)


def test_vocals_out_of_speech_are_a_function_of_the_generator(monkeypatch, tmp_path):
    pytest.importorskip("pyworld")
    time = np.arange(2 * RATE) / RATE
    vowels = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 40)) * (np.sin(9 * time) > -0.5)
    (tmp_path / "xx_m_Test").mkdir()
    for n in range(3):
        soundfile.write(tmp_path / "xx_m_Test" / f"{n}.flac", 0.2 * vowels, RATE)
    monkeypatch.setattr(sources, "_SPEECH", tmp_path)
    monkeypatch.setattr(sources, "MORE_SPEECH", tmp_path / "none")
    phrases = [[Note(0.5, 0.5, 60, 0.8), Note(1.0, 0.9, 64, 0.8)]]
    talkers = sources.speakers()
    parts = (backing.choir, lambda *rest: backing.rapped(("xx_m_Test", talkers["xx_m_Test"]), *rest[1:]))
    for sing in (voices._sung, *parts):
        first, again = (sing(talkers, phrases, 2.0, np.random.default_rng(4)) for _ in range(2))
        np.testing.assert_array_equal(first, again)
        assert first.dtype == np.float32 and first.shape[-1] == 2 * RATE
        assert np.isfinite(first).all() and np.abs(first).max() > 1e-3


def test_a_voice_is_sung_at_the_pitch_of_the_melody():
    pytest.importorskip("pyworld")
    time = np.arange(RATE) / RATE
    spoken = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 30)).astype(np.float32) * 0.1
    voice = world.analyse(spoken[::2], RATE // 2)
    sung = world.resynthesise(voice, np.full(len(voice.f0), 330.0), formants=1.1)
    spectrum = np.abs(np.fft.rfft(sung[RATE // 4 : 3 * RATE // 4] * np.hanning(RATE // 2)))
    strongest = np.argmax(spectrum[:1000]) * 2
    assert min(strongest % 330, -strongest % 330) <= 4


def test_a_melody_written_down_keeps_its_times_and_pitches():
    phrases = [
        [Note(0.0, 0.5, 61, 0.8), Note(0.5, 0.7, 72, 0.8), Note(1.0, 0.02, 60, 0.8)],
        [Note(3.0, 1.0, 59.7, 0.8)],
    ]
    root = ElementTree.fromstring(sung_scores.music_xml(phrases, [["ら", "きゃ", "ん"], ["あ"]]))
    now, found = 0, []
    for measure in root.iter("measure"):
        length = int(measure.findtext(".//duration"))
        assert length == int(measure.findtext(".//beats"))  # a measure is as long as what is in it
        if (pitch := measure.find(".//pitch")) is not None:
            name = pitch.findtext("step") + "#" * int(pitch.findtext("alter", "0")) + pitch.findtext("octave")
            found.append((now / 64, (now + length) / 64, name, measure.findtext(".//text")))
        now += length
    # It begins with a rest; a note ends where the next begins; what is too short to sing is left out.
    assert found == [(1 / 64, 0.5, "C#4", "ら"), (0.5, 1.0, "C5", "きゃ"), (3.0, 4.0, "C4", "あ")]
    assert root.find(".//note/rest") is not None and now == 5 * 64


@given(st.integers(0, 127))
def test_notes_are_folded_into_the_voices_range_by_octaves(pitch):
    folded = sung_scores._folded(pitch)
    assert 55 <= folded <= 76 and (folded - pitch) % 12 == 0


def test_a_melody_is_moved_into_the_voices_range_and_keeps_its_key():
    phrases = [[Note(float(n), 0.5, pitch, 0.8) for n, pitch in enumerate((40, 43, 47, 64))]]
    for up in (-5, 0, 7):
        (moved,) = sung_scores._in_range(phrases, up)
        steps = [(new.pitch - old.pitch - up) % 12 for new, old in zip(moved, phrases[0], strict=True)]
        assert steps == [0, 0, 0, 0]
        assert all(55 <= note.pitch <= 76 for note in moved)


def test_a_trained_voice_sings_the_melody_and_is_silent_beside_it():
    pytest.importorskip("pyworld")
    pytest.importorskip("pysinsy")
    phrases = [[Note(1.0, 1.0, 57, 0.8), Note(2.0, 0.9, 60, 0.8)]]
    first, again = (
        sung_scores.sing_score(phrases, seconds=5.0, rng=np.random.default_rng(3)) for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)
    assert first.shape == (2, 5 * RATE) and first.dtype == np.float32
    assert 0.05 < np.abs(first).max() < 3
    assert np.abs(first[:, : RATE // 2]).max() < 1e-3 and np.abs(first[:, 4 * RATE :]).max() < 1e-3


def test_notes_of_a_band_lie_within_the_song(nothing_installed):
    band = arrange.arrange(np.random.default_rng(5), 6.0)
    notes = band.bass.notes + [note for layer in band.other for note in layer.notes]
    assert notes and all(isinstance(note, Note) and 0 <= note.start < 6 for note in notes)
    assert all(hit.drum in sources.DRUMS for hit, _ in band.drums)


def test_batches_are_a_function_of_seed_and_step(mixer, stems):
    batch = mixer(5, 7)
    for mine, again in zip(batch, Mixer(stems, batch_size=24, seconds=0.5)(5, 7), strict=True):
        np.testing.assert_array_equal(mine, again)
    assert batch.stems.shape == (24, 4, 2, RATE // 2)
    assert batch.stems.dtype == batch.gain.dtype == batch.weight.dtype == np.float32
    assert batch.swap.dtype == bool and batch.origin.dtype == np.int32
    assert not np.array_equal(batch.stems, mixer(5, 8).stems)
    assert not np.array_equal(batch.stems, mixer(6, 7).stems)


def test_an_accelerator_makes_the_same_batches(stems):
    sizes = {"batch_size": 24, "seconds": 0.5}
    host, device = Mixer(stems, **sizes), DeviceMixer(stems, **sizes)
    for step in range(3):
        draw = host._drawer(1, step)
        mine, other = host(1, step), jax.tree.map(np.asarray, device(1, step))
        np.testing.assert_array_equal(mine.swap, other.swap)
        assert other.origin is None
        np.testing.assert_allclose(other.gain, mine.gain, rtol=5e-3)  # resampled by other filters
        np.testing.assert_allclose(other.weight, mine.weight, rtol=2e-2, atol=1e-4 * mine.weight.max())
        as_they_were = 0
        for place in np.ndindex(mine.swap.shape):
            sounds = [sounds[place] for sounds in (draw.first, draw.second) if place in sounds]
            scale = np.abs(mine.stems[place]).max()
            exact = all(sound.speed == 1.0 for sound in sounds)
            as_they_were += exact and bool(sounds)
            if exact:
                np.testing.assert_allclose(other.stems[place], mine.stems[place], atol=1e-5 * scale)
            # By eight samples, or by soxr, which hears nothing before the start: alike below 8 kHz, whereto a stage
            # that bends brings what is not alike above it.
            bent = any(sound.drive > 0 for sound in sounds)
            window = np.hanning(RATE // 2)
            both = [np.fft.rfft(window * sound[place])[:, :4000] for sound in (mine.stems, other.stems)]
            assert np.linalg.norm(both[1] - both[0]) <= (0.03 if bent else 0.01) * np.linalg.norm(both[0])
        assert as_they_were > 20
    with pytest.raises(ValueError, match="expected at most 2,147,483,647 samples"):
        DeviceMixer(stems, room=2**31, **sizes)
    with pytest.raises(ValueError, match="other: expected at most"):
        device._take_in([stem for stem in stems if stem.name == "other"])
    roomy = DeviceMixer(stems, room=2**20, **sizes)
    roomy._take_in([stem._replace(song="another") for stem in stems[:1]])


def test_training_follows_a_corpus_that_grows(built, tmp_path):
    partial_corpus, cache = tmp_path / "corpus", tmp_path / "cache"
    shutil.copytree(built, partial_corpus, ignore=shutil.ignore_patterns("rendered_00001"))
    first = open_corpus(partial_corpus, cache)
    follow = Follower(partial_corpus, cache, first, every=2)
    assert follow(0) == follow(2) == []
    shutil.copytree(built / "rendered_00001", partial_corpus / "rendered_00001")
    assert follow(4) == []  # not decoded yet
    decode(partial_corpus / "rendered_00001", cache)
    assert follow(5) == []  # not its turn
    new = follow(6)
    assert {stem.song for stem in new} == {"rendered_00001"} and follow(8) == [] and follow.taken == 1
    mixer = Mixer(first, batch_size=24, seconds=0.5, follow=lambda step: new if step == 6 else [])

    def songs(step):
        mixer(0, step)
        draw = mixer._drawer(0, step)
        return {sound.stem.song for sound in draw.first.values()}

    assert "rendered_00001" not in songs(5) and "rendered_00001" in songs(6)


def test_an_unseparated_bass_is_never_a_lesson_in_no_bass(stems):
    assert [(stem.song, stem.name) for stem in stems if stem.holds_bass] == [("recorded_hydrogen", "other")]
    # Only that `other` is left: wherever it sounds, the bass is not trained.
    pool = [stem for stem in stems if stem.name != "other" or stem.holds_bass]
    batch = Mixer(pool, batch_size=24, seconds=0.5)(0, 0)
    sounds = (batch.gain[:, STEMS.index("other")] > 0) & (
        batch.stems[:, STEMS.index("other")].any(axis=(1, 2))
    )
    assert sounds.any()
    for name in ("bass", "other"):
        np.testing.assert_array_equal(batch.weight[sounds, STEMS.index(name)], 0)
    assert (batch.weight[:, STEMS.index("drums")] > 0).mean() > 0.9


def test_levels_vary_and_weights_make_losses_comparable(mixer):
    batch = mixer(0, 3)
    sounds = batch.stems * batch.gain[..., None, None]
    silent = np.abs(sounds).max(axis=(2, 3)) == 0
    assert 0.02 < silent.mean() < 0.4
    level = 10 * np.log10((sounds.sum(axis=1) ** 2).mean(axis=(1, 2)) + 1e-12)
    audible = level > -100
    assert level[audible].min() < -24 and -18 < level.max() < -10.9
    # The loss of an estimate of nothing, by Parseval's theorem.
    loss = 1536 * (sounds**2).mean(axis=(2, 3)) * batch.weight
    assert (loss < 5).all() and loss[~silent].mean() > 0.05


def test_missing_stems_are_named(stems, tmp_path):
    with pytest.raises(ValueError, match="expected at least one stem of bass"):
        Mixer([stem for stem in stems if stem.name != "bass"], batch_size=1, seconds=0.5)
    with pytest.raises(FileNotFoundError, match="expected songs that recipes"):
        open_corpus(tmp_path, tmp_path / "cache")


def test_a_song_is_cut_whole(stems):
    own = held_back(stems)["recorded_rubidium"]
    excerpts = whole_song(own, seconds=2.0)
    assert excerpts.shape == (3, 4, 2, 2 * RATE)
    drums = next(stem for stem in own if stem.name == "drums")
    np.testing.assert_array_equal(excerpts[2, 1], drums.audio[:, 4 * RATE : 6 * RATE] / np.float32(32768))


def test_equalisers_are_bounded_gains():
    ones = np.ones((5, 4, 2, 3, 65), np.complex64)
    gain = np.asarray(equalise(ones, jax.random.key(0)))
    assert (gain.imag == 0).all()
    np.testing.assert_array_equal(gain[..., :1, :], gain[..., 1:2, :])  # a filter: the same in each frame
    np.testing.assert_array_equal(gain[:, :, 0], gain[:, :, 1])  # and channel
    assert gain.real.min() >= 0
    assert gain.real.max() <= 10 ** (12 / 20) * 1.0001
    assert gain.real.std() > 0.1


def test_the_rate_warms_up_stays_and_falls():
    def by_steps(steps, count):
        args = train.parser().parse_args(f"--corpus . --output . --steps {steps}".split())
        rate = train.schedule_of(args, 0.0)
        return [rate(step) for step in range(count)]

    rates = by_steps(900, 900)
    assert rates[0] == pytest.approx(2e-5)
    np.testing.assert_allclose(rates[50:600], 1e-3)
    assert np.all(np.diff(rates[600:]) < 0)
    assert rates[-1] == pytest.approx(1e-5, rel=0.05)
    # A run that is to end elsewhere has the same rates up to where it falls.
    np.testing.assert_array_equal(rates[:600], by_steps(1200, 600))


def test_the_rate_falls_by_the_clock_where_only_the_time_is_known(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(train.time, "monotonic", lambda: clock[0])
    args = train.parser().parse_args(["--corpus", ".", "--output", ".", "--minutes", "9"])
    rate, rates = train.schedule_of(args, 0.0), []
    assert rate(0) == pytest.approx(2e-5)
    for clock[0] in range(540):
        rates.append(rate(1000))
    np.testing.assert_allclose(rates[:360], 1e-3)
    assert np.all(np.diff(rates[361:]) < 0)
    assert rates[-1] == pytest.approx(1e-5, rel=0.05)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_wider_net_computes_the_same_and_learns_with_all_its_units(bidirectional):
    config = OpenUnmixConfig(
        n_fft=64, hop_length=16, hidden_size=8, bidirectional=bidirectional, bandwidth=9000.0
    )
    state = init_state(config, adam_with_l2(), n_targets=1, key=jax.random.key(0))
    variables = unstack({"params": state.params, "batch_stats": state.batch_stats}, 0)
    wider_config, wider = widen(variables, config, 12, seed=1)
    assert wider_config == replace(config, hidden_size=12)
    magnitude = np.abs(np.random.default_rng(0).standard_normal((3, 2, 33, 20))).astype(np.float32)
    before = openunmix.apply(variables, magnitude, config)
    np.testing.assert_allclose(openunmix.apply(wider, magnitude, wider_config), before, rtol=1e-5, atol=1e-6)

    def loss(params):
        made, _ = openunmix.apply_train(
            {**wider, "params": params}, magnitude, wider_config, key=jax.random.key(2), dropout=0.0
        )
        return jnp.mean((made - 0.3 * magnitude) ** 2)

    # Weights of zero are on the way from new units to the mask alone, and those have gradients.
    fresh_rows = np.asarray(jax.grad(loss)(wider["params"])["fc3"]["kernel"])[8:]
    assert np.all(np.abs(fresh_rows).max(axis=1) > 0)


@pytest.mark.parametrize("hidden_size", [8, 6, 13])
def test_a_net_is_only_made_wider(hidden_size):
    config = OpenUnmixConfig(n_channels=1, n_fft=64, hop_length=16, hidden_size=8)
    variables = openunmix.init(config, key=jax.random.key(0))
    with pytest.raises(ValueError, match="hidden size above 8 that 2 divides"):
        widen(variables, config, hidden_size)


def _save_model(folder, config, seed, gain=1.0):
    state = init_state(config, adam_with_l2(), n_targets=4, key=jax.random.key(seed))
    for n, name in enumerate(STEMS):
        variables = nets.with_gain(
            unstack({"params": state.params, "batch_stats": state.batch_stats}, n), gain
        )
        save_weights(folder, name, variables, config, metadata={"gain": gain, "version": str(seed)})
    return folder


def test_the_average_of_models_is_that_of_their_weights_before_calibration(tmp_path, capsys):
    config = OpenUnmixConfig(n_channels=1, n_fft=64, hop_length=16, hidden_size=4, n_layers=1)
    one, other = _save_model(tmp_path / "1", config, 1), _save_model(tmp_path / "2", config, 2, gain=0.5)
    assert average.main([str(one), str(other), str(other), "--output", str(tmp_path / "mean")]) == 0
    assert "the average of 3 models" in capsys.readouterr().out
    read = [nets.load_nets(folder) for folder in (one, other, tmp_path / "mean")]
    for first, second, mean in zip(*(model.variables for model in read), strict=True):
        expected = jax.tree.map(lambda a, b: (np.float64(a) + 2 * np.float64(b)) / 3, first, second)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7), mean, expected)
    assert [facts["averaged"] for facts in read[2].metadata] == [3] * 4
    assert all(facts["version"] == "2" and "gain" not in facts for facts in read[2].metadata)


def test_only_models_of_one_size_have_an_average(tmp_path, capsys):
    config = OpenUnmixConfig(n_channels=1, n_fft=64, hop_length=16, hidden_size=4, n_layers=1)
    one = _save_model(tmp_path / "1", config, 1)
    other = _save_model(tmp_path / "2", replace(config, hidden_size=6), 2)
    assert average.main([str(one), str(other), "--output", str(tmp_path / "mean")]) == 2
    assert "expected models of one size" in capsys.readouterr().err
    assert average.main([str(tmp_path / "none"), "--output", str(tmp_path / "mean")]) == 2
    assert not (tmp_path / "mean").exists()
    with pytest.raises(ValueError, match="at least one model"):
        average.average([])


def test_estimates_of_nothing_score_zero_and_the_ideal_high():
    config = OpenUnmixConfig(hidden_size=4, n_layers=1)
    state = init_state(config, adam_with_l2(), n_targets=4, key=jax.random.key(0))
    params = state.params | {name: 0 * state.params[name] for name in ("output_mean", "output_scale")}
    nothing = {"params": params, "batch_stats": state.batch_stats}
    excerpts = np.random.default_rng(0).normal(size=(3, 4, 2, 8192)).astype(np.float32)
    scores = validate.validate(nothing, {"a": excerpts}, config)
    np.testing.assert_allclose([scores["a"][stem] for stem in STEMS], 0, atol=1e-4)
    excerpts[:, 2:] = 0
    scores = validate.validate(nothing, {"a": excerpts}, config)["a"]
    assert all(np.isnan(scores[stem]) for stem in STEMS[2:])
    ideal = validate.prepare(nothing, excerpts[0], config)
    ideal = ideal._replace(magnitudes=np.abs(ideal.truth))
    sdr = np.asarray(validate.stem_sdr(ideal, np.ones(4, np.float32)))
    assert (sdr[:2] > 3).all()  # of two noises that share every bin


def test_calibration_finds_the_gain_that_a_net_lacks():
    rng = np.random.default_rng(2)
    truth = rng.normal(size=(4, 2, 40, 60)) + 1j * rng.normal(size=(4, 2, 40, 60))
    truth *= 10 ** rng.uniform(-1, 1, size=(4, 1, 40, 60))
    magnitudes, mixture = np.abs(truth).astype(np.float32), truth.sum(axis=0).astype(np.complex64)
    lacking = np.array([1.58, 1.0, 1.0, 1.0])
    lacking = np.float32(lacking)[:, None, None, None]
    wrong = [validate.Prepared(lacking * magnitudes, mixture, truth.astype(np.complex64))]
    gains = calibrate.best_gains(wrong)
    assert gains[0] < gains[1:].mean()
    assert validate.mean_sdr(wrong, gains).mean() > validate.mean_sdr(wrong, np.ones(4)).mean()


@pytest.fixture
def compiled_once(tmp_path):
    """What is resumed need not be compiled again."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "xla"))
    yield
    jax.config.update("jax_compilation_cache_dir", None)


def test_trains_resumes_calibrates_exports_and_separates(built, tmp_path, capsys, monkeypatch, compiled_once):
    small = partial(OpenUnmixConfig, n_fft=1024, hop_length=512, n_layers=1)
    monkeypatch.setattr(train, "OpenUnmixConfig", small)  # one layer is compiled in a third of the time
    run, model = tmp_path / "run", tmp_path / "model"
    toy = f"--hidden-size 4 --batch-size 2 --seconds 0.5 --epoch 2 --corpus {built} --steps 2"
    toy = [*toy.split(), "--cache", str(tmp_path / "cache"), "--output", str(run)]
    assert train.main([*toy, "--minutes", "0"]) == 0
    assert train.main([*toy, "--resume"]) == 0
    said = capsys.readouterr().out
    assert "ended for minutes after step 1" in said and "ended for steps after step 2" in said
    lines = (run / "validation.jsonl").read_text().splitlines()
    assert [set(json.loads(line)["recorded_rubidium"]) for line in lines] == [set(STEMS)] * 3

    further = f"--output {tmp_path / 'further'} --init {run / 'last'} --targets other vocals".split()
    assert train.main([*toy, *further]) == 0
    for name in STEMS:
        before, after = (
            load_weights(tmp_path / folder / "last", name).variables for folder in ("run", "further")
        )
        same = jax.tree.map(np.array_equal, before["params"], after["params"])
        assert all(jax.tree.leaves(same)) == (name in ("drums", "bass"))
    assert saved_targets(tmp_path / "further" / "model") == ["other", "vocals"]
    capsys.readouterr()
    assert train.main([*toy, "--targets", "vocals"]) == 2
    assert "--targets: expected all of them, or --init" in capsys.readouterr().err
    timeless = [*toy[: toy.index("--steps")], *toy[toy.index("--steps") + 2 :]]
    assert train.main(timeless) == train.main([*timeless, "--minutes", "1", "--resume"]) == 2
    assert capsys.readouterr().err.count("--steps: expected a number") == 2

    places = ["--corpus", str(built), "--cache", str(tmp_path / "cache"), "--model", str(run / "last")]
    assert calibrate.main([*places, "--output", str(run / "gains.json"), "--excerpts", "1"]) == 0
    gains = json.loads((run / "gains.json").read_text())["gains"]
    assert export.main(["--run", str(run), "--output", str(model), "--dtype", "float16"]) == 0
    assert saved_targets(model) == sorted(STEMS)
    weights, trained = load_weights(model, "drums"), load_weights(run / "last", "drums")
    assert weights.metadata["licence"] == "MIT" and weights.metadata["version"] == "9"
    np.testing.assert_allclose(
        weights.variables["params"]["output_mean"],
        gains["drums"] * trained.variables["params"]["output_mean"],
        rtol=1e-6,
    )
    assert "| Sonic Pi's samples" in (model / "CARD.md").read_text()
    assert len((model / "SHA256SUMS").read_text().splitlines()) == 4

    # Starting from a calibrated model takes its gains back.
    args = train.parser().parse_args(["--corpus", "x", "--output", "y", "--init", str(model)])
    _, variables = train.initial(args, None)
    np.testing.assert_allclose(
        unstack(variables, STEMS.index("drums"))["params"]["output_mean"],
        trained.variables["params"]["output_mean"],
        rtol=1e-5,
    )


def test_packs_the_sounds_that_are_installed(nothing_installed, tmp_path, monkeypatch):
    strokes, speech = tmp_path / "kit" / "kick.flac", tmp_path / "speech" / "en_f_a"
    for folder in (strokes.parent, speech):
        folder.mkdir(parents=True)
    noise = 0.1 * np.random.default_rng(0).normal(size=5 * RATE)
    soundfile.write(strokes, noise, RATE)
    for n in range(4):
        soundfile.write(speech / f"{n}.flac", noise, RATE)
    kit = {"kit": {"kick": [[sources.Stroke(strokes, 0.0, 1.0)]]}}
    monkeypatch.setattr(sources, "sampled_kits", lambda: kit)
    monkeypatch.setattr(sources, "speakers", lambda: {"en_f_a": sorted(speech.iterdir())})
    monkeypatch.setattr(pack, "_MMA", (sources.Path("/nonexistent"),))
    assert pack.main(["--output", str(tmp_path / "a.tar"), "--speech-minutes", "0.1"]) == 0
    with tarfile.open(tmp_path / "a.tar") as archive:
        archive.extractall(tmp_path / "there", filter="data")
    there = [path for path in (tmp_path / "there").rglob("*") if path.is_file()]
    assert sorted(path.suffix for path in there) == [
        ".flac",
        ".ogg",
        ".ogg",
    ]  # two clips of four seconds, of six
    again = sources.read(next(path for path in there if path.name == "kick.flac"))
    assert (
        again.shape == (2, round(3.2 * RATE)) and np.corrcoef(again[0], noise[: again.shape[1]])[0, 1] > 0.7
    )


def test_a_page_of_spectrograms(built, tmp_path):
    pytest.importorskip("matplotlib")
    assert (
        page.main(["--corpus", str(built), "--output", str(tmp_path), "--count", "2", "--seconds", "1"]) == 0
    )
    text = (tmp_path / "index.html").read_text()
    assert "patches_00000" in text and "singers_00000" in text
    assert len(list(tmp_path.glob("*.png"))) == 3


# -- on a machine without a network --


def offline(folder, **settings):
    """Run the script with an empty archive; all its output."""
    with tarfile.open(folder / "sources.tar", "w"):
        pass
    env = {**os.environ, "ROOT": str(folder), "WORK": str(folder / "work"), "PYTHON": sys.executable}
    env |= {"WORKERS": "2", **settings}
    command = ["sh", "recipes/open_weights/offline.sh", str(folder / "out"), str(folder / "sources.tar")]
    root = Path(__file__).parents[1]
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=600)


def test_the_offline_script_ends_in_time_and_ends_its_builder(tmp_path):
    done = offline(tmp_path, MINUTES="0", FIRST="30", SONGS="30")
    assert done.returncode == 1 and "expected 30 songs within 0 minutes" in done.stderr
    for _ in range(100):  # it is told to end, and may take a moment
        if not running(f"{tmp_path}/work/corpus"):
            return
        time.sleep(0.1)
    pytest.fail("the builder goes on")


def running(word):
    """Processes whose command line holds a word; where there is no /proc, none is found."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # one may end meanwhile
            found += [path.parent.name] if word.encode() in path.read_bytes() else []
    return found


@pytest.mark.slow
def test_the_offline_script_renders_trains_and_packs(tmp_path):
    options = "--hidden-size 16 --batch-size 2 --seconds 1 --epoch 2 --steps 3"
    done = offline(tmp_path, MINUTES="9", FIRST="30", SONGS="31", TRAIN=options, PIECE="100k")
    assert done.returncode == 0, done.stderr
    pieces = b"".join(piece.read_bytes() for piece in sorted((tmp_path / "out").glob("weights.tar.*")))
    with tarfile.open(fileobj=io.BytesIO(pieces)) as archive:
        archive.extractall(tmp_path, filter="data")
    assert saved_targets(tmp_path / "last") == sorted(STEMS)
    assert load_weights(tmp_path / "last", "bass").config.hidden_size == 16
    assert (tmp_path / "out" / "validation.jsonl").read_text().count("vocals") == 2
