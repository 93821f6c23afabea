"""A folder of songs against the truth: several in flight, none scored twice."""

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from jaxsep import __version__
from jaxsep.estimators import Estimator
from jaxsep.io.musdb import Track
from jaxsep.scores import TrackScores, read_scores, write_scores
from jaxsep.scoring import ScoringConfig, fit_estimates, score
from jaxsep.songs import Estimates, Excerpt, Song, file_stamps, load_song

__all__ = ["Outcome", "evaluate", "scores_path"]

FORMAT_VERSION = 1  # of what the scores mean: another number scores every track anew

# Shares of reading, separating and scoring in a song's work, for the progress.
_READ_SHARE, _ESTIMATE_SHARE, _SCORED = 0.05, 0.5, 0.99


class Outcome(NamedTuple):
    """What became of one track: its scores, or the error."""

    track: Track
    scores: TrackScores | None
    error: Exception | None
    resumed: bool  # the scores were there already


def scores_path(folder: Path, track: Track) -> Path:
    """Where a track's scores go: where museval's stores look for them.

    Example:
        >>> scores_path(Path("evaluation"), Track("A song", "test", {})).as_posix()
        'evaluation/test/A song.json'
    """
    return folder / "test" / f"{track.name}.json"


def evaluate(
    tracks: Sequence[Track],
    estimator: Estimator,
    folder: Path,
    *,
    config: ScoringConfig | None = None,
    excerpt: Excerpt | None = None,
    n_jobs: int = 2,
    progress: Callable[[float], None] | None = None,
    needs_audio: Callable[[Track, Mapping[str, Any]], bool] = lambda track, settings: False,
    on_audio: Callable[[Song, Estimates, TrackScores], None] = lambda song, estimates, scores: None,
) -> Iterator[Outcome]:
    """Score tracks, several at a time, and write their scores as they come.

    A track whose file holds scores made with the same settings from the same files is not scored again.

    Args:
        tracks: what to score.
        estimator: makes or finds the estimates.
        folder: where the scores go.
        config: how to score.
        excerpt: the part of each track to separate and score; by default all of it.
        n_jobs: tracks in flight, at least 1; each holds all its audio in memory.
        progress: called with the part of the work that is done, one call at a time.
        needs_audio: whether `on_audio` wants to hear a track even where its scores are there already.
        on_audio: called in a thread with the sounds of each track for which `needs_audio` says so.

    Yields:
        An Outcome a track, in the order in which they are done.
    """
    config, excerpt = config or ScoringConfig(), excerpt or Excerpt()
    if n_jobs < 1:
        raise ValueError(f"n_jobs: expected at least 1, got {n_jobs}")
    work = _Progress(len(tracks), progress)
    # One song computes while others are read and written: two that compute share the same cores, and XLA's threads
    # for the CPU have been seen to wait for each other for ever.
    computing = threading.Lock()

    def one(number: int, track: Track) -> Outcome:
        def report(done: float) -> None:
            work.report(number, done)

        settings = _settings(track, estimator, config, excerpt)
        path = scores_path(folder, track)
        known = _known_scores(path, track, settings)
        audible = needs_audio(track, settings)
        scores = known
        if known is None or audible:
            song = load_song(track, excerpt)
            report(_READ_SHARE)
            with computing:
                made = estimator(
                    song, lambda done: report(_READ_SHARE + (_ESTIMATE_SHARE - _READ_SHARE) * done)
                )
            estimates, notes = fit_estimates(song, made)
            report(_ESTIMATE_SHARE)
            if scores is None:
                with computing:
                    scored = score(
                        song.references, estimates, song.sample_rate, mixture=song.mixture, config=config
                    )
                seconds = song.mixture.shape[1] / song.sample_rate
                window, hop = (seconds if math.isinf(x) else x for x in (config.window, config.hop))
                scores = TrackScores(track.name, scored, window, hop, settings, notes)
                report(_SCORED)
                write_scores(path, scores)
                scores = read_scores(path, track.name)  # as a later run will find them
            if audible:
                with computing:
                    on_audio(song, estimates, scores)
        report(1.0)
        return Outcome(track, scores, None, known is not None)

    pool = ThreadPoolExecutor(n_jobs, thread_name_prefix="evaluate")
    try:
        futures = {pool.submit(one, number, track): (number, track) for number, track in enumerate(tracks)}
        for future in as_completed(futures):
            number, track = futures[future]
            try:
                yield future.result()
            except (ValueError, TypeError, OSError, RuntimeError) as error:
                work.report(number, 1.0)
                yield Outcome(track, None, error, False)
    finally:
        # Also where the caller has had enough: songs in flight stop at their next report.
        work.stop()
        pool.shutdown(cancel_futures=True)


class _Progress:
    """Adds up what the songs in flight report; ends them when it is over."""

    def __init__(self, n_tracks: int, progress: Callable[[float], None] | None) -> None:
        self._done = [0.0] * n_tracks
        self._progress = progress
        self._lock = threading.Lock()
        self._stopped = False

    def report(self, number: int, done: float) -> None:
        if self._stopped:
            raise RuntimeError("stopped")
        with self._lock:
            self._done[number] = done
            if self._progress is not None:
                self._progress(math.fsum(self._done) / len(self._done))

    def stop(self) -> None:
        self._stopped = True


def _settings(track: Track, estimator: Estimator, config: ScoringConfig, excerpt: Excerpt) -> dict[str, Any]:
    """Everything that a track's scores depend on, as it comes back from JSON."""
    scoring, part = ({name: str(value) for name, value in asdict(one).items()} for one in (config, excerpt))
    return {
        "format_version": FORMAT_VERSION,
        "jaxsep": __version__,
        "estimator": estimator.name,
        **estimator.settings(track),
        "references": file_stamps(track),
        "excerpt": part,
        "scoring": scoring,
    }


def _known_scores(path: Path, track: Track, settings: Mapping[str, Any]) -> TrackScores | None:
    """The scores on disk, if they are what scoring again would give."""
    try:
        scores = read_scores(path, track.name)
    except (OSError, ValueError):
        return None
    return scores if scores.settings == settings else None
