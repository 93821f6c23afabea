"""Seconds per multiplicative update of the NMF family, beside scikit-learn, torchnmf, libnmfd and librosa.

    python benchmarks/bench_nmf.py                 # 2049 x 1294, 32 components
    python benchmarks/bench_nmf.py --size 257 200  # a quick look

Updates only, without the divergence, on both sides: the originals' update functions are called directly, and
`fit` measures only before the first and after the last of many steps. Only originals that are installed take
part; libnmfd, which needs numpy < 2, is called through another interpreter (`--libnmfd PYTHON`). Sixteen
spectrograms in one call stand beside sixteen calls of one: both last as long, so that other work on the machine
disturbs them alike.
"""

import argparse
import importlib.util
import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness import measure, report

from jaxsep import masking, nmf, nmfd

LIBNMFD = """
import json, sys, time, warnings
warnings.filterwarnings("ignore")
import numpy as np
from libnmfd.core import nmfconv
nmfconv.tnrange = lambda n, desc=None: range(n)
n_freq, n_frames, n_components, n_steps, repeats = map(int, sys.argv[1:])
rng = np.random.default_rng(0)
v, h = rng.random((n_freq, n_frames)), rng.random((n_components, n_frames))
w = [rng.random((n_freq, 8)) for _ in range(n_components)]
def run(n):
    start = time.perf_counter()
    nmfconv.nmfd(v, num_comp=n_components, num_iter=n, init_W=w, init_H=h)
    return time.perf_counter() - start
# The difference of two runs: what is done once per call falls out.
print(json.dumps([(run(1 + n_steps) - run(1)) / n_steps for _ in range(repeats)]))
"""


def quiet_between(function: Callable[[], Any]) -> Callable[[], Any]:
    """Lets the thread pools of the contender before fall asleep first: they spin for a while on shared cores."""
    time.sleep(0.2)
    return function()


def sklearn_updates(
    v: np.ndarray, w: np.ndarray, h: np.ndarray, beta: float, n_steps: int
) -> Callable[[], Any]:
    from sklearn.decomposition import _nmf

    gamma = 0.5 if beta == 0 else 1.0

    def run() -> Any:
        w_now, h_now = w.copy(), h.copy()
        for _ in range(n_steps):
            w_now, *_ = _nmf._multiplicative_update_w(v, w_now, h_now, beta, 0, 0, gamma)
            h_now = _nmf._multiplicative_update_h(v, w_now, h_now, beta, 0, 0, gamma)
        return w_now, h_now

    return run


def torchnmf_updates(
    v: np.ndarray, w: np.ndarray, h: np.ndarray, beta: float, n_steps: int
) -> Callable[[], Any]:
    import torch
    from torchnmf import nmf as peer

    gamma = 0.5 if beta == 0 else 1.0
    target = torch.tensor(v.T.copy())

    def run() -> Any:
        net = peer.NMF(W=torch.tensor(w), H=torch.tensor(h.T.copy()))
        for _ in range(n_steps):
            known = peer._get_W_kl_positive(net.H.detach()) if beta == 1 else None
            model = net.reconstruct(net.H.detach(), net.W)
            peer._double_backward_update(target, model, net.W, beta, gamma, 0, 0, known)
            known = peer._get_H_kl_positive(net.W.detach()) if beta == 1 else None
            model = net.reconstruct(net.H, net.W.detach())
            peer._double_backward_update(target, model, net.H, beta, gamma, 0, 0, known)
        return net.W.detach().numpy()

    return run


