"""Scores of songs and folders: the right numbers, for the right files, once."""

import csv
import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from jaxsep import cli, evaluation, metrics, scores, scoring, summary
from jaxsep.config import SeparationConfig
from jaxsep.estimators import FolderEstimator, OracleEstimator, SeparatorEstimator, group_components
from jaxsep.io import audio, musdb
from jaxsep.scoring import ScoringConfig
from jaxsep.separation import load_separator
from jaxsep.songs import Excerpt, Song, load_song
from tests.models import CONFIG as NET
from tests.models import tiny_folder

RATE = 4000
STEMS = ("vocals", "drums", "bass")
CONFIG = ScoringConfig(window=0.5, hop=0.5, filters_len=8)
OPTIONS = ["--window", 0.5, "--hop", 0.5, "--filters-len", 8]
# museval's schema, as far as it goes: it allows more keys.
NUMBER = (int, float)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("JAXSEP_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def sounds(seed=0, n=8000, channels=1, stems=STEMS):
    rng = np.random.default_rng(seed)
    return {stem: 0.1 * rng.standard_normal((channels, n)).astype(np.float32) for stem in stems}


def leaky(references):
    total = sum(references.values())
    return {stem: (0.9 * sound + 0.1 * total).astype(np.float32) for stem, sound in references.items()}


def write(folder, stems, extension="wav", rate=RATE):
    folder.mkdir(parents=True, exist_ok=True)
    for name, sound in stems.items():
        audio.save(
            folder / f"{name}.{extension}", sound, rate, subtype="FLOAT" if extension == "wav" else None
        )


@pytest.fixture
def folders(tmp_path):
    """Three songs in MUSDB18-HQ's layout, and their estimates in another one's, in other formats."""
    truth, made = tmp_path / "hq", tmp_path / "estimates"
    for seed, name in enumerate(("A - One", "B. - Two", "C - Über")):
        references = sounds(seed)
        write(truth / "test" / name, references | {"mixture": sum(references.values())})
        write(made / name, leaky(references), "flac")
    return truth, made


def run(*arguments) -> int:
    return cli.main(["evaluate", *map(str, arguments)])


def direct(references, estimates, **options):
    options = {"window": RATE // 2, "hop": RATE // 2, "filters_len": 8} | options
    return metrics.bss_eval(
        np.stack(list(references.values())), np.stack(list(estimates.values())), **options
    )


def test_scores_are_those_of_bss_eval_in_museval_order():
    references = sounds()
    estimates = leaky(references)
    shuffled = dict(reversed(estimates.items()))
    found = scoring.score(references, shuffled, RATE, config=CONFIG)
    expected = direct(references, estimates)
    assert list(found) == list(STEMS)
    for j, stem in enumerate(STEMS):
        for metric, values in zip(("SDR", "ISR", "SIR", "SAR"), expected[:4], strict=True):
            np.testing.assert_array_equal(found[stem].frames[metric], values[j])
        sdr = metrics.sdr(references[stem], estimates[stem])
        assert found[stem].whole["MDX_SDR"] == pytest.approx(float(sdr))


def test_accompaniment_is_scored_in_a_pair_with_the_vocals():
    references = sounds()
    estimates = leaky(references)
    estimates["accompaniment"] = estimates["drums"] + estimates["bass"]
    found = scoring.score(references, estimates, RATE, config=CONFIG)
    assert list(found) == ["drums", "bass", "vocals", "accompaniment"]
    pair = {"vocals": references["vocals"], "accompaniment": references["drums"] + references["bass"]}
    expected = direct(pair, {name: estimates[name] for name in pair})
    np.testing.assert_array_equal(found["vocals"].frames["SIR"], expected.sir[0])
    np.testing.assert_array_equal(found["accompaniment"].frames["SDR"], expected.sdr[1])
    joint = direct(references, {stem: estimates[stem] for stem in STEMS})
    np.testing.assert_array_equal(found["drums"].frames["SIR"], joint.sir[1])


def test_a_single_stem_is_paired_with_the_rest_of_the_mixture():
    references = sounds()
    mixture = sum(references.values())
    drums = leaky(references)["drums"]
    found = scoring.score(references, {"drums": drums}, RATE, mixture=mixture, config=CONFIG)
    assert list(found) == ["drums", "no_drums"]
    pair = {"drums": references["drums"], "no_drums": references["vocals"] + references["bass"]}
    expected = direct(pair, {"drums": drums, "no_drums": mixture - drums})
    np.testing.assert_array_equal(found["no_drums"].frames["SAR"], expected.sar[1])
    alone = scoring.score({"drums": references["drums"]}, {"drums": drums}, RATE, config=CONFIG)
    assert np.isfinite(alone["drums"].frames["SDR"]).all()  # nothing else is known; what there is, is scored


def test_a_silent_stem_costs_the_others_nothing():
    references = sounds()
    references["bass"] = np.zeros_like(references["bass"])
    found = scoring.score(references, leaky(references), RATE, config=CONFIG)
    assert np.isnan(found["bass"].frames["SDR"]).all() and math.isnan(found["bass"].median("SDR"))
    assert all(
        np.isfinite(found[stem].frames[m]).all() for stem in ("vocals", "drums") for m in scores.METRICS
    )


def test_names_without_a_match_are_told():
    with pytest.raises(ValueError, match="expected an estimate of one of vocals, drums, bass; got kazoo"):
        scoring.score(sounds(), {"kazoo": np.zeros((1, 8000))}, RATE)


def test_two_complements_of_one_stem_are_refused():
    references = sounds()
    made = references | dict.fromkeys(("accompaniment", "no_vocals"), references["drums"])
    with pytest.raises(ValueError, match="all but vocals, got accompaniment and no_vocals"):
        scoring.score(references, made, RATE)


def song(**changes):
    references = sounds(channels=2)
    track = musdb.Track("A song", "", {})
    return Song(track, sum(references.values()), references, RATE)._replace(**changes)


def test_lengths_are_fitted_and_told():
    made = {"vocals": np.ones((2, 8003)), "drums": np.ones((2, 7000)), "bass": np.ones((2, 8000))}
    fitted, notes = scoring.fit_estimates(song(), made | {"kazoo": np.ones((2, 8000))})
    assert {name: sound.shape for name, sound in fitted.items()} == dict.fromkeys(made, (2, 8000))
    assert not fitted["drums"][:, 7000:].any() and fitted["drums"][:, :7000].all()
    assert notes == [
        "vocals: 3 samples long, cut",
        "drums: 1000 samples short, filled with silence",
        "not among the true stems: kazoo",
    ]


@pytest.mark.parametrize(
    ("estimate", "message"),
    [(np.ones((1, 8000)), "expected 2 channels"), (np.full((2, 8000), np.nan), "expected finite")],
)
def test_estimates_that_cannot_be_fitted(estimate, message):
    with pytest.raises(ValueError, match=message):
        scoring.fit_estimates(song(), {"vocals": estimate})


def test_estimates_of_nothing_known():
    with pytest.raises(ValueError, match="an estimate of one of vocals, drums, bass; got kazoo"):
        scoring.fit_estimates(song(), {"kazoo": np.ones((2, 8000))})


def test_truth_of_two_lengths_is_an_error(tmp_path):
    write(tmp_path / "A", sounds() | sounds(n=8001, stems=["piano"]))
    with pytest.raises(ValueError, match="1 channel of 8000 samples in vocals and 1 channel of 8001"):
        load_song(*musdb.find_tracks(tmp_path))


def test_songs_without_a_mixture_are_the_sum_of_their_stems(tmp_path):
    references = sounds()
    write(tmp_path / "A", references)
    loaded = load_song(*musdb.find_tracks(tmp_path))
    np.testing.assert_allclose(loaded.mixture, sum(references.values()), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0.0}, "window"),
        ({"hop": math.nan}, "hop"),
        ({"filters_len": 0}, "filters_len"),
        ({"mode": "v5"}, "v3, v4"),
        ({"silent": "loud"}, "nan, skip, zero"),
        ({"scorer": "ear"}, "jaxsep, museval"),
        ({"scorer": "museval", "silent": "zero"}, "no choice"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        ScoringConfig(**options)


def test_files_follow_the_schema_and_come_back():
    frames = {metric: np.array([1.234567, np.nan, np.inf]) for metric in scores.METRICS}
    whole = {"MDX_SDR": 2.0, "SI_SDR": -np.inf}
    written = scores.TrackScores(
        "A", {"vocals": scores.TargetScores(frames, whole)}, 1.0, 0.5, {"a": 1}, ["cut"]
    )
    value = json.loads(json.dumps(written.to_json()))
    (target,) = value["targets"]
    assert [frame["time"] for frame in target["frames"]] == [0.0, 0.5, 1.0]
    for frame in target["frames"]:
        assert isinstance(frame["duration"], NUMBER)
        assert {type(number) for number in frame["metrics"].values()} == {float}
    back = scores.TrackScores.from_json(value, "A")
    assert (back.hop, back.window, back.settings, back.notes) == (0.5, 1.0, {"a": 1}, ("cut",))
    # What is infinite is no score, as in museval.
    np.testing.assert_array_equal(back.targets["vocals"].frames["SDR"], [1.23457, np.nan, np.nan])
    assert back.targets["vocals"].median("SDR") == 1.23457


@pytest.mark.parametrize(
    "text", ["", "[]", '{"targets": [{}]}', '{"targets": [{"name": "a", "frames": [1]}]}']
)
def test_files_that_are_no_scores(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="expected"):
        scores.read_scores(path)


def test_tracks_without_a_score_do_not_count():
    def track(name, values):
        frames = {metric: np.array(values) for metric in scores.METRICS}
        return scores.TrackScores(name, {"bass": scores.TargetScores(frames)})

    tracks = [track("a", [1.0, 3.0]), track("b", [np.nan]), track("c", [5.0]), track("d", [12.0])]
    assert summary.across_tracks(tracks, "bass", "SDR") == (5.0, pytest.approx(19 / 3), 3)
    assert summary.across_tracks(tracks, "kazoo", "SDR").n_tracks == 0
    assert "5.00" in summary.format_table(tracks) and "6.33" in summary.format_table(tracks)
    assert "–" in summary.format_table(tracks[1:2])


def evaluated(folders, out, **options):
    truth, made = folders
    estimator = FolderEstimator.from_folder(made)
    outcomes = evaluation.evaluate(musdb.find_tracks(truth), estimator, out, config=CONFIG, **options)
    return {outcome.track.name: outcome for outcome in outcomes}


def test_folders_are_scored_by_name_in_any_number_at_a_time(folders, tmp_path):
    done = []
    one = evaluated(folders, tmp_path / "one", n_jobs=1, progress=done.append)
    many = evaluated(folders, tmp_path / "many", n_jobs=3)
    assert sorted(one) == ["A - One", "B. - Two", "C - Über"]
    assert done == sorted(done) and done[-1] == 1.0
    for seed, name in enumerate(sorted(one)):
        references = sounds(seed)
        expected = direct(references, leaky(references)).sir
        found = scores.read_scores(tmp_path / "one" / "test" / f"{name}.json")
        for j, stem in enumerate(STEMS):
            # The estimates went through 16 bits.
            np.testing.assert_allclose(found.targets[stem].frames["SIR"], expected[j], atol=0.02)
        assert one[name].scores.to_json() == many[name].scores.to_json()


def test_what_is_known_is_not_scored_again(folders, tmp_path, monkeypatch):
    first = evaluated(folders, tmp_path / "out")
    calls = []
    monkeypatch.setattr(evaluation, "score", lambda *args, **kw: calls.append(1) or {})
    again = evaluated(folders, tmp_path / "out")
    assert all(outcome.resumed for outcome in again.values()) and not calls
    assert {n: o.scores.to_json() for n, o in again.items()} == {
        n: o.scores.to_json() for n, o in first.items()
    }


def test_a_whole_track_as_a_frame_has_a_time_and_a_length(folders, tmp_path):
    truth, made = folders
    config = ScoringConfig(window=math.inf, hop=math.inf, filters_len=8)
    list(evaluation.evaluate(
        musdb.find_tracks(truth)[:1], FolderEstimator.from_folder(made), tmp_path, config=config
    ))  # fmt: skip
    text = (tmp_path / "test" / "A - One.json").read_text()
    assert "Infinity" not in text
    for target in json.loads(text)["targets"]:
        (frame,) = target["frames"]
        assert (frame["time"], frame["duration"]) == (0.0, 2.0)


def test_another_version_scores_again(folders, tmp_path, monkeypatch):
    evaluated(folders, tmp_path / "out")
    monkeypatch.setattr(evaluation, "__version__", "99")
    assert not any(outcome.resumed for outcome in evaluated(folders, tmp_path / "out").values())


def test_estimates_are_found_where_separate_writes_them(folders, tmp_path):
    truth, made = folders
    for number, path in enumerate(sorted(made.iterdir())):
        if number == 0:
            path.rename(made / "song")
            (made / path.name).mkdir()
            (made / "song").rename(made / path.name / "mixture")
        elif number == 1:
            path.rename(path.with_name(path.name + ".stem"))
    found = evaluated((truth, made), tmp_path / "out")
    assert [outcome.error for outcome in found.values()] == 3 * [None]


def test_what_has_changed_is_scored_again(folders, tmp_path):
    truth, made = folders
    evaluated(folders, tmp_path / "out")
    os.utime(made / "A - One" / "bass.flac", (1, 1))
    (tmp_path / "out" / "test" / "C - Über.json").write_text("{")
    resumed = {name: outcome.resumed for name, outcome in evaluated(folders, tmp_path / "out").items()}
    assert resumed == {"A - One": False, "B. - Two": True, "C - Über": False}
    estimator = FolderEstimator.from_folder(made)
    other = ScoringConfig(window=1.0, hop=0.5, filters_len=8)
    outcomes = evaluation.evaluate(musdb.find_tracks(truth), estimator, tmp_path / "out", config=other)
    assert not any(outcome.resumed for outcome in outcomes)


def test_estimates_of_another_rate_and_length(tmp_path):
    references = sounds(n=8000)
    write(tmp_path / "truth" / "A", references)
    time = np.arange(16000) / 8000
    tone = 0.1 * np.sin(2 * np.pi * 300 * time)[None].astype(np.float32)
    write(tmp_path / "made" / "A", {"vocals": tone[:, :15000], "drums": tone}, rate=8000)
    made = FolderEstimator.from_folder(tmp_path / "made")(
        load_song(*musdb.find_tracks(tmp_path / "truth")), lambda done: None
    )
    assert made["vocals"].shape == (1, 7500) and made["drums"].shape == (1, 8000)
    np.testing.assert_allclose(made["drums"][:, 500:-500], tone[:, 1000:-1000:2], atol=1e-3)


def test_one_bad_song_does_not_stop_the_others(folders, tmp_path):
    _, made = folders
    (made / "A - One" / "bass.flac").write_text("not a sound")
    for path in (made / "B. - Two").iterdir():
        path.unlink()
    outcomes = evaluated(folders, tmp_path / "out")
    assert "bass.flac" in str(outcomes["A - One"].error)
    assert "B. - Two: expected estimates of it in estimates, got none" in str(outcomes["B. - Two"].error)
    assert outcomes["C - Über"].scores is not None
    assert [path.name for path in (tmp_path / "out" / "test").iterdir()] == ["C - Über.json"]


def test_whoever_stops_listening_stops_the_work(folders, tmp_path):
    class Endless(OracleEstimator):
        def __call__(self, song, progress):
            while True:
                progress(0.5)  # raises when it is over

    def outcomes(estimator, tracks):
        return evaluation.evaluate(tracks, estimator, tmp_path, config=CONFIG, n_jobs=2)

    tracks = musdb.find_tracks(folders[0])
    # One song computes at a time: the first outcome is of one that needs none.
    (known,) = outcomes(OracleEstimator("mixture"), tracks[:1])
    endless = outcomes(Endless("mixture"), tracks)
    first = next(endless)
    assert first.resumed and first.track == known.track
    endless.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("evaluate")]


def small_model(folder, targets=("vocals", "bass")):
    return tiny_folder(folder, dataclasses.replace(NET, n_layers=1, bidirectional=False), targets)


def test_separators_are_scored_and_told_apart(tmp_path):
    estimator = SeparatorEstimator(load_separator(small_model(tmp_path / "a")), SeparationConfig(n_iters=0))
    references = sounds(n=3000, channels=2)
    track = musdb.Track("A", "", {})
    made = estimator(Song(track, sum(references.values()), references, 44100), lambda done: None)
    assert list(made) == ["vocals", "bass"] and made["bass"].shape == (2, 3000)
    settings = estimator.settings(track)
    assert json.loads(json.dumps(settings)) == settings
    other = SeparatorEstimator(load_separator(small_model(tmp_path / "b", ("bass", "vocals"))))
    assert other.settings(track)["weights"] != settings["weights"]


def test_nets_are_never_matched_by_likeness(tmp_path):
    estimator = SeparatorEstimator(
        load_separator(small_model(tmp_path, ("kazoo",))), SeparationConfig(n_iters=0)
    )
    references = sounds(n=3000, channels=2)
    track = musdb.Track("A", "", {})
    made = estimator(Song(track, sum(references.values()), references, 44100), lambda done: None)
    assert list(made) == ["kazoo"]


def test_components_go_to_the_stem_that_they_resemble():
    references = sounds(n=2000)
    rng = np.random.default_rng(9)
    parts = [part for sound in references.values() for part in (0.3 * sound, 0.7 * sound)]
    grouped = group_components([parts[i] for i in rng.permutation(len(parts))], references)
    for stem in STEMS:
        np.testing.assert_allclose(grouped[stem], references[stem], atol=1e-6)


def test_command_writes_files_and_a_table(folders, tmp_path, capsys):
    truth, made = folders
    out = tmp_path / "out"
    assert run(truth, "--estimates", made, "--outdir", out, *OPTIONS) == 0
    said = capsys.readouterr().out
    assert (
        "estimates: 3 tracks on cpu" in said and "median of tracks" in said and "B. - Two: SDR vocals" in said
    )
    assert "the median of its 0.5 s frames" in said
    with (out / "scores.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["track"], row["target"]) for row in rows[:4]] == [
        ("A - One", "vocals"), ("A - One", "drums"), ("A - One", "bass"), ("B. - Two", "vocals")
    ]  # fmt: skip
    assert len(rows) == 9 and float(rows[0]["SDR"]) > 10 and rows[0]["frames"] == "4"
    assert run(truth, "--estimates", made, "--outdir", out, *OPTIONS) == 0
    assert capsys.readouterr().out.count("(known)") == 3
    assert run(truth, "--estimates", made, "--outdir", out, *OPTIONS, "--tracks", "A - One", "--quiet") == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_command_scores_models_and_oracles(folders, tmp_path, capsys):
    truth, _ = folders
    for oracle, least in (("mixture", -10), ("irm", 2)):
        assert run(truth, "--oracle", oracle, "--outdir", tmp_path / oracle, *OPTIONS, "--quiet") == 0
        found = scores.load_scores(tmp_path / oracle)
        assert summary.across_tracks(found, "vocals", "SDR").median > least
    model = small_model(tmp_path / "model")
    arguments = [
        "--model",
        model,
        "--niter",
        0,
        "--tracks",
        "A - One",
        "--outdir",
        tmp_path / "net",
        *OPTIONS,
    ]
    assert run(truth, *arguments) == 0
    assert "bass" in capsys.readouterr().out


def test_command_goes_on_after_a_bad_song(folders, tmp_path, capsys):
    truth, made = folders
    (truth / "test" / "A - One" / "vocals.wav").write_text("not a sound")
    assert run(truth, "--estimates", made, "--outdir", tmp_path / "out", *OPTIONS) == 1
    said = capsys.readouterr()
    assert "1 of 3 tracks failed: A - One" in said.err and "Traceback" not in said.err
    assert len(said.err.splitlines()) == 2 and "vocals.wav" in said.err
    assert (tmp_path / "out" / "scores.csv").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--oracle", "irm", "--niter", "2"], "--niter: expected with a separator, got it with --oracle"),
        (["--targets", "vocals", "--consistency"], "--consistency: expected all targets"),
        (
            ["--oracle", "irm", "--adaptation", "2"],
            "--adaptation: expected with a separator, got it with --oracle",
        ),
        (["--oracle", "irm", "--listen"], "--listen: expected with --report"),
        (["--oracle", "irm", "irm"], "methods of different names, got ideal ratio mask twice"),
        (["--method", "nmf", "classic", "--softmask"], "--softmask: expected with --method umx"),
        (["--oracle", "irm", "--start", "-1"], "start: expected 0 seconds or more, got -1"),
        (["--oracle", "irm", "--duration", "0"], "duration: expected more than 0 seconds"),
        (["--method", "nmf", "--targets", "bass"], "--targets"),
        (["--model", "no-such-model"], "umxhq"),
        (["--estimates", "no/such/folder"], "no/such/folder"),
        (["--oracle", "irm", "--tracks", "Z"], "expected names of tracks such as A - One"),
        (["--oracle", "irm", "--subset", "train"], "none in the subset train"),
        (["--oracle", "irm", "--window", "0"], "window"),
        (["--oracle", "irm", "--jobs", "0"], "n_jobs"),
        (["--oracle", "irm", "--report", "--compare", "tests"], "scores of an evaluation"),
    ],
)
def test_impossible_requests_get_one_line(folders, tmp_path, capsys, options, message):
    options = [str(tmp_path / "empty") if option == "tests" else option for option in options]
    (tmp_path / "empty").mkdir()
    assert run(folders[0], "--outdir", tmp_path / "out", *options) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and message in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("package", "options"), [("museval", ["--scorer", "museval"]), ("jinja2", ["--report"])]
)
def test_missing_packages_get_one_line_before_the_work(
    folders, tmp_path, capsys, monkeypatch, package, options
):
    monkeypatch.setitem(sys.modules, package, None)
    assert run(folders[0], "--oracle", "irm", "--outdir", tmp_path / "out", *options) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and f"expected {package}" in said
    assert not (tmp_path / "out").exists()


