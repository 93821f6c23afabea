"""The page: complete in itself, true to the scores, and alive in a real browser."""

import base64
import dataclasses
import html
import io
import json
import re
import struct
import sys
import zlib

import numpy as np
import pytest
import soundfile

from jaxsep import cli, report
from jaxsep.io import audio, musdb
from jaxsep.report import charts, clips, images, page
from jaxsep.scores import METRICS, TargetScores, TrackScores
from jaxsep.songs import Song
from tests import chromium

RATE = 8000
STEMS = ("vocals", "drums", "bass", "other")
pytest.importorskip("jinja2")


def track(name, seed, targets=STEMS, offset=0.0):
    rng = np.random.default_rng(seed)
    scored = {
        target: TargetScores({metric: offset + rng.normal(6, 3, 5) for metric in METRICS})
        for target in targets
    }
    return TrackScores(name, scored, settings={"scoring": {"mode": "v4", "filters_len": "512"}})


@pytest.fixture
def song():
    """Two seconds of tones, one a stem, of which the bass is louder in the estimate."""
    time = np.arange(2 * RATE) / RATE
    references = {
        stem: np.tile(0.1 * np.sin(2 * np.pi * 220 * (j + 1) * time), (2, 1)).astype(np.float32)
        for j, stem in enumerate(STEMS)
    }
    estimates = {stem: 1.0 * sound for stem, sound in references.items()} | {"bass": 9 * references["bass"]}
    return Song(
        musdb.Track("A & B - <Song>", "test", {}), sum(references.values()), references, RATE
    ), estimates


