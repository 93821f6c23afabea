"""The corpus on disk: a folder a song, a Vorbis file a stem, a note beside them.

Song ``i`` is a function of the seed and ``i`` (and of the sources that are installed).
"""

import json
import shutil
from pathlib import Path

import numpy as np

from recipes.open_weights.arrange import arrange
from recipes.open_weights.band import play_other
from recipes.open_weights.basses import play_bass
from recipes.open_weights.drums import play_drums
from recipes.open_weights.produce import draw_medium, produce
from recipes.open_weights.sources import RATE, read, write_vorbis
from recipes.open_weights.voices import draw_vocals

__all__ = [
    "HELD_BACK",
    "STEMS",
    "finished_songs",
    "is_held_back",
    "render_song",
    "write_guitar",
    "write_recorded",
    "write_song",
]

STEMS = ("vocals", "drums", "bass", "other")
HELD_BACK = "rubidium"  # a recorded song for validation alone
_EVERY = 30  # and one rendered song of so many


def is_held_back(name: str) -> bool:
    """Whether a song of the corpus, by its name, is for validation."""
    kind, _, rest = name.partition("_")
    return (
        rest == HELD_BACK if kind == "recorded" else kind == "rendered" and int(rest) % _EVERY == _EVERY - 1
    )


def render_song(
    seed: int, index: int, seconds: float, songs: Path | None
) -> tuple[dict[str, np.ndarray], float]:
    """Compose, play, sing and produce a song.

    Args:
        seed: of the corpus.
        index: of the song.
        seconds: its length.
        songs: folder of recorded songs, whose singers lend their voices: the held-back one to held-back songs alone.

    Returns:
        Stems float32 (2, time), and how strongly to compress them on disk.
    """
    rngs = dict(zip(("score", "medium", *STEMS), np.random.default_rng([seed, index]).spawn(6), strict=True))
    band = arrange(rngs["score"], seconds)
    medium = draw_medium(rngs["medium"])
    held = is_held_back(f"rendered_{index:05d}")
    recorded = sorted(songs.glob("*/vocals.*")) if songs else []
    recorded = [file for file in recorded if (file.parent.name == HELD_BACK) == held]
    dry = {
        "vocals": draw_vocals(band.vocals, recorded, seconds=seconds, rng=rngs["vocals"]),
        "drums": play_drums(band.drums, seconds=seconds, rng=rngs["drums"]),
        "bass": play_bass(band.bass, seconds=seconds, rng=rngs["bass"]),
        "other": play_other(band.other, seconds=seconds, rng=rngs["other"]),
    }
    heard = {stem: sound for stem, sound in dry.items() if np.abs(sound).max() > 1e-4}
    return {
        stem: produce(stem, sound, medium, rngs[stem]) for stem, sound in heard.items()
    }, medium.compression


def write_song(output: Path, name: str, stems: dict[str, np.ndarray], compression: float, note: dict) -> None:
    """Write a folder aside, then rename it."""
    part = output / f".{name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for stem, sound in stems.items():
        write_vorbis(part / f"{stem}.ogg", sound.T, RATE, compression)
    (part / "song.json").write_text(json.dumps({"stems": sorted(stems), **note}, indent=1))
    part.rename(output / name)


def finished_songs(corpus: Path) -> list[Path]:
    """The folders of songs that were written to their end; a builder that was killed may have left others."""
    return sorted(note.parent for note in corpus.glob("*/song.json") if not note.parent.name.startswith("."))


def write_recorded(output: Path, folder: Path) -> None:
    """Take a recorded song over as it is; one without a bass has it inside `other`."""
    stems = {path.stem: read(path) for path in sorted(folder.iterdir()) if path.stem in STEMS}
    note = {"kind": "recorded", "bass_in_other": "bass" not in stems}
    write_song(output, f"recorded_{folder.name}", stems, 0.4, note)


def write_guitar(output: Path, file: Path) -> None:
    """Take a lone recorded guitar over, as `other`."""
    name = f"guitar_{file.parent.name.replace(' ', '_').lower()}"
    write_song(output, name, {"other": read(file)}, 0.5, {"kind": "guitar"})