def test_command_shows_methods_side_by_side(folders, tmp_path, capsys):
    truth, made = folders
    out, older = tmp_path / "out", tmp_path / "older"
    assert run(truth, "--estimates", made, "--outdir", older, *OPTIONS, "--quiet") == 0
    options = ["--tracks", "A - One", "--outdir", out, "--compare", older, *OPTIONS]
    assert run(truth, "--estimates", made, "--oracle", "irm", "mixture", *options) == 0
    said = capsys.readouterr().out.splitlines()
    with (out / "comparison.csv").open(encoding="utf-8") as file:
        rows = {(row["method"], row["target"]): row for row in csv.DictReader(file)}
    names = ["estimates", "ideal ratio mask", "mixture in equal shares", "older"]
    assert list(dict.fromkeys(method for method, _ in rows)) == names
    (place,) = (number for number, line in enumerate(said) if line.startswith("SDR, dB"))
    for name, line in zip(names, said[place + 1 : place + 5], strict=True):
        numbers = [float(number) for number in line.removeprefix(name).split()]
        expected = [float(rows[name, stem]["SDR"]) for stem in STEMS]
        assert numbers[0] == (3 if name == "older" else 1)
        assert numbers[1:] == pytest.approx([*expected, np.mean(expected)], abs=0.006)
    for name, folder in zip(
        names, ("estimates", "ideal-ratio-mask", "mixture-in-equal-shares"), strict=False
    ):
        (track,) = scores.load_scores(out / folder)
        median = track.targets["bass"].median("SDR")
        assert median == pytest.approx(float(rows[name, "bass"]["SDR"]), abs=1e-5)
    # A folder of several methods is compared with each of them.
    options = [
        "--oracle",
        "ibm",
        "--tracks",
        "A - One",
        "--outdir",
        tmp_path / "ibm",
        "--compare",
        out,
        *OPTIONS,
    ]
    assert run(truth, *options) == 0
    table = capsys.readouterr().out.split("SDR, dB")[1]
    assert all(name in table for name in ("ideal binary mask", "estimates", "mixture-in-equal-shares"))


