"""Renders songs from sampled instruments and real guitars: a folder of stems to train on beside recordings.

    apt-get install fluid-soundfont-gm sonic-pi-samples hydrogen-drumkits fretsonfire-songs-sectoid
    pip install tinysoundfont
    python -m recipes.umx_open.build_extra --output extra --songs 240

Each song is a folder of FLAC files named after the stems that it has. Sources, all of which allow any use:

- FluidR3 GM soundfont, Frank Wen and others, MIT: drums, bass, other.
- Sonic Pi's samples, many authors on Freesound, CC0: drums.
- Hydrogen's drum kit Audiophob, CC0: drums.
- Sectoid's song pack for Frets on Fire, Carlos Viola Iborra, MIT: recorded electric guitars, other.

The notes come from `datasets.score`. What is not installed is left out and named at the end.
"""

import argparse
import re
import sys
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from datasets.score import DRUM_NAMES, Hit, Note, compose
from datasets.sound import reverberate

__all__ = ["main"]

RATE = 44100
FONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
ONE_SHOTS = (Path("/usr/share/sonic-pi/samples"), Path("/usr/share/hydrogen/data/drumkits/Audiophob"))
GUITARS = Path("/usr/share/games/fretsonfire/data/songs/sectoid")

# General MIDI numbers: keys of the drums, programs of basses and of all that may play chords and melodies.
_DRUM_KEYS = {
    "kick": (35, 36), "snare": (38, 40, 37), "hat": (42, 44), "open_hat": (46,), "ride": (51, 59, 53),
    "crash": (49, 57, 55), "tom_low": (41, 43, 45), "tom_high": (47, 48, 50), "clap": (39, 54, 56, 70),
}  # fmt: skip
_KITS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 24, 25, 32, 40)
_BASSES = (32, 33, 33, 34, 34, 35, 36, 37, 38, 39, 38, 39)
_CHORDS = (
    0, 1, 2, 3, 4, 4, 5, 5, 6, 7, 11, 16, 17, 18, 19, 21, 24, 25, 25, 26, 27, 27, 28, 29, 29, 30, 30, 48, 49, 50, 51,
    61, 62, 63, 81, 88, 89, 90, 92, 94, 95,
)  # fmt: skip
_MELODIES = (
    4, 11, 12, 22, 24, 25, 26, 27, 29, 30, 40, 42, 48, 56, 57, 61, 64, 65, 66, 68, 73, 80, 81, 82, 84, 87, 104,
)  # fmt: skip
# One-shots by name; `elec` snares and toms are from drum machines.
_ONE_SHOT_NAMES = {
    "kick": r"^bd_|bass_(hard|soft)|heavy_kick|hollow_kick|soft_kick|crunchtime",
    "snare": r"^sn_|snare",
    "hat": r"cymbal_closed|cymbal_pedal|hhat|hat-light|sabmute|elec_(tick|cymbal)",
    "open_hat": r"cymbal_open|open-p",
    "ride": r"cymbal_soft|cymbal_hard",
    "crash": r"splash|cymbal_hard|crash",
    "tom_low": r"tom_(lo|mid)|noise-tom0|tom-01",
    "tom_high": r"tom_(hi|mid)|tomh|noise-tom1|fuzz_tom",
    "clap": r"perc_snap|cowbell|elec_(wood|pop|blip|twip)",
}
# How loud each drum is within its kit.
_ONE_SHOT_LEVELS = {
    "kick": 1.0, "snare": 0.8, "clap": 0.5, "tom_low": 0.7, "tom_high": 0.7, "hat": 0.25, "open_hat": 0.25, "ride": 0.2,
    "crash": 0.4,
}  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--output", type=Path, required=True, help="folder for the songs")
    p.add_argument("--songs", type=int, default=240, help="songs to render")
    p.add_argument("--seconds", type=float, default=30.0, help="length of a song")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--workers", type=int, default=2)
    return p


def render_song(seed: int, seconds: float) -> dict[str, np.ndarray]:
    """Compose a song and play it on sampled instruments: stem name to float32 (2, time)."""
    rng = np.random.default_rng([20, seed])
    score = compose(rng, seconds)
    stems = {}
    one_shots = _one_shots()
    if one_shots and (rng.random() < 0.5 or not FONT.exists()):
        stems["drums"] = _play_one_shots(score.drums, one_shots, seconds, rng)
    elif FONT.exists():
        keys = {name: int(rng.choice(keys)) for name, keys in _DRUM_KEYS.items()}
        notes = [Note(hit.start, 0.2, keys[hit.drum], hit.velocity) for hit in score.drums]
        stems["drums"] = _play_font(notes, 128, int(rng.choice(_KITS)), seconds)
    if FONT.exists():
        stems["bass"] = _play_font(score.bass, 0, int(rng.choice(_BASSES)), seconds)
        stems["other"] = _play_font(score.chords, 0, int(rng.choice(_CHORDS)), seconds)
        for notes, programs in ((score.melody, _MELODIES), (score.chords, _CHORDS)):
            if rng.random() < 0.6:
                layer = _play_font(notes, 0, int(rng.choice(programs)), seconds)
                stems["other"] += np.float32(rng.uniform(0.3, 1.0)) * layer
    return {name: _produce(name, stem, rng) for name, stem in stems.items() if np.abs(stem).max() > 1e-4}