def text_of(source):
    """The page's text, without tags, styles and scripts."""
    bare = re.sub(r"<(style|script).*?</\1>", " ", source, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", bare)))


def test_page_says_what_the_scores_say():
    tracks = [track(f"Song {number}", number) for number in range(3)]
    text = text_of(page.render("my net", tracks))
    medians = [scores.targets["bass"].median("SIR") for scores in tracks]
    for number in (np.median(medians), np.mean(medians), tracks[1].targets["other"].median("SDR")):
        assert f"{number:.2f}" in text
    assert "3 tracks · BSSEval v4, 1 s frames every 1 s, 512 taps" in text
    assert (
        "7.21" in text and "UMXL published" in text and "median over tracks of the median over frames" in text
    )


def test_page_stands_alone(song):
    clip = clips.make_clip(*song, 1.0)
    source = page.render("a net", [track("A & B - <Song>", 0)], clips=[clip])
    addresses = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s>)]{0,30})""", source)
    assert addresses and all(address.startswith("data:") for address in addresses)
    assert not re.search(r"https?://|@import|fetch\(|XMLHttpRequest", source)
    assert len(source) < 2_000_000


def test_names_are_text_and_nothing_else():
    name = '</script><script>alert("x")</script>'
    source = page.render(name, [track(name, 0)])
    assert name not in source and source.count("<script>") == 1
    assert name in html.unescape(source)


def test_targets_notes_and_compared_names_are_text_too():
    marks = {what: f'<script>alert("{what}")</script>' for what in ("target", "note", "compared")}
    tracks = [dataclasses.replace(track("A", 0, [marks["target"]]), notes=[marks["note"]])]
    source = page.render("a net", tracks, others={marks["compared"]: tracks})
    assert source.count("<script>") == 1
    assert all(mark not in source and mark in html.unescape(source) for mark in marks.values())


def test_compared_evaluations_stay_apart():
    mine, theirs = [track("A", 0)], [track(f"{n}", n) for n in range(2)]
    text = text_of(page.render("net", mine, others={"net": theirs, "irm": theirs}))
    assert "net 1 track " in text and "net (compared) 2 tracks" in text and "irm 2 tracks" in text


@pytest.mark.parametrize(
    ("scoring", "silence", "is_told"),
    [
        ({"silent": "nan"}, "A stem has no score in frames", True),
        ({"silent": "zero"}, "A stem scores 0 dB", True),
        ({"silent": "skip"}, "Frames in which any stem", False),
        ({"silent": "nan", "scorer": "museval"}, "Frames in which any stem", False),
    ],
)
def test_page_says_what_silence_counts(scoring, silence, is_told):
    tracks = [dataclasses.replace(track("A", 0), settings={"scoring": scoring})]
    text = text_of(page.render("net", tracks))
    assert silence in text and ("--silent skip" in text) == is_told


def test_what_has_no_score_is_a_dash_and_needs_no_box():
    silent = TrackScores("Rest", {"bass": TargetScores({metric: np.full(3, np.nan) for metric in METRICS})})
    text = text_of(page.render("a net", [silent]))
    assert "nan" not in text.lower() and "bass –" in text
    everything = page.render(
        "a net", [track("A", 0, ["piano"]), silent], others={"b": [track("A", 1, ["bass"])]}
    )
    assert "nan" not in text_of(everything).lower()


def test_negative_numbers_have_a_real_minus():
    assert "−" in text_of(page.render("a net", [track("A", 0, offset=-30.0)]))
    assert page._decibel(-1.234) == "−1.23" and page._decibel(np.nan) == "–"


def test_no_tracks_and_no_jinja_are_told(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="one track or more, got none"):
        report.write_report(tmp_path / "a.html", "a", [])
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ValueError, match=r"jaxsep\[report\]"):
        report.write_report(tmp_path / "a.html", "a", [track("A", 0)])
    assert not (tmp_path / "a.html").exists()


def test_boxes_lie_where_the_numbers_are():
    methods = {"mine": [track(f"{n}", n) for n in range(7)], "theirs": [track("0", 9)]}
    panel = charts.panel_of("SDR", ["vocals"], methods)
    low, high = (float(panel.ticks[end][0].replace("−", "-")) for end in (0, -1))
    assert (panel.ticks[0][1], panel.ticks[-1][1]) == (0.0, 100.0)
    medians = np.array([scores.targets["vocals"].median("SDR") for scores in methods["mine"]])
    box, other = panel.rows[0].boxes
    assert (box.method, other.method, other.rank) == ("mine", "theirs", 1)
    assert low + (high - low) * box.median / 100 == pytest.approx(np.median(medians), abs=0.01)
    assert len(box.dots) == 7 and len(other.dots) == 1
    assert 0 <= box.low <= box.q1 <= box.median <= box.q3 <= box.high <= 100
    _, model, value, x = panel.rows[0].marks[2]
    assert (model, value) == ("UMXL", 7.21)
    assert low + (high - low) * x / 100 == pytest.approx(7.21, abs=0.01)
    assert charts.panel_of("SDR", ["kazoo"], methods) is None


def test_a_lone_track_shows_its_frames():
    mine, theirs = track("0", 1), track("0", 2)
    frames = mine.targets["vocals"].frames["SDR"]
    frames[1], frames[2] = np.nan, np.inf  # no dots for these
    methods = {"mine": [mine], "theirs": [theirs]}
    box, other = charts.panel_of("SDR", ["vocals"], methods).rows[0].boxes
    assert (len(box.dots), len(other.dots)) == (3, 5)
    assert f"median {np.median(frames[[0, 3, 4]]):.2f} dB" in box.label
    text = text_of(page.render("mine", methods["mine"], others={"theirs": methods["theirs"]}))
    assert "a dot a frame" in text and "Mean over" not in text
    many = text_of(page.render("mine", [mine, track("1", 3)], others={"theirs": methods["theirs"]}))
    assert "a dot a track" in many and "Mean over tracks" in many


@pytest.mark.parametrize("bounds", [(0.0, 0.0), (-3.2, 41.0), (5.1, 5.2), (-1000.0, 3.0)])
def test_ticks_cover_the_range(bounds):
    ticks = charts.ticks_between(*bounds)
    assert ticks[0] <= bounds[0] and ticks[-1] >= bounds[1] and 2 <= len(ticks) <= 9
    np.testing.assert_allclose(np.diff(ticks), ticks[1] - ticks[0], rtol=1e-6)


def test_clips_hold_the_sounds_with_one_gain(song):
    truth, estimates = song
    clip = clips.make_clip(truth, estimates, 1.0)
    assert (clip["duration"], clip["stems"]) == (1.0, list(STEMS))
    heard = {}
    for name, text in clip["sounds"].items():
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(text)))
        assert rate == 48000 and abs(len(samples) - 48000) < 10 and samples.shape[1] == 2
        heard[name] = np.sqrt(np.mean(samples[5000:-5000] ** 2))
    assert set(heard) == {"mixture", *(f"{stem} {kind}" for stem in STEMS for kind in ("estimate", "truth"))}
    assert heard["bass estimate"] == pytest.approx(9 * heard["bass truth"], rel=0.1)
    assert heard["bass truth"] == pytest.approx(heard["drums estimate"], rel=0.1)
    assert set(clip["images"]) == set(heard)


def test_spectrograms_show_a_tone_where_it_is():
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)[None].astype(np.float32)
    decibels = images.loudness(tone, RATE, n_bands=48, n_columns=50)
    edges = np.geomspace(40, 4000, 49)
    band = int(np.argmax(decibels[:, 25]))
    assert edges[band] <= 1000 <= edges[band + 1]
    data = images.spectrogram_image(decibels, float(decibels.max()))
    width, height = struct.unpack(">II", data[16:24])
    packed = data[data.index(b"IDAT") + 4 : data.index(b"IEND") - 8]
    levels = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, width + 1)
    assert (height, width + 1) == (48, 1 + decibels.shape[1]) and not levels[:, 0].any()
    assert levels[47 - band, 26] == images.LEVELS - 1  # the lowest band is the last row
    assert not images.loudness(0 * tone, RATE).max() > -190


def test_clips_are_kept_until_something_changes(song, tmp_path):
    truth, estimates = song
    folder = report.ClipFolder(tmp_path / "clips", frozenset([truth.track.name]), 1.0)
    scores = track(truth.track.name, 0)
    assert folder.is_missing(truth.track, scores.settings)
    assert not folder.is_missing(musdb.Track("Another", "", {}), scores.settings)
    folder.keep(truth, estimates, scores)
    assert not folder.is_missing(truth.track, scores.settings)
    assert folder.is_missing(truth.track, {"scoring": "other"})
    assert report.ClipFolder(tmp_path / "clips", folder.chosen, 2.0).is_missing(truth.track, scores.settings)
    (clip,) = report.load_clips(tmp_path / "clips", ["Another", truth.track.name])
    assert clip["track"] == truth.track.name
    with pytest.raises(ValueError, match="seconds"):
        report.ClipFolder(tmp_path, frozenset(), 0.0)
    (path,) = (tmp_path / "clips").iterdir()
    for damage in ("", "[]", "{}", json.dumps(clip | {"sounds": {}})):
        path.write_text(damage)
        assert folder.is_missing(truth.track, scores.settings)
        assert report.load_clips(tmp_path / "clips", [truth.track.name]) == []


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report as the command writes it, of two songs to hear."""
    root = tmp_path_factory.mktemp("report")
    time = np.arange(4 * RATE) / RATE
    for name in ("A & B - <Song>", "C - Other song"):
        stems = {s: 0.1 * np.sin(2 * np.pi * 220 * (j + 1) * time) for j, s in enumerate(STEMS)}
        (root / "truth" / name).mkdir(parents=True)
        for stem, sound in stems.items():
            audio.save(root / "truth" / name / f"{stem}.wav", sound[None].astype(np.float32), RATE)
    arguments = ["evaluate", str(root / "truth"), "--oracle", "irm", "--outdir", str(root / "out"),
                 "--filters-len", "4", "--report", "--seconds", "4", "--quiet"]  # fmt: skip
    assert cli.main(arguments) == 0
    return root / "out"