def test_part_of_a_song_scores_as_a_song_of_its_own(folders, tmp_path):
    truth, made = folders
    part = slice(RATE // 2, RATE // 2 + RATE)
    references = {stem: sound[:, part] for stem, sound in sounds(0).items()}
    write(
        tmp_path / "cut" / "A - One",
        {stem: sound[:, part] for stem, sound in leaky(sounds(0)).items()},
        "flac",
    )
    expected = direct(references, leaky(references)).sir
    options = ["--tracks", "A - One", "--start", 0.5, "--duration", 1, *OPTIONS, "--quiet"]
    for number, estimates in enumerate((made, tmp_path / "cut")):  # whole songs, and the part alone
        out = tmp_path / f"out{number}"
        assert run(truth, "--estimates", estimates, "--outdir", out, *options) == 0
        (found,) = scores.load_scores(out)
        for j, stem in enumerate(STEMS):
            np.testing.assert_allclose(found.targets[stem].frames["SIR"], expected[j], atol=0.02)  # 16 bits
    (track,) = [track for track in musdb.find_tracks(truth) if track.name == "A - One"]
    song = load_song(track, Excerpt(1.5, 10))
    assert (song.begin, song.whole, song.mixture.shape) == (6000, 8000, (1, 2000))
    with pytest.raises(ValueError, match="expected a part of its 2 s, got one from 2 s on"):
        load_song(track, Excerpt(2.0))


def test_another_part_is_scored_again(folders, tmp_path):
    evaluated(folders, tmp_path / "out")
    again = evaluated(folders, tmp_path / "out", excerpt=Excerpt(0.0, 1.0))
    assert not any(outcome.resumed for outcome in again.values())
    assert all(len(outcome.scores.targets["bass"].frames["SDR"]) == 2 for outcome in again.values())


def in_a_process(code, *arguments, **options):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, **options)