def _produce(name: str, stem: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a studio adds to a dry sound: saturation and a room."""
    if rng.random() < 0.6:
        drive = np.float32(rng.uniform(0.5, 4.0) / np.abs(stem).max())
        stem = np.tanh(drive * stem) / drive
    most = {"drums": 0.35, "bass": 0.1, "other": 0.5}[name]
    if rng.random() < 0.7:
        stem = reverberate(stem, rng, most * rng.random() ** 2, rng.uniform(0.2, 1.8), RATE)
    return _normalise(stem)


def _play_font(notes: list[Note], bank: int, program: int, seconds: float) -> np.ndarray:
    """Play notes on one preset of the soundfont."""
    synth = _synth()
    synth.sounds_off()
    drums = bank == 128
    channel = 9 if drums else 0
    synth.program_select(channel, 0, bank, program, drums)
    events = [(round(note.start * RATE), True, note) for note in notes]
    events += [(round((note.start + max(note.duration, 0.05)) * RATE), False, note) for note in notes]
    length = round(seconds * RATE)
    blocks, now = [], 0
    for time, on, note in sorted(events, key=lambda event: event[:2]):
        if min(time, length) > now:
            blocks.append(_generate(synth, min(time, length) - now))
            now = min(time, length)
        if on:
            synth.noteon(channel, round(note.pitch), round(30 + 97 * note.velocity))
        else:
            synth.noteoff(channel, round(note.pitch))
    blocks.append(_generate(synth, length - now))
    return np.concatenate(blocks, axis=1)


def _generate(synth, length: int) -> np.ndarray:
    return np.frombuffer(bytes(synth.generate(length)), np.float32).reshape(-1, 2).T.copy()


_SYNTHS: list = []  # one a process: the font takes a second to load


def _synth():
    if not _SYNTHS:
        import tinysoundfont

        synth = tinysoundfont.Synth(gain=-6, samplerate=RATE)
        synth.sfload(str(FONT))
        _SYNTHS.append(synth)
    return _SYNTHS[0]


def _one_shots() -> dict[str, list[Path]]:
    files = [file for folder in ONE_SHOTS if folder.is_dir() for file in sorted(folder.iterdir())]
    found = {
        drum: [file for file in files if file.suffix in {".flac", ".wav"} and re.search(pattern, file.name)]
        for drum, pattern in _ONE_SHOT_NAMES.items()
    }
    return found if all(found[drum] for drum in DRUM_NAMES) else {}


def _play_one_shots(
    hits: list[Hit], files: dict[str, list[Path]], seconds: float, rng: np.random.Generator
) -> np.ndarray:
    """A kit put together from single strokes."""
    kit = {drum: _one_shot(files[drum][rng.integers(len(files[drum]))], rng) for drum in DRUM_NAMES}
    out = np.zeros((2, round(seconds * RATE)), np.float32)
    for hit in hits:
        begin = round(hit.start * RATE)
        sound = kit[hit.drum][:, : out.shape[1] - begin]
        level = _ONE_SHOT_LEVELS[hit.drum] * rng.uniform(0.9, 1.1) * hit.velocity**1.5
        out[:, begin : begin + sound.shape[1]] += np.float32(level) * sound
    return out


def _one_shot(file: Path, rng: np.random.Generator) -> np.ndarray:
    sound, rate = soundfile.read(file, dtype="float32", always_2d=True)
    sound = sound[: int(2.5 * rate)].T
    speed = rate / RATE * rng.uniform(0.85, 1.18)
    times = np.arange(0, sound.shape[1] - 1, speed)
    sound = np.stack([np.interp(times, np.arange(sound.shape[1]), channel) for channel in sound[:2]]).astype(
        np.float32
    )
    sound = np.broadcast_to(sound, (2, sound.shape[1])).copy()
    sound[:, -200:] *= np.linspace(1, 0, sound[:, -200:].shape[1], dtype=np.float32)
    return sound / max(float(np.abs(sound).max()), 1e-6)


def _normalise(stem: np.ndarray) -> np.ndarray:
    """To -20 dB RMS, or to a peak of 0.9 where that is less."""
    gain = min(0.1 / np.sqrt(np.mean(stem.astype(np.float64) ** 2) + 1e-12), 0.9 / np.abs(stem).max())
    return stem * np.float32(gain)


def _write_song(task: tuple[int, float, Path]) -> None:
    seed, seconds, output = task
    folder = output / f"rendered_{seed:04d}"
    if folder.exists():
        return
    part = folder.with_suffix(".part")
    part.mkdir(parents=True, exist_ok=True)
    for name, stem in render_song(seed, seconds).items():
        soundfile.write(part / f"{name}.flac", stem.T, RATE, subtype="PCM_16")
    part.rename(folder)


def main(argv: list[str] | None = None) -> int:
    """Build the folder; what is there already is kept."""
    args = parser().parse_args(argv)
    args.output.mkdir(parents=True, exist_ok=True)
    tasks = [(args.seed + index, args.seconds, args.output) for index in range(args.songs)]
    with Pool(args.workers) as pool:
        for _ in tqdm(pool.imap_unordered(_write_song, tasks), total=len(tasks), desc="songs"):
            pass
    for file in sorted(GUITARS.glob("*/guitar.ogg")):
        folder = args.output / ("guitar_" + file.parent.name.replace(" ", "_").lower())
        folder.mkdir(exist_ok=True)
        sound, rate = soundfile.read(file, dtype="float32", always_2d=True)
        soundfile.write(folder / "other.flac", sound, rate, subtype="PCM_16")
    for source in (FONT, *ONE_SHOTS, GUITARS):
        if not source.exists():
            print(f"left out, not installed: {source}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
