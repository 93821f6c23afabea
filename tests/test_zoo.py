"""Models by name and by folder: downloads that fail in every way, the cache, both folder layouts."""

import hashlib
import http.server
import json
import os
import shutil
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest

from jaxsep.config import OpenUnmixConfig
from jaxsep.io import catalogue, download, zoo
from jaxsep.io.checkpoint import load_weights, save_weights
from jaxsep.io.torchfile import read_state_dict
from jaxsep.io.umxfolder import load_umx_weights, save_umx_weights, umx_targets
from jaxsep.io.variables import flatten
from tests.models import tiny_folder

DATA = Path(__file__).parent / "reference" / "data"
WEIGHTS = (DATA / "tiny-stereo-zip.pth").read_bytes()
HASH = hashlib.sha256(WEIGHTS).hexdigest()
STFT = {"nfft": 16, "nhop": 4, "sample_rate": 44100, "nb_channels": 2}


class Server(http.server.ThreadingHTTPServer):
    """Serves a dict of paths; counts the requests."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.cut, self.requests = {}, None, []
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        data = self.server.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: self.server.cut])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("JAXSEP_MIRROR", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def tiny(server, monkeypatch):
    """A public model of two targets on the local server."""
    model = zoo.PublicModel(
        record=7,
        files={target: f"{target}-{HASH[:8]}.pth" for target in ("vocals", "drums")},
        licence="CC0, for tests",
        megabytes=1,
        n_fft=16,
        hop_length=4,
        bandwidth=12000.0,
        addresses=(server.address + "/first/{record}/{file}", server.address + "/second/{file}"),
    )
    monkeypatch.setitem(zoo.PUBLIC_MODELS, "tiny", model)
    for target in model.files:
        server.files[f"/first/7/{model.files[target]}"] = WEIGHTS
    return model


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_downloads_once_and_is_offline_afterwards(tiny, server, cache, capsys):
    model = zoo.resolve("tiny", progress=True)
    shown = capsys.readouterr().err
    assert shown.count("CC0, for tests") == 1 and "vocals-" in shown
    assert model.targets == ["vocals", "drums"] and model.licence == "CC0, for tests"
    assert (model.n_channels, model.n_fft, model.hop_length, model.sample_rate) == (2, 16, 4, 44100.0)
    weights = model.networks["vocals"]
    assert weights.config == OpenUnmixConfig(
        n_fft=16, hop_length=4, hidden_size=6, n_layers=2, bandwidth=12000.0
    )
    assert weights.metadata["sha256"] == HASH
    truth = read_state_dict(DATA / "tiny-stereo-zip.pth")
    assert np.array_equal(weights.variables["params"]["fc1"]["kernel"], truth["fc1.weight"].T)
    assert files_in(cache) == ["drums.json", "drums.safetensors", "vocals.json", "vocals.safetensors"]

    asked = len(server.requests)
    again = zoo.resolve("tiny", ["drums"])
    assert again.targets == ["drums"] and len(server.requests) == asked == 2
    assert capsys.readouterr().err == ""


def test_only_the_targets_asked_for_are_downloaded(tiny, server, cache):
    zoo.resolve("tiny", ["drums"], progress=False)
    assert files_in(cache) == ["drums.json", "drums.safetensors"]
    rows = {row.name: row for row in catalogue.list_models()}
    assert rows["tiny"].targets == ["vocals", "drums"] and not rows["tiny"].on_disk
    zoo.resolve("tiny", progress=False)
    assert {row.name: row.on_disk for row in catalogue.list_models()}["tiny"]


def test_the_second_address_helps_out(tiny, server):
    file = tiny.files["vocals"]
    server.files[f"/first/7/{file}"] = b"something else"
    server.files[f"/second/{file}"] = WEIGHTS
    zoo.resolve("tiny", ["vocals"], progress=False)
    assert server.requests == [f"/first/7/{file}", f"/second/{file}"]


def test_a_wrong_a_shortened_and_a_missing_file(tiny, server, cache):
    file = tiny.files["vocals"]
    wrong = WEIGHTS[:-1] + b"x"
    server.files[f"/first/7/{file}"] = wrong
    with pytest.raises(ConnectionError) as caught:
        zoo.resolve("tiny", ["vocals"], progress=False)
    message = str(caught.value)
    assert f"expected SHA-256 {HASH[:8]}..., got {hashlib.sha256(wrong).hexdigest()[:8]}..." in message
    assert "404" in message and "\n" not in message
    assert f"Put the file into {cache / 'models' / 'tiny'}" in message and "JAXSEP_MIRROR" in message
    assert files_in(cache) == []

    server.files[f"/first/7/{file}"], server.cut = WEIGHTS, 1000
    with pytest.raises(ConnectionError, match=rf"broke off after 1000 of {len(WEIGHTS)} bytes|1000"):
        zoo.resolve("tiny", ["vocals"], progress=False)
    assert files_in(cache) == []
    server.cut = None
    zoo.resolve("tiny", ["vocals"], progress=False)


def test_no_network(tiny, monkeypatch, cache):
    nowhere = zoo.PublicModel(7, tiny.files, "CC0", 1, addresses=("http://127.0.0.1:9/{file}",))
    monkeypatch.setitem(zoo.PUBLIC_MODELS, "tiny", nowhere)
    with pytest.raises(ConnectionError, match=r"tiny: cannot download vocals-.*refused"):
        zoo.resolve("tiny", progress=False)
    assert files_in(cache) == []


def test_ctrl_c_leaves_nothing_behind(tiny, monkeypatch, cache):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(download.hashlib, "sha256", interrupt)
    with pytest.raises(KeyboardInterrupt):
        zoo.resolve("tiny", progress=False)
    assert files_in(cache) == [] and not list((cache / "models" / "tiny").iterdir())


def test_right_hash_but_no_weights(tiny, server, monkeypatch, cache):
    junk = b"not weights at all"
    file = f"vocals-{hashlib.sha256(junk).hexdigest()[:8]}.pth"
    model = zoo.PublicModel(7, {"vocals": file}, "CC0", 1, addresses=tiny.addresses)
    monkeypatch.setitem(zoo.PUBLIC_MODELS, "tiny", model)
    server.files[f"/second/{file}"] = junk
    with pytest.raises(ValueError, match="expected a PyTorch weights file, got something else"):
        zoo.resolve("tiny", progress=False)
    assert files_in(cache) == []


def test_a_file_that_the_user_put_into_the_cache_is_used_and_kept(tiny, server, cache):
    folder = cache / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / tiny.files["vocals"]).write_bytes(WEIGHTS)
    zoo.resolve("tiny", ["vocals"], progress=False)
    assert server.requests == []
    assert (folder / tiny.files["vocals"]).read_bytes() == WEIGHTS


@pytest.mark.parametrize("as_url", [False, True])
def test_mirror_from_the_environment(tiny, server, tmp_path, monkeypatch, as_url):
    mirror = tmp_path / "a mirror {with} odd name"
    mirror.mkdir()
    (mirror / tiny.files["vocals"]).write_bytes(WEIGHTS)
    monkeypatch.setenv("JAXSEP_MIRROR", mirror.as_uri() if as_url else str(mirror))
    zoo.resolve("tiny", ["vocals"], progress=False)
    assert server.requests == []


def test_unknown_names(tiny):
    with pytest.raises(ValueError, match=r"expected one of umx-open, umx, umxhq, umxl, umxse.*got 'umxxl'"):
        zoo.resolve("umxxl")
    with pytest.raises(
        ValueError, match=r"expected some of vocals, drums, bass, other \(model umxhq\), got piano"
    ):
        zoo.resolve("umxhq", ["vocals", "piano"])
    with pytest.raises(ValueError, match="got none"):
        zoo.resolve("umxhq", [])
    with pytest.raises(TypeError, match="expected a list of names, got the string 'vocals'"):
        zoo.resolve("umxhq", "vocals")


def test_list_of_models():
    rows = catalogue.list_models()
    assert [row.name for row in rows] == ["umx-open", "umx", "umxhq", "umxl", "umxse"]
    assert [row.name for row in rows if row.is_default] == ["umx-open"]
    rows = {row.name: row for row in rows}
    assert rows["umxl"].targets == ["vocals", "drums", "bass", "other"]
    assert "NC" in rows["umxl"].licence and not rows["umxl"].on_disk
    assert rows["umxhq"].version == "Zenodo record 3370489"
    assert rows["umxhq"].sha256["vocals"] == "b62c91ce"


def test_the_list_says_what_is_in_the_package():
    row, folder = catalogue.list_models()[0], zoo.packaged_folder()
    assert row.version not in ("not stated", "none") and row.licence == zoo.resolve().licence
    for target, digits in row.sha256.items():
        data = (folder / f"{target}.safetensors").read_bytes()
        assert hashlib.sha256(data).hexdigest().startswith(digits) and len(digits) == 8


# -- cards ---------------------------------------------------------------------------------------------


def test_the_card_in_the_package():
    card = catalogue.model_card()
    assert card == (zoo.packaged_folder() / catalogue.CARD).read_text()
    row = catalogue.list_models()[0]
    assert card.startswith("# umx-open") and row.version in card and row.licence in card


@pytest.mark.parametrize("name", zoo.PUBLIC_MODELS)
def test_cards_of_public_models(name):
    card, model = catalogue.model_card(name), zoo.PUBLIC_MODELS[name]
    assert model.licence in card and str(model.record) in card
    assert all(model.sha256_prefix(target) in card for target in model.files)


def test_a_folder_without_a_card_is_described(tmp_path):
    card = catalogue.model_card(umx_folder(tmp_path / "umx"))
    assert "vocals, drums" in card and "licence: not stated" in card and "hidden size 6" in card
    with pytest.raises(ValueError, match="expected one of umx-open"):
        catalogue.model_card("no such model")


def test_every_public_file_names_its_hash():
    for model in zoo.PUBLIC_MODELS.values():
        for target in model.files:
            assert len(model.sha256_prefix(target)) == 8
            assert all(
                url.startswith("https://") and model.files[target] in url for url in model.urls(target)
            )


def test_without_the_packaged_model(monkeypatch, tmp_path):
    monkeypatch.setattr(zoo, "packaged_folder", lambda: tmp_path / "none")
    assert not catalogue.list_models()[0].on_disk
    with pytest.raises(ValueError, match="a model that is not part of this installation"):
        zoo.resolve()


def test_the_packaged_model_is_the_default(monkeypatch, tmp_path):
    weights = load_umx_weights(umx_folder(tmp_path / "umx"), "vocals")
    for target in ("other", "vocals", "piano"):
        metadata = {"licence": "MIT"}
        save_weights(tmp_path / "ours", target, weights.variables, weights.config, metadata=metadata)
    monkeypatch.setattr(zoo, "packaged_folder", lambda: tmp_path / "ours")
    model = zoo.resolve()
    assert (model.name, model.licence, model.targets) == ("umx-open", "MIT", ["vocals", "other", "piano"])
    row = catalogue.list_models()[0]
    assert row.on_disk and row.targets == model.targets and row.licence == "MIT"


# -- folders -------------------------------------------------------------------------------------------


def umx_folder(folder, **args):
    folder.mkdir()
    (folder / "separator.json").write_text(json.dumps(STFT))
    (folder / "vocals.json").write_text(json.dumps({"args": {"hidden_size": 6, **args}, "best_loss": 0.5}))
    (folder / "vocals.pth").write_bytes(WEIGHTS)
    (folder / f"drums-{HASH[:8]}.pth").write_bytes((DATA / "tiny-stereo-stream.pth").read_bytes())
    return folder


def test_a_folder_in_the_layout_of_open_unmix(tmp_path):
    folder = umx_folder(tmp_path / "mine", bandwidth=13000)
    before = files_in(folder)
    model = zoo.resolve(folder)
    assert model.targets == ["vocals", "drums"]
    assert model.networks["vocals"].config.bandwidth == 13000  # as its author called it
    assert model.networks["drums"].config.max_bin == 5
    assert model.networks["vocals"].metadata["open_unmix"]["best_loss"] == 0.5
    assert zoo.resolve(str(folder), ["drums"]).targets == ["drums"]
    with pytest.raises(ValueError, match=r"expected some of vocals, drums .* got bass"):
        zoo.resolve(folder, ["bass"])
    assert files_in(folder) == before


def test_a_bandwidth_that_contradicts_the_weights_is_not_kept(tmp_path):
    for i, bandwidth in enumerate((22050, -1, "16000", None)):
        config = load_umx_weights(umx_folder(tmp_path / str(i), bandwidth=bandwidth), "vocals").config
        assert config.max_bin == 5


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("separator.json", None, r"separator\.json"),
        ("separator.json", "{", r"separator\.json: expected JSON"),
        ("separator.json", '{"nfft": 16, "nhop": 4}', r"separator\.json: expected the key 'sample_rate'"),
        (
            "separator.json",
            json.dumps(STFT | {"nfft": 32}),
            r"expected weights for n_fft = 32: 17 bins, got 9",
        ),
        ("separator.json", json.dumps(STFT | {"nhop": "4"}), "hop_length: expected an int"),
        ("vocals.json", "[]", r"vocals\.json: expected a JSON object, got list"),
        ("vocals.pth", "text", r"vocals\.pth: expected a PyTorch weights file"),
    ],
)
def test_damaged_folders(tmp_path, name, text, message):
    folder = umx_folder(tmp_path / "mine")
    if text is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(text)
    with pytest.raises((ValueError, OSError), match=message) as caught:
        zoo.resolve(folder, ["vocals"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "least", "most", "number"),
    [("adaptation", 0, 1000, number) for number in (-1, 10**9, "20", True, 2.5)]
    + [("hearings", 1, 10, number) for number in (0, 11, "2", True)],
)
def test_models_may_ask_how_to_be_used(tmp_path, name, least, most, number):
    asking = tiny_folder(tmp_path / "asking")
    for path in asking.glob("*.json"):
        facts = json.loads(path.read_text())
        path.write_text(json.dumps(facts | {"metadata": {name: 7}}))
    assert getattr(zoo.resolve(asking), name) == 7
    assert (
        getattr(zoo.resolve(asking, ["vocals"]), name) == least
    )  # some of the targets are no model of the mixture
    path.write_text(json.dumps(facts | {"metadata": {name: number}}))
    with pytest.raises(ValueError, match=rf"{path.name}: expected {name} of {least} to {most}, got"):
        zoo.resolve(asking)


def test_folders_that_are_no_model(tmp_path):
    with pytest.raises(ValueError, match=r"expected a model, .* got a folder without"):
        zoo.resolve(tmp_path)
    folder = umx_folder(tmp_path / "two")
    shutil.copy(folder / "vocals.pth", folder / f"vocals-{HASH[:8]}.pth")
    with pytest.raises(
        ValueError, match=r"expected one weights file for 'vocals', got vocals-.*, vocals\.pth"
    ):
        zoo.resolve(folder, ["vocals"])
    with pytest.raises(FileNotFoundError, match=r"bass\.pth"):
        load_umx_weights(folder, "bass")


def test_targets_on_different_stfts_do_not_go_together(tmp_path):
    weights = load_umx_weights(umx_folder(tmp_path / "umx"), "vocals")
    other = OpenUnmixConfig.from_json(weights.config.to_json() | {"hop_length": 8})
    save_weights(tmp_path / "ours", "vocals", weights.variables, weights.config)
    save_weights(tmp_path / "ours", "drums", weights.variables, other)
    with pytest.raises(
        ValueError, match="expected one hop_length for all targets, got 4 for vocals and 8 for drums"
    ):
        zoo.resolve(tmp_path / "ours")
    assert zoo.resolve(tmp_path / "ours", ["drums"]).hop_length == 8
    assert zoo.resolve(tmp_path / "ours", ["drums"]).licence == "not stated"


def test_writing_the_layout_of_open_unmix_and_back(tmp_path):
    weights = load_umx_weights(umx_folder(tmp_path / "umx"), "vocals")
    save_umx_weights(tmp_path / "out" / "model", "vocals", weights)
    assert umx_targets(tmp_path / "out" / "model") == ["vocals"]
    back = load_umx_weights(tmp_path / "out" / "model", "vocals")
    assert back.config == weights.config
    one, other = flatten(weights.variables), flatten(back.variables)
    assert all(np.array_equal(one[path], other[path]) for path in one)


@pytest.mark.reference
def test_openunmix_loads_the_folder_that_we_write(tmp_path, monkeypatch, rng):
    torch = pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "torchaudio", types.ModuleType("torchaudio"))
    utils = pytest.importorskip("openunmix.utils")
    model = pytest.importorskip("openunmix.model")
    net = model.OpenUnmix(nb_bins=9, nb_channels=2, hidden_size=6, nb_layers=3, max_bin=5)
    torch.save(net.state_dict(), umx_folder(tmp_path / "umx") / "vocals.pth")
    weights = load_umx_weights(tmp_path / "umx", "vocals")
    save_weights(tmp_path / "ours", "vocals", weights.variables, weights.config)
    save_umx_weights(tmp_path / "theirs", "vocals", load_weights(tmp_path / "ours", "vocals"))
    separator = utils.load_separator(os.fspath(tmp_path / "theirs"), targets=["vocals"], niter=0)
    loaded = separator.target_models["vocals"].state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in net.state_dict().items())