SCORES_AT_ONCE = """
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from jaxsep import metrics
references = np.random.default_rng(0).standard_normal((12, 3, 1, 30000)).astype(np.float32)
def score(r):
    return metrics.bss_eval(r, r + 0.1 * r[::-1], window=4000, hop=4000, filters_len=16).sdr
with ThreadPoolExecutor(6) as pool:
    at_once = list(pool.map(score, references))
np.testing.assert_array_equal(at_once, [score(r) for r in references])
"""


def test_many_threads_score_at_once_and_end():
    # In a process of its own: a deadlock would hold this one for good.
    with in_a_process(SCORES_AT_ONCE) as process:
        try:
            assert process.wait(timeout=120) == 0
        finally:
            process.kill()


KILLS_ITSELF = """
import os, signal, sys
from jaxsep import cli, evaluation
write = evaluation.write_scores
def write_one(path, scores):
    if list(path.parent.glob("*.json")):
        path.with_name(".half.json").write_text("{")
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, scores)
evaluation.write_scores = write_one
cli.main(["evaluate", *sys.argv[1:], "--jobs", "1"])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
def test_a_killed_evaluation_goes_on_where_it_was(folders, tmp_path, capsys):
    truth, made = folders
    arguments = [truth, "--estimates", made, "--outdir", tmp_path / "out", *OPTIONS]
    with in_a_process(KILLS_ITSELF, *arguments, stdout=subprocess.DEVNULL) as process:
        try:
            assert process.wait(timeout=120) == -signal.SIGKILL
        finally:
            process.kill()
    assert run(*arguments) == 0
    said = capsys.readouterr().out
    assert said.count("(known)") == 1 and said.count(": SDR") == 3
    assert len(scores.load_scores(tmp_path / "out")) == 3
