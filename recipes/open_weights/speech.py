"""Gathers speech from Debian packages that hold it inside something else, as mono Vorbis files at 16 kHz.

Run by install.sh; a package that cannot be had is named and left out.
"""

import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import soundfile
import soxr

from recipes.open_weights.sources import MORE_SPEECH

_RATE = 16_000
_CLIPS = 48  # of a speaker at most
_SECONDS = 8  # of a clip at most
_PAUSE = np.zeros(_RATE // 10, np.float32)
# Of 0 A.D.; the Greek men are four words.
_ZERO_AD = re.compile(r"audio/voice/(greek|latin|napatan|persian)/civ/civ_(female|male)_.*\.ogg")
# Between them all sounds of English, many open vowels, short words as well as long ones.
_SENTENCES = """
The sun goes down behind the hill, and all the lights come on again.
Why do you always run away when somebody calls your name?
She sings a song about a boat that never came back home.
I thought I saw a ghost inside the old garage this morning.
Both of us know how the story ends, but nobody says a word.
Oh no, not now, the phone is ringing in the hall.
Take my hand and follow me down to the edge of the water.
We were young and the nights were long, and we had nothing to lose.
Joy is a choice that you make every day with a loud voice.
Pleasure and treasure are measured by those who have neither.
The big brown dog jumped over a fence and chased the yellow bird.
Could you please put the book on the wooden table by the door?
Five thousand people are waiting outside in the pouring rain.
He laughs too much and drinks too little, that is what they say.
Under the bridge there is a river, and under the river a stone.
Hey, hey, are you ready? Here we go, one more time.
My mother told me never to trust a man with a golden watch.
Fire in the sky, ashes on the ground, and you are nowhere to be found.
Let it go, let it fall, let it roll on over you.
Every beautiful thing that we have made will turn to dust.
Which of these shoes should I choose for the show on Thursday?
The church bell rings twelve times, and the children cheer.
I love you more than words can say, and more than I can show.
Far away, over the mountains, a train is slowly rolling south.
Zebras and lions doze in the lazy haze of the zoo.
Give me a reason to believe that tomorrow will be better.
There was a fair maid who went to the market with an empty purse.
Hold on tight, the night is wild, and the road is winding.
Boys and girls, turn the noise down, the baby is asleep.
What a wonderful view from up here, you can see the whole town.
Do you feel the heat of the street beneath your bare feet?
Nothing is louder than the silence after you have gone.
Her heart is beating fast, her cheeks are burning red.
Throw the ball through the hoop, then do the same with the other.
I am the king of the road, and you are the queen of the sea.
Vivid visions of the evening vanish with the first morning light.
Come back, come back, the ocean is calling, and so am I.
Watch the clouds as they drift by, so high and so white.
Yes, you can use the new blue canoe, but bring it back soon.
Goodbye, my friend, it is hard to die when all the birds are singing.
""".strip().splitlines()

Sounds = Iterable[tuple[np.ndarray, int]]


def main() -> int:
    """Make what is not there yet."""
    failed = []
    for gather, package in (
        (_zero_ad, "0ad-data"),
        (_russian, "festvox-ru"),
        (_librivox, "pocketsphinx-testdata"),
        (_flite, "flite"),
    ):
        with tempfile.TemporaryDirectory() as folder:
            try:
                gather(Path(folder))
            except (OSError, subprocess.CalledProcessError, IndexError, soundfile.SoundFileError) as error:
                failed.append(f"{package} ({error})")
    if failed:
        print("no speech from " + ", ".join(failed), file=sys.stderr)
    return bool(failed)


def _unpack(package: str, pattern: str, folder: Path) -> list[Path]:
    """Files of a package that is not installed."""
    subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True)
    archive = next(folder.glob(f"{package}_*.deb"))
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE) as deb:
        subprocess.run(["tar", "xf", "-", "-C", folder, "--wildcards", pattern], stdin=deb.stdout, check=True)
    return sorted(path for path in folder.glob("usr/**/*") if path.is_file())


def _zero_ad(folder: Path) -> None:
    speakers = [f"{name}_{sex}_0ad" for name in ("greek", "latin", "napatan", "persian") for sex in "fm"]
    if all((MORE_SPEECH / name).exists() for name in speakers if name != "greek_m_0ad"):
        return
    with ZipFile(_unpack("0ad-data", "*/mods/public/public.zip", folder)[0]) as archive:
        names = [match for name in sorted(archive.namelist()) if (match := _ZERO_AD.fullmatch(name))]
        for name in speakers:
            language, sex, _ = name.split("_")
            mine = [m[0] for m in names if m[1] == language and m[2][0] == sex]
            if name != "greek_m_0ad":
                _write(name, _joined(soundfile.read(io.BytesIO(archive.read(file))) for file in mine))


def _russian(folder: Path) -> None:
    if not (MORE_SPEECH / "ru_m_nsh").exists():
        _write("ru_m_nsh", map(soundfile.read, _unpack("festvox-ru", "*/wav/*.wav", folder)[::12]))


def _librivox(folder: Path) -> None:
    if not (MORE_SPEECH / "en_m_librivox").exists():
        files = _unpack("pocketsphinx-testdata", "*/librivox/*.wav", folder)
        _write("en_m_librivox", map(soundfile.read, files))


def _flite(folder: Path) -> None:
    for voice, sex in (("awb", "m"), ("kal16", "m"), ("rms", "m"), ("slt", "f")):
        if not (MORE_SPEECH / f"en_{sex}_flite-{voice}").exists():
            _write(f"en_{sex}_flite-{voice}", _said(voice, folder / "said.wav"))


def _said(voice: str, file: Path) -> Iterator[tuple[np.ndarray, int]]:
    for sentence in _SENTENCES:
        subprocess.run(["flite", "-voice", voice, "-t", sentence, "-o", file], check=True)
        yield soundfile.read(file)


def _joined(sounds: Sounds) -> Iterator[tuple[np.ndarray, int]]:
    """Single words, a few at a time."""
    pieces: list[np.ndarray] = []
    for sound, rate in sounds:
        pieces += [_mono(sound, rate), _PAUSE]
        if sum(piece.size for piece in pieces) > 3 * _RATE:
            yield np.concatenate(pieces), _RATE
            pieces = []


def _mono(sound: np.ndarray, rate: int) -> np.ndarray:
    sound = sound.mean(axis=1) if sound.ndim == 2 else sound
    sound = soxr.resample(sound, rate, _RATE) if rate != _RATE else sound
    return (0.9 * sound / max(np.abs(sound).max(), 1e-3)).astype(np.float32)


def _write(speaker: str, sounds: Sounds) -> None:
    """A folder of clips, which appears whole or not at all."""
    part = MORE_SPEECH / f".{speaker}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for n, (sound, rate) in zip(range(_CLIPS), sounds, strict=False):
        clip = _mono(sound, rate)[: _SECONDS * _RATE]
        soundfile.write(part / f"{n:02d}.ogg", clip, _RATE, format="OGG", subtype="VORBIS")
    part.rename(MORE_SPEECH / speaker)


if __name__ == "__main__":
    sys.exit(main())
