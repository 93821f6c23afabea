"""What the corpus is made from: where each source lies, what its licence is, and which are missing here."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile
import soxr

__all__ = [
    "ATTRIBUTIONS",
    "DRUMS",
    "RATE",
    "Stroke",
    "choose",
    "fonts",
    "guitars",
    "log_uniform",
    "missing",
    "read",
    "sampled_kits",
    "speakers",
    "write_vorbis",
]

RATE = 44100
DRUMS = ("kick", "snare", "hat", "open_hat", "ride", "crash", "tom_low", "tom_high", "clap", "perc")

_FONTS = (
    Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"),
    Path("/usr/share/sounds/sf3/MuseScore_General_Lite.sf3"),
    Path("/usr/share/sounds/sf3/FluidR3Mono_GM.sf3"),
)
_SONIC_PI = Path("/usr/share/sonic-pi/samples")
_KITS = Path("/usr/share/hydrogen/data/drumkits")
# The other kits of the package are under the GPL.
_FREE_KITS = ("Audiophob", "BJA_Pacific", "rumpf_kit_z01_h2", "circAfrique v4")
_GUITARS = Path("/usr/share/games/fretsonfire/data/songs")
_SPEECH = Path("/usr/share/asterisk/sounds")
MORE_SPEECH = Path("/usr/share/jaxsep-sources/speech")  # install.sh puts it there
_SHORTEST = 1.5  # s; what is shorter is a silence, a beep or a letter, which hold nothing to sing

ATTRIBUTIONS = (
    ("Everything is Free, Software-Entwicklungskit", "CC0 1.0", "vocals, drums, bass, other"),
    ("FluidR3 GM and FluidR3Mono GM soundfonts, Frank Wen, Michael Cowgill and others", "MIT", "drums, bass, other"),
    ("MuseScore General soundfont (Lite), S. Christian Collins and others", "MIT", "drums, bass, other"),
    ("Sonic Pi's samples, many authors on Freesound", "CC0 1.0", "drums"),
    ("Hydrogen drum kit Audiophob, audiophobdubstep", "CC0 1.0", "drums"),
    ("Hydrogen drum kit rumpf_kit_z01, Emanuel Rumpf", "CC BY 3.0", "drums"),
    ("Hydrogen drum kit BJA_Pacific, Luc Tanguay and Bransin James Anderson", "CC BY-SA 3.0 US", "drums"),
    ("Hydrogen drum kit circAfrique v4, Jim Harney", "CC BY-SA 3.0", "drums"),
    ("Frets on Fire songs, Carlos Viola Iborra (Sectoid)", "MIT", "recorded guitars for other"),
    ("Frets on Fire songs, Lars Muldjord", "CC BY-SA 3.0", "recorded guitars for other"),
    (
        "Asterisk core sounds: Allison Smith (English, Spanish), June Wallack (French), Carlo Flora (Italian), "
        "Ivrvoice (Russian); Digium and others",
        "CC BY-SA 3.0, CC BY",
        "spoken clips from which vocals are sung",
    ),
    (
        "0 A.D., Wildfire Games (https://www.wildfiregames.com): voices in Greek, Latin, Napatan and Persian",
        "CC BY-SA 3.0",
        "spoken clips from which vocals are sung",
    ),
    ("Festival's Russian voice msu_ru_nsh, Nickolay V. Shmyrev: its recordings", "BSD-like", "as above"),
    ("PocketSphinx's test data, Carnegie Mellon University and LibriVox", "BSD 2-clause, public domain", "as above"),
    ("Flite's voices awb, kal16, rms and slt, Carnegie Mellon University", "BSD-like", "as above, synthesised"),
    (
        "Sinsy's voice NIT SONG070 F001, HTS Working Group, Nagoya Institute of Technology",
        "CC BY 3.0",
        "a voice trained on singing, which sings melodies of the recipe",
    ),
    ("datasets.synthetic, datasets.score, our patches", "MIT, our own", "notes, drums, bass, other, vocals"),
)  # fmt: skip


class Stroke(NamedTuple):
    """One recorded stroke and the velocities that it stands for."""

    file: Path
    low: float
    high: float


def missing() -> list[str]:
    """Sources that are not installed; the corpus is built without them."""
    absent = [str(path) for path in (*_FONTS, _SONIC_PI, _GUITARS, _SPEECH, MORE_SPEECH) if not path.exists()]
    absent += [str(_KITS / kit) for kit in _FREE_KITS if not (_KITS / kit).exists()]
    absent += [name for name in ("tinysoundfont", "pyworld", "pysinsy", "mido") if find_spec(name) is None]
    return absent + ([] if Path("/usr/share/mma").exists() else ["mma"])


def fonts() -> list[Path]:
    """Soundfonts that are installed and can be played."""
    return [path for path in _FONTS if path.exists()] if find_spec("tinysoundfont") else []


def guitars() -> list[Path]:
    """Recordings of lone electric guitars."""
    return sorted(_GUITARS.glob("*/*/guitar.ogg"))


def speakers() -> dict[str, list[Path]]:
    """Clips of speech by speaker, whose name holds `_m_` or `_f_`."""
    if find_spec("pyworld") is None:
        return {}
    folders = [path for root in (_SPEECH, MORE_SPEECH) for path in sorted(root.glob("*_[mf]_*"))]
    return {path.name: clips for path in folders if (clips := _clips(path))}


@cache
def _clips(folder: Path) -> list[Path]:
    """Clips that are long enough, each once, even where it lies there in two formats."""
    formats = [".wav", ".flac", ".ogg"] + ([".g722"] if find_spec("av") else [])
    files = sorted(path for path in folder.rglob("*") if path.suffix in formats)
    once = {path.with_suffix(""): path for path in sorted(files, key=lambda path: formats.index(path.suffix))}
    return [
        path
        for stem, path in sorted(once.items())
        if "silence" not in str(stem) and _duration(path) > _SHORTEST
    ]


def _duration(clip: Path) -> float:
    """Seconds; G.722 has no header, and 8000 bytes a second."""
    return clip.stat().st_size / 8000 if clip.suffix == ".g722" else soundfile.info(clip).duration


_SONIC_PI_NAMES = {
    "kick": r"^bd_|drum_bass_|drum_heavy_kick|elec_(hollow|soft)_kick",
    "snare": r"^sn_|drum_snare|elec_.*snare",
    "hat": r"drum_cymbal_(closed|pedal)|elec_(tick|cymbal)",
    "open_hat": r"drum_cymbal_open",
    "ride": r"drum_cymbal_(soft|hard)",
    "crash": r"drum_splash|drum_cymbal_hard",
    "tom_low": r"drum_tom_(lo|mid)",
    "tom_high": r"drum_tom_(hi|mid)|elec_fuzz_tom",
    "clap": r"perc_snap|elec_(snare|flip)",
    "perc": r"drum_cowbell|elec_(wood|pop|blip|twip|ping|bell|triangle)|perc_(bell|till)|^tabla_",
}
# Names of Hydrogen's instruments, and of files where those have none.
_HYDROGEN_NAMES = {
    "kick": r"bass ?drum|kick|crunchtime|sangban1 head hit|dununba1 head hit",
    "snare": r"snare|djembe\d slap",
    "hat": r"hi.?hat (closed|pedal)|hat-light|sabmute|kenkeni1 bell",
    "open_hat": r"hi.?hat (open|free)|14-open",
    "ride": r"ride|cymbal",
    "crash": r"crash",
    "tom_low": r"floor tom|low tom|tom-0105|noise-tom0|djembe\d bass",
    "tom_high": r"(high|middle) tom|^tom$|tomh|noise-tom1|djembe\d tone",
    "clap": r"clap|stick|kenkeni1 head",
    "perc": r"cowbell|ride bell|sangban1 bell|dununba1 bell|fxshake",
}


@cache
def sampled_kits() -> dict[str, dict[str, list[list[Stroke]]]]:
    """Kits of recorded strokes: kit, drum, then the instruments that may play it, each with its layers."""
    kits: dict[str, dict[str, list[list[Stroke]]]] = {}
    if _SONIC_PI.exists():
        files = sorted(_SONIC_PI.glob("*.flac"))
        kits["sonic-pi"] = {
            drum: [[Stroke(file, 0.0, 1.0)] for file in files if re.search(pattern, file.name)]
            for drum, pattern in _SONIC_PI_NAMES.items()
        }
    for name in _FREE_KITS:
        if (_KITS / name / "drumkit.xml").exists():
            kits[name] = _hydrogen_kit(_KITS / name)
    return kits


def _hydrogen_kit(folder: Path) -> dict[str, list[list[Stroke]]]:
    kit: dict[str, list[list[Stroke]]] = {drum: [] for drum in DRUMS}
    for instrument in ET.parse(folder / "drumkit.xml").iter("{*}instrument"):
        layers = [_layer(folder, node) for node in instrument.iter("{*}layer")] or [
            _layer(folder, instrument)
        ]
        layers = [layer for layer in layers if layer.file.is_file()]
        title = (
            f"{instrument.findtext('{*}name', '')} {layers[0].file.name if layers else ''}".lower().strip()
        )
        for drum, pattern in _HYDROGEN_NAMES.items():
            if layers and re.search(pattern, title):
                kit[drum].append(layers)
                break
    return kit


def _layer(folder: Path, node: ET.Element) -> Stroke:
    file = folder / node.findtext("{*}filename", "")
    return Stroke(file, float(node.findtext("{*}min", "0")), float(node.findtext("{*}max", "1")))


def read(file: Path, rate: int = RATE, *, start: float = 0.0, seconds: float | None = None) -> np.ndarray:
    """A sound file as float32 (2, time) at a rate; mono is doubled."""
    native = soundfile.info(file).samplerate
    frames = -1 if seconds is None else round(seconds * native)
    sound = soundfile.read(file, frames, round(start * native), dtype="float32", always_2d=True)[0]
    if native != rate:
        sound = soxr.resample(sound, native, rate)
    return np.broadcast_to(sound.T[:2], (2, sound.shape[0])).copy()


def write_vorbis(file: Path | BinaryIO, sound: np.ndarray, rate: int, compression: float) -> None:
    """Write (time, channel) as Ogg Vorbis; compression from 0 (near 200 kbit/s in stereo) to 1 (near 45 kbit/s)."""
    with soundfile.SoundFile(
        file, "w", rate, sound.shape[1], format="OGG", subtype="VORBIS", compression_level=compression
    ) as out:
        for begin in range(0, len(sound), rate):  # long blocks overflow libsndfile's stack
            out.write(sound[begin : begin + rate])


def choose(rng: np.random.Generator, options: Sequence):
    """One of a sequence; unlike ``rng.choice``, of anything."""
    return options[int(rng.integers(len(options)))]


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A positive number, any octave between the bounds as likely as another."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
