"""Names of songs and stems."""

import pytest

from jaxsep.output import OutputConfig, find_songs, output_stems, stem_paths


def test_folders_are_searched(tmp_path):
    for name in ("b/01.wav", "a/01.flac", "a/01.mp3", "notes.txt", ".hidden/x.wav", "out/old/vocals.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    songs = find_songs([tmp_path, tmp_path / "b" / "01.wav"], skip=tmp_path / "out")
    assert [song.track for song in songs] == ["a/01", "a/01.mp3", "b/01", "01"]
    with pytest.raises(ValueError, match="got none"):
        find_songs([tmp_path / "a" / ".."], skip=tmp_path)


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
        ({"template": "{nonsense}/{stem}"}, "template"),
        ({"two_stems": "a", "aggregate": {"b": ["a"]}}, "both"),
    ],
)
def test_impossible_output_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        OutputConfig(**options)