def test_command_writes_the_page_and_finds_its_clips_again(written, capsys):
    source = (written / "report.html").read_text(encoding="utf-8")
    assert source.count('<article class="song"') == 2 and "ideal ratio mask" in source
    assert len(list((written / "clips").iterdir())) == 2
    sounds = re.findall(r'class="sounds">(.*?)</script>', source)
    assert len(json.loads(sounds[0])) == 9


browser = pytest.mark.skipif(chromium.find() is None, reason="no Chromium here")

# Measures what reaches the speakers.
TAP = """
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (target, ...rest) {
  if (target instanceof AudioDestinationNode) {
    const context = this.context;
    context.tap ??= new AnalyserNode(context, {fftSize: 8192, smoothingTimeConstant: 0});
    window.tap = context.tap;
    connect.call(this, context.tap);
  }
  return connect.call(this, target, ...rest);
};
window.tones = () => {
  const levels = new Float32Array(window.tap.frequencyBinCount);
  window.tap.getFloatFrequencyData(levels);
  const width = window.tap.context.sampleRate / window.tap.fftSize;
  return [220, 440, 660, 880].map((f) => levels[Math.round(f / width)] > -60);
};
"""


@browser
def test_page_plays_in_a_browser(written, tmp_path):
    with chromium.Page(tmp_path, before=TAP) as tab:
        tab.open(written / "report.html")
        position = "Number(document.querySelector('.seek').value)"
        tab.click(".song .play")
        tab.wait("document.querySelector('.song').classList.contains('playing')")
        assert tab.evaluate("document.querySelector('.play').getAttribute('aria-label')") == "Pause"
        tab.wait(f"{position} > 0.3")
        tab.wait("tones().every(Boolean)")
        tab.click("[data-stem=drums] .mute")
        tab.wait("JSON.stringify(tones()) === '[true,false,true,true]'")
        tab.click("[data-stem=bass] .solo")
        tab.wait("JSON.stringify(tones()) === '[false,false,true,false]'")
        assert (
            tab.evaluate(
                "document.querySelectorAll('.song')[0].querySelectorAll('.lane:not(.unheard)').length"
            )
            == 1
        )
        tab.click("[data-stem=bass] .lane", x=0.25)
        assert 0.9 < tab.evaluate(position) < 2.5
        tab.click(".choice label:nth-of-type(3)")  # the mixture
        tab.wait("tones().every(Boolean)")
        tab.evaluate("document.querySelectorAll('.play')[1].click()")  # the other song takes over
        tab.wait("document.querySelectorAll('.song.playing').length === 1")
        tab.wait("document.querySelectorAll('.song')[1].classList.contains('playing')")
        assert tab.evaluate("document.querySelector('.play').getAttribute('aria-label')") == "Play"
        tab.evaluate("document.querySelectorAll('.seek')[1].value = 3.9")
        tab.evaluate("document.querySelectorAll('.seek')[1].dispatchEvent(new Event('input'))")
        tab.wait("document.querySelectorAll('.song.playing').length === 0")  # it ends at the end
        assert tab.errors == []
        assert [url for url in tab.requests if not url.startswith(("file:", "data:"))] == []
        assert len([url for url in tab.requests if url.startswith("file:")]) == 1


@browser
@pytest.mark.parametrize("width", [390, 1200])
def test_page_fits_light_and_dark_and_small(written, tmp_path, width):
    papers = []
    for dark in (False, True):
        with chromium.Page(tmp_path / str(dark), width=width, dark=dark) as tab:
            tab.open(written / "report.html")
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            letters = "[...document.querySelectorAll('td, th, .note, label')]"
            sizes = tab.evaluate(f"{letters}.map(e => parseFloat(getComputedStyle(e).fontSize))")
            assert min(sizes) >= 12
            papers.append(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
            assert tab.errors == []
    assert papers[0] != papers[1]
