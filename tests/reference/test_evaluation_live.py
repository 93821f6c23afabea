"""Our files in museval's own hands: its schema, its stores, its numbers for the same input."""

import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from jaxsep import cli, scores, summary
from jaxsep.io import audio

from .test_metrics_live import RATE, estimated, falcon  # noqa: F401

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

STEMS = ("drums", "bass", "other", "vocals")
TOLERANCE = 0.005  # dB; the files have five decimals


@pytest.fixture(scope="module")
def museval():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import museval
        except (ImportError, RuntimeError) as error:
            pytest.skip(f"museval does not import: {error}")
    return museval


@pytest.fixture(scope="module")
def song(tmp_path_factory, falcon):  # noqa: F811
    """Four stereo stems of the song on disk, with estimates and an accompaniment; and as museval takes them."""
    root = tmp_path_factory.mktemp("falcon")
    # AAC leaves nothing above 16 kHz: then the filters are not determined, and noise at -240 dB moves museval's
    # SIR and SAR by more than 0.01 dB (ours by less than 0.001). Dither, which recordings have, determines them.
    dither = np.random.default_rng(0).standard_normal(falcon.shape)
    references = (falcon + 1e-4 * dither).astype(np.float32).astype(float)
    # Clipped too: what only leaks has no artifacts, and their ratio is beyond 80 dB.
    made = np.clip(estimated(references, "leaky"), -0.2, 0.2).astype(np.float32).astype(float)
    truth, estimates = dict(zip(STEMS, references, strict=True)), dict(zip(STEMS, made, strict=True))
    estimates["accompaniment"] = sum(estimates[stem] for stem in STEMS[:3])
    for folder, sounds in (("truth", truth), ("made", estimates)):
        path = root / folder / "test" / "Falcon 69"
        path.mkdir(parents=True)
        for name, sound in sounds.items():
            audio.save(path / f"{name}.wav", sound.astype(np.float32), RATE, subtype="FLOAT")
    targets = {name: SimpleNamespace(audio=truth[name].T) for name in ("vocals", "drums", "bass", "other")}
    targets["accompaniment"] = SimpleNamespace(audio=sum(truth[stem] for stem in STEMS[:3]).T)
    track = SimpleNamespace(name="Falcon 69", subset="test", rate=RATE, targets=targets)
    return root, track, {name: sound.T for name, sound in estimates.items()}


@pytest.fixture(scope="module")
def ours(song):
    root = song[0]
    arguments = [
        "evaluate",
        str(root / "truth"),
        "--estimates",
        str(root / "made"),
        "--outdir",
        str(root / "out"),
    ]
    assert cli.main([*arguments, "--quiet"]) == 0
    return root / "out"


def test_same_values_in_the_same_places(museval, song, ours):
    _, track, estimates = song
    theirs = json.loads(museval.eval_mus_track(track, estimates).json)
    mine = json.loads((ours / "test" / "Falcon 69.json").read_text())
    assert [target["name"] for target in mine["targets"]] == [target["name"] for target in theirs["targets"]]
    compared = 0
    for expected, got in zip(theirs["targets"], mine["targets"], strict=True):
        for frame, found in zip(expected["frames"], got["frames"], strict=True):
            assert (frame["time"], frame["duration"]) == (found["time"], found["duration"])
            for metric, value in frame["metrics"].items():
                other = found["metrics"][metric]
                if np.isfinite(value) and value < 80:
                    assert other == pytest.approx(value, abs=TOLERANCE)
                    compared += 1
                else:
                    assert not (np.isfinite(other) and other < 80)
    assert compared > 90


def test_its_schema_and_its_stores_take_our_files(museval, ours):
    path = ours / "test" / "Falcon 69.json"
    store = museval.TrackStore("Falcon 69")
    store.scores = json.loads(path.read_text())
    store.validate()
    evaluated = museval.EvalStore()
    evaluated.add_eval_dir(str(ours))
    table = evaluated.agg_frames_tracks_scores().unstack()
    mine = scores.load_scores(ours)
    for target in summary.targets_of(mine):
        for metric in scores.METRICS:
            assert table[metric][target] == pytest.approx(summary.across_tracks(mine, target, metric).median)
    methods = museval.MethodStore()
    methods.add_eval_dir(str(ours))
    assert len(methods.df) == len(evaluated.df)


def test_we_read_its_files(museval, song, tmp_path):
    _, track, estimates = song
    museval.eval_mus_track(track, estimates, output_dir=str(tmp_path))
    (mine,) = scores.load_scores(tmp_path)
    assert mine.name == "Falcon 69" and set(mine.targets) == {*STEMS, "accompaniment"}


def test_it_scores_for_comparison(museval, song, ours):
    root = song[0]
    arguments = ["evaluate", str(root / "truth"), "--estimates", str(root / "made"), "--quiet"]
    assert cli.main([*arguments, "--outdir", str(root / "theirs"), "--scorer", "museval"]) == 0
    (mine,), (theirs,) = scores.load_scores(ours), scores.load_scores(root / "theirs")
    for target, expected in theirs.targets.items():
        for metric in scores.METRICS:
            value = expected.median(metric)
            assert value < 80
            assert mine.targets[target].median(metric) == pytest.approx(value, abs=TOLERANCE)
