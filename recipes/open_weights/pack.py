"""Packs what rendering needs, for a machine that has no network: an archive to unpack at the root of its files.

    python -m recipes.open_weights.pack --output sources.tar --speech-minutes 4
    tar xf sources.tar -C /                                                            # there, as root

Soundfonts in SF3, MMA, all strokes of drums and some minutes of each speaker, sounds as Ogg Vorbis under the names that
`sources` looks for (who reads them goes by what is in them): 85 MB, 45 MB without the larger soundfont
(``--largest 30``). Wheels of soundfile, soxr, tinysoundfont, pyworld, pysinsy and mido go beside it; `offline.sh` uses
them all.
"""

import argparse
import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from recipes.open_weights import sources
from recipes.open_weights.syllables import SPEECH_RATE, read_speech

__all__ = ["main"]

_LONGEST = 3.2  # seconds of a stroke that drums play
_MMA = (Path("/usr/bin/mma"), Path("/usr/share/mma"))


def main(argv: list[str] | None = None) -> int:
    """Write the archive aside, then rename it."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--output", type=Path, required=True, help="tar file")
    p.add_argument("--speech-minutes", type=float, default=4.0, help="of each speaker at most")
    p.add_argument("--largest", type=float, default=45.0, help="MB of a soundfont at most")
    args = p.parse_args(argv)
    part = args.output.with_name(args.output.name + ".part")
    with tarfile.open(part, "w") as archive:
        for path in (*sources.fonts(), *_MMA):
            whole = path.resolve()
            if whole.exists() and (whole.is_dir() or whole.stat().st_size < 1e6 * args.largest):
                archive.add(whole, arcname=str(path).lstrip("/"))
        _add_drums(archive)
        for clips in tqdm(sources.speakers().values(), desc="speakers", disable=None):
            _add_speech(archive, clips, 60 * args.speech_minutes)
    part.rename(args.output)
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB")
    return 0


def _add_drums(archive: tarfile.TarFile) -> None:
    kits = sources.sampled_kits().values()
    files = {stroke.file for kit in kits for drum in kit.values() for layers in drum for stroke in layers}
    for file in sorted(files):
        sound, rate = soundfile.read(file, dtype="float32", always_2d=True)
        _add_sound(archive, file, sound[: int(_LONGEST * rate)], rate)
    for file in sorted({parent / "drumkit.xml" for stroke in files for parent in stroke.parents}):
        if file.exists():
            archive.add(file, arcname=str(file).lstrip("/"))


def _add_speech(archive: tarfile.TarFile, clips: list[Path], seconds: float) -> None:
    """Clips from all over the speaker's, until they last long enough."""
    for index in np.random.default_rng(0).permutation(len(clips)):
        if seconds <= 0:
            return
        sound = read_speech(clips[index])
        seconds -= sound.size / SPEECH_RATE
        _add_sound(archive, clips[index].with_suffix(".ogg"), sound[:, None], SPEECH_RATE)


def _add_sound(archive: tarfile.TarFile, path: Path, sound: np.ndarray, rate: int) -> None:
    memory = io.BytesIO()
    sources.write_vorbis(memory, sound, rate, 0.5)
    entry = tarfile.TarInfo(str(path).lstrip("/"))
    entry.size = len(memory.getvalue())
    memory.seek(0)
    archive.addfile(entry, memory)


if __name__ == "__main__":
    sys.exit(main())