def bench_nmf(size: tuple[int, int], n_components: int, n_steps: int, repeats: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    v = rng.random(size, np.float32) + np.float32(0.01)
    w = rng.random((size[0], n_components), np.float32) + np.float32(0.01)
    h = rng.random((n_components, size[1]), np.float32) + np.float32(0.01)
    state = nmf.NMFState(jnp.asarray(w), jnp.asarray(h))
    song = jnp.asarray(v)
    songs = jnp.broadcast_to(song, (16, *size)) + 0.0
    rows = []
    for beta, name in ((2.0, "EUC"), (1.0, "KL"), (0.0, "IS")):
        options = {"beta": beta, "n_steps": n_steps, "divergence_every": n_steps}
        contenders = {
            "jaxsep": lambda o=options: nmf.fit(song, state, **o),
            "jaxsep, divergence at each step": lambda o=options: nmf.fit(
                song, state, **o | {"divergence_every": 1}
            ),
            "jaxsep, 16 in 16 calls": lambda o=options: [nmf.fit(song, state, **o) for _ in range(16)],
            "jaxsep, 16 in one call": lambda o=options: nmf.fit(songs, state, **o),
        }
        if importlib.util.find_spec("sklearn"):
            contenders["scikit-learn"] = sklearn_updates(v, w, h, beta, n_steps)
        if importlib.util.find_spec("torchnmf"):
            contenders["torchnmf"] = torchnmf_updates(v, w, h, beta, n_steps)
        contenders = {k: lambda f=f: quiet_between(f) for k, f in contenders.items()}
        timings = measure(contenders, repeats=repeats)
        base = (timings["jaxsep"].best - 0.2) / n_steps
        for contender, timing in timings.items():
            n_updates = n_steps * (16 if "16 in" in contender else 1)
            best = (timing.best - 0.2) / n_updates
            rows.append(
                {
                    "work": f"NMF {name}",
                    "contender": contender,
                    "ms_per_update": 1e3 * best,
                    "times_jaxsep": best / base,
                }
            )
    return rows


def bench_nmfd(size: tuple[int, int], n_steps: int, repeats: int, python: str | None) -> list[dict[str, Any]]:
    n_components = 3
    v = jax.random.uniform(jax.random.key(0), size)
    state = nmfd.init(v, n_components, key=jax.random.key(1), n_lags=8)
    timings = measure(
        {
            f"jaxsep, {rule}": lambda rule=rule: quiet_between(
                lambda: nmfd.fit(v, state, rule=rule, n_steps=n_steps, divergence_every=n_steps)
            )
            for rule in ("multiplicative", "averaged")
        },
        repeats=repeats,
    )
    best = {name: (timing.best - 0.2) / n_steps for name, timing in timings.items()}
    if python is not None:
        arguments = [str(x) for x in (*size, n_components, 2, 3)]
        out = subprocess.run([python, "-c", LIBNMFD, *arguments], capture_output=True, text=True, check=True)
        best["libnmfd"] = min(json.loads(out.stdout.splitlines()[-1]))
    base = best["jaxsep, averaged"]
    return [
        {"work": "NMFD, 8 lags", "contender": name, "ms_per_update": 1e3 * s, "times_jaxsep": s / base}
        for name, s in best.items()
    ]


def bench_hpss(size: tuple[int, int], repeats: int) -> list[dict[str, Any]]:
    v = np.random.default_rng(0).random(size, np.float32)
    separate = jax.jit(masking.hpss)
    contenders: dict[str, Callable[[], Any]] = {"jaxsep": lambda: separate(v)}
    if importlib.util.find_spec("librosa"):
        import librosa

        contenders["librosa"] = lambda: librosa.decompose.hpss(v, mask=True)
    timings = measure(contenders, repeats=repeats)
    base = timings["jaxsep"].best
    return [
        {"work": "HPSS, masks", "contender": k, "ms_per_update": 1e3 * t.best, "times_jaxsep": t.best / base}
        for k, t in timings.items()
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=2, default=(2049, 1294), metavar=("FREQ", "FRAME"))
    parser.add_argument("--components", type=int, default=32)
    parser.add_argument("--steps", type=int, default=50, help="updates per call (fit measures twice a call)")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--libnmfd", metavar="PYTHON", help="an interpreter that has libnmfd")
    parser.add_argument("--out", help="where to write the JSON (default: results/nmf.json)")
    options = parser.parse_args(arguments)
    size = tuple(options.size)
    rows = bench_nmf(size, options.components, options.steps, options.repeats)
    rows += bench_nmfd(size, options.steps, options.repeats, options.libnmfd)
    rows += bench_hpss(size, min(options.repeats, 3))
    report("nmf", rows, options.out)


if __name__ == "__main__":
    main()
