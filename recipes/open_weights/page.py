"""Draws songs of the corpus as spectrograms, so that a person can see what the nets hear.

python -m recipes.open_weights.page --corpus corpus --output pictures --count 12
"""

import argparse
import html
import sys
from pathlib import Path

import numpy as np
import soundfile

from recipes.open_weights.corpus import STEMS, finished_songs

__all__ = ["long_term_spectrum", "main"]

RATE = 44100


def main(argv: list[str] | None = None) -> int:
    """Write one picture a song, one of mean spectra, and a page that shows them with players."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--corpus", type=Path, required=True)
    p.add_argument("--output", type=Path, required=True)
    p.add_argument("--count", type=int, default=12, help="songs, spread over the corpus")
    p.add_argument("--seconds", type=float, default=12.0)
    args = p.parse_args(argv)
    songs = finished_songs(args.corpus)
    if not songs:
        print(
            f"--corpus: expected songs that build has written in {args.corpus}, found none", file=sys.stderr
        )
        return 2
    args.output.mkdir(parents=True, exist_ok=True)
    shown = [songs[i] for i in np.unique(np.linspace(0, len(songs) - 1, args.count).astype(int))]
    rows, spectra = [], {stem: [] for stem in STEMS}
    for song in shown:
        stems = {
            stem: _excerpt(song / f"{stem}.ogg", args.seconds)
            for stem in STEMS
            if (song / f"{stem}.ogg").exists()
        }
        _draw_song(song.name, stems, args.output / f"{song.name}.png")
        for stem, sound in stems.items():
            spectra[stem].append(long_term_spectrum(sound))
        players = "".join(
            f"<p>{stem} <audio controls src='{html.escape((song / f'{stem}.ogg').resolve().as_uri())}'></audio></p>"
            for stem in stems
        )
        rows.append(f"<h2>{html.escape(song.name)}</h2><img src='{song.name}.png'>{players}")
    _draw_spectra(spectra, args.output / "spectra.png")
    body = "<h1>What the nets hear</h1><img src='spectra.png'>" + "".join(rows)
    (args.output / "index.html").write_text(
        f"<!doctype html><meta charset='utf-8'><title>Corpus</title>{body}"
    )
    print(args.output / "index.html")
    return 0


def _excerpt(file: Path, seconds: float) -> np.ndarray:
    """The middle of a file, (2, time)."""
    frames = soundfile.info(file).frames
    count = min(frames, round(seconds * RATE))
    return soundfile.read(file, count, (frames - count) // 2, dtype="float32", always_2d=True)[0].T


def _spectrogram(sound: np.ndarray) -> np.ndarray:
    """Level in dB, (frequency, frame), of the sum of both channels; 2048 points."""
    mono = np.pad(sound.mean(axis=0), 1024)
    frames = np.lib.stride_tricks.sliding_window_view(mono, 2048)[::512] * np.hanning(2048)
    return 20 * np.log10(np.abs(np.fft.rfft(frames, axis=1)).T / 512 + 1e-6)


def long_term_spectrum(sound: np.ndarray) -> np.ndarray:
    """Mean power by frequency in dB, 1025 bins; where the stem sounds, whatever its level."""
    power = 10 ** (_spectrogram(sound) / 10)
    loud = power.sum(axis=0) > 1e-3 * power.sum(axis=0).max()
    mean = power[:, loud].mean(axis=1)
    return 10 * np.log10(mean / mean.sum() + 1e-12)


def _draw_song(title: str, stems: dict[str, np.ndarray], file: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(STEMS), 1, figsize=(12, 11), sharex=True, squeeze=False)
    for ax, stem in zip(axes[:, 0], STEMS, strict=True):
        label = stem
        if stem in stems:
            sound = stems[stem]
            extent = (0, sound.shape[1] / RATE, 0, RATE / 2000)
            ax.imshow(
                _spectrogram(sound),
                origin="lower",
                aspect="auto",
                extent=extent,
                vmin=-80,
                vmax=0,
                cmap="magma",
            )
            peak, rms = np.abs(sound).max(), np.sqrt((sound**2).mean())
            label += f"  peak {peak:.2f}  RMS {20 * np.log10(rms + 1e-9):.0f} dB"
        ax.set(ylabel="kHz", title=label)
    axes[-1, 0].set_xlabel("s")
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(file, dpi=60)
    plt.close(figure)


def _draw_spectra(spectra: dict[str, list[np.ndarray]], file: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(STEMS), figsize=(16, 4), sharey=True)
    freqs = np.fft.rfftfreq(2048, 1 / RATE)
    for ax, (stem, curves) in zip(axes, spectra.items(), strict=True):
        for curve in curves:
            ax.semilogx(freqs[1:], curve[1:], color="tab:blue", alpha=0.4, linewidth=0.8)
        ax.set(title=stem, ylim=(-90, 0), xlim=(30, 20000), xlabel="Hz")
    figure.tight_layout()
    figure.savefig(file, dpi=70)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
