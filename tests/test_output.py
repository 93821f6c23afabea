"""Names of songs and stems."""

import pytest

from jaxsep.output import OutputConfig, check_distinct, find_songs, output_stems, stem_paths


def test_folders_are_searched(tmp_path):
    for name in ("b/01.wav", "a/01.flac", "a/01.mp3", "notes.txt", ".hidden/x.wav", "out/old/vocals.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    songs = find_songs([tmp_path, tmp_path / "b" / "01.wav"], skip=tmp_path / "out")
    assert [song.track for song in songs] == ["a/01", "a/01.mp3", "b/01", "01"]
    with pytest.raises(ValueError, match="got none"):
        find_songs([tmp_path / "empty"])


def test_names_of_the_output():
    output = OutputConfig(folder="x", template="{stem} of {track}.{ext}", extension="flac")
    assert stem_paths("s", ["bass"], output)["bass"].as_posix() == "x/bass of s.flac"
    output = OutputConfig(aggregate={"band": ["drums", "hiss"]}, residual="hiss")
    assert output_stems(["drums", "residual"], output) == {"band": [0, 1]}
    with pytest.raises(ValueError, match="stems among drums; got vocals"):
        output_stems(["drums"], OutputConfig(aggregate={"a": ["vocals"]}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip": "loud"}, "clip: expected one of"),
        ({"clip": "none"}, "FLOAT"),
        ({"extension": "xyz"}, "extensions"),
        ({"subtype": "PCM_99"}, "subtype"),
        ({"template": "{track}.{ext}"}, "template"),
        ({"template": "{nonsense}/{stem}.{ext}"}, "template"),
        ({"template": "{track.foo}/{stem}.{ext}"}, "template"),
        ({"template": "{track}/{stem}"}, "template"),
        ({"template": "{track}/{stem}.flac"}, "template"),
        ({"two_stems": "a", "aggregate": {"b": ["a"]}}, "both"),
    ],
)
def test_impossible_output_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        OutputConfig(**options)


def test_no_two_songs_share_a_name(tmp_path):
    for folder in "abc":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "01.wav").touch()
    songs = find_songs([tmp_path / folder / "01.wav" for folder in "abc"])
    assert [song.track for song in songs] == ["01", "01.wav", "01.wav 2"]
    with pytest.raises(ValueError, match=r"\{track\}"):
        check_distinct(songs, ["bass"], OutputConfig(template="{stem}.{ext}"))
    check_distinct(songs, ["bass"], OutputConfig())


def test_stems_may_go_where_the_songs_are(tmp_path):
    (tmp_path / "01.wav").touch()
    assert [song.track for song in find_songs([tmp_path], skip=tmp_path)] == ["01"]


def test_a_residual_needs_a_name_of_its_own():
    with pytest.raises(ValueError, match="beside drums; got 'drums'"):
        output_stems(["drums", "residual"], OutputConfig(residual="drums"))
