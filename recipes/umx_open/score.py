"""Scores a model, or a method without weights, on a song with known stems: BSSEval v4, median over seconds.

    python -m recipes.umx_open.score --model jaxsep/weights/umx-open                # Falcon 69, from `stempeg`
    python -m recipes.umx_open.score --model run/model --song everything-is-free/rubidium --seconds 60 120
    python -m recipes.umx_open.score --method classic --niter 0                     # no weights

The lower bound, the mixture divided by four, stands beside each score. Falcon 69 is the test and nothing else: no
setting may be chosen by it.
"""

import argparse
import importlib.util
import sys
from pathlib import Path

import numpy as np
import soundfile

import jaxsep
from datasets.synthetic import STEMS
from jaxsep import oracle
from jaxsep.classic import Classic
from jaxsep.estimators import group_components
from jaxsep.factorised import Factorisation
from jaxsep.io import zoo

__all__ = ["estimate", "load_falcon", "load_song", "main", "score"]

RATE = 44100
# Streams of the file inside the package `stempeg`, in its order; the ends hold what AAC leaves of nothing.
_FALCON_STREAMS = ("mixture", "drums", "bass", "other", "vocals")
_FALCON_SPAN = (0.10, 5.95)


def load_falcon() -> dict[str, np.ndarray]:
    """The excerpt of "Falcon 69" by The Easton Ellises that the package `stempeg` holds: float32 (2, time)."""
    import av

    spec = importlib.util.find_spec("stempeg")  # located, not imported: its import wants an ffmpeg program
    if spec is None:
        raise FileNotFoundError(
            "expected the package stempeg, which holds the excerpt: pip install --no-deps stempeg"
        )
    file = next(Path(spec.submodule_search_locations[0]).rglob("*.stem.mp4"))
    stems = {}
    for index, name in enumerate(_FALCON_STREAMS):
        with av.open(str(file)) as container:
            frames = container.decode(container.streams.audio[index])
            sound = np.concatenate([frame.to_ndarray() for frame in frames], axis=1)
        stems[name] = sound[:, round(_FALCON_SPAN[0] * RATE) : round(_FALCON_SPAN[1] * RATE)].astype(
            np.float32
        )
    return stems


def load_song(folder: Path, span: tuple[float, float] | None) -> dict[str, np.ndarray]:
    """A folder of stems; the mixture is their sum."""
    stems = {}
    for name in STEMS:
        file = next(folder.glob(f"{name}.*"))
        start, stop = (0, None) if span is None else (round(second * RATE) for second in span)
        stems[name] = soundfile.read(file, dtype="float32", always_2d=True, start=start, stop=stop)[0].T
    return {"mixture": sum(stems.values()), **stems}


def score(references: np.ndarray, estimates: np.ndarray, *, museval: bool) -> np.ndarray:
    """SDR in dB of each source, the median over seconds in which neither it nor its estimate is silent.

    Args:
        references: (source, channel, time).
        estimates: the same shape.
        museval: score with the original instead of `jaxsep.metrics`.

    Returns:
        (source,).
    """
    if museval:
        from museval.metrics import bss_eval

        axes = (0, 2, 1)
        sdr = bss_eval(references.transpose(axes), estimates.transpose(axes), window=RATE, hop=RATE)[0]
    else:
        from jaxsep.metrics import bss_eval

        sdr = bss_eval(references, estimates, window=RATE, hop=RATE).sdr
    return np.array([np.nanmedian(row) if np.isfinite(row).any() else np.nan for row in sdr])


def estimate(method: str, stems: dict[str, np.ndarray], *, model: str | None, niter: int) -> np.ndarray:
    """The estimates of a method (source, channel, time).

    Components of nmf and nmfd each go to the true stem that they resemble most: an upper bound, as is irm, the
    ideal ratio mask.
    """
    references = {name: stems[name] for name in STEMS}
    if method == "irm":
        truth = np.stack(list(references.values()))
        return np.asarray(oracle.estimate(truth, stems["mixture"], oracle="irm"))
    if method in ("nmf", "nmfd"):
        source = Factorisation(convolutive=method == "nmfd")
        made = jaxsep.separate(stems["mixture"], RATE, separator=source)
        made = group_components(list(made.values()), references)
    else:
        source = Classic() if method == "classic" else jaxsep.load_separator(model or zoo.DEFAULT_MODEL)
        made = jaxsep.separate(stems["mixture"], RATE, separator=source, n_iters=niter)
    return np.stack([made[name] for name in STEMS])


def main(argv: list[str] | None = None) -> int:
    """Print a table: stem, score, lower bound."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", choices=("umx", "classic", "nmf", "nmfd", "irm"), default="umx")
    parser.add_argument("--model", help="of umx: name or folder; the packaged weights if left out")
    parser.add_argument("--song", type=Path, help="folder of stems; Falcon 69 if left out")
    parser.add_argument("--seconds", type=float, nargs=2, help="part of the song")
    parser.add_argument("--niter", type=int, default=1)
    parser.add_argument("--museval", action="store_true", help="score with museval itself")
    args = parser.parse_args(argv)
    stems = load_song(args.song, args.seconds) if args.song else load_falcon()
    estimates = estimate(args.method, stems, model=args.model, niter=args.niter)
    references = np.stack([stems[name] for name in STEMS])
    found = score(references, estimates, museval=args.museval)
    bound = score(
        references, np.repeat(stems["mixture"][None] / len(STEMS), len(STEMS), axis=0), museval=args.museval
    )
    for name, sdr, least in zip(STEMS, found, bound, strict=True):
        print(f"{name:8s} {sdr:6.2f} dB   mixture / {len(STEMS)}: {least:5.2f} dB")
    print(f"{'mean':8s} {np.nanmean(found):6.2f} dB   mixture / {len(STEMS)}: {np.nanmean(bound):5.2f} dB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
