"""Makes data/nmf_*.npz: what the originals compute, for the default tests to compare with.

Runs in two environments, because libnmfd needs numpy < 2:

    python make_nmf.py sklearn     # scikit-learn 1.9.1, torchnmf 0.3.5, librosa 0.11.0
    python make_nmf.py libnmfd     # libnmfd 1.0.0, numpy 1.26

Inputs come from seeded generators and are stored beside the results.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

DATA = Path(__file__).parent / "data"
N_STEPS = 50
BETAS = (2.0, 1.0, 0.0, 0.5, 1.5, 3.0, -1.0)


def problem(n_freq: int = 33, n_frames: int = 26, n_components: int = 4) -> tuple[np.ndarray, ...]:
    """A spectrogram bounded below by 1e-2, and factors to start from."""
    rng = np.random.default_rng(0)
    v = rng.random((n_freq, 3)) ** 3 @ rng.random((3, n_frames)) ** 3 + 1e-2
    return v, rng.random((n_freq, n_components)) + 0.1, rng.random((n_components, n_frames)) + 0.1


def make_sklearn() -> None:
    import librosa
    import torch
    import torchnmf
    from sklearn.decomposition import _nmf

    v, w, h = problem()
    out = {"v": v, "w": w, "h": h}
    for beta in BETAS:
        w_end, h_end, _ = _nmf._fit_multiplicative_update(v, w.copy(), h.copy(), beta, N_STEPS, 0)
        out |= {f"sklearn_w_{beta}": w_end, f"sklearn_h_{beta}": h_end}
    # alpha_W 1e-3, alpha_H 2e-3 and l1_ratio 0.3, times the lengths as NMF._compute_regularization does.
    n_freq, n_frames = v.shape
    l1, l2 = 0.3, 0.7
    penalties = (n_frames * 1e-3 * l1, n_freq * 2e-3 * l1, n_frames * 1e-3 * l2, n_freq * 2e-3 * l2)
    for beta in BETAS[:4]:
        ends = _nmf._fit_multiplicative_update(v, w.copy(), h.copy(), beta, N_STEPS, 0, *penalties)
        out |= {f"penalised_w_{beta}": ends[0], f"penalised_h_{beta}": ends[1]}
    for fill in ("nndsvd", "nndsvda"):
        w_start, h_start = _nmf._initialize_nmf(v, 4, init=fill, eps=0.0, random_state=0)
        out |= {f"{fill}_w": w_start, f"{fill}_h": h_start}

    torch.set_default_dtype(torch.float64)
    for beta in BETAS:
        net = torchnmf.nmf.NMF(W=torch.tensor(w), H=torch.tensor(h.T.copy()))
        net.fit(torch.tensor(v.T.copy()), beta=beta, tol=-np.inf, max_iter=N_STEPS)
        out |= {f"torchnmf_w_{beta}": net.W.detach().numpy(), f"torchnmf_h_{beta}": net.H.detach().numpy().T}
    np.savez_compressed(DATA / "nmf_sklearn.npz", **out)

    make_online()

    rng = np.random.default_rng(1)
    s = rng.random((41, 37)) ** 4
    s[:, 12:20] = 0
    s[30:] = 0
    out = {"s": s}
    for name, options in HPSS.items():
        harmonic, percussive = librosa.decompose.hpss(s, mask=True, **options)
        out |= {f"harmonic_{name}": harmonic, f"percussive_{name}": percussive}
    np.savez_compressed(DATA / "nmf_hpss.npz", **out)


def make_online() -> None:
    from sklearn.decomposition import MiniBatchNMF

    rng = np.random.default_rng(6)
    v = rng.random((17, 3)) @ rng.random((3, 40)) + 0.1
    v, w, h = 0.75 * v / v.mean(), rng.random((17, 3)) + 0.1, rng.random((3, 40)) + 0.1
    out = {"v": v, "w": w, "h": h}
    for beta in (2.0, 1.0, 0.0, 3.0):
        net = MiniBatchNMF(
            3, init="custom", batch_size=11, beta_loss=beta, tol=0, max_no_improvement=None, max_iter=4
        )
        # scikit-learn's samples are our frames.
        h_end = net.fit_transform(v.T, W=h.T.copy(), H=w.T.copy())
        out |= {f"w_{beta}": net.components_.T, f"h_{beta}": h_end.T}
    np.savez_compressed(DATA / "nmf_online.npz", **out)


HPSS = {
    "default": {},
    "even_kernels": {"kernel_size": (6, 13), "power": 1.0},
    "margins": {"kernel_size": 7, "margin": (1.0, 3.0)},
    "binary": {"kernel_size": 9, "power": np.inf},
    "long_kernel": {"kernel_size": 101},
}


def make_libnmfd() -> None:
    from libnmfd.core import nmfconv, nmfdiag
    from libnmfd.dsp import algorithms, filters
    from libnmfd.utils import core_utils

    for module in (nmfconv, nmfdiag, algorithms):
        module.tnrange = lambda n, desc=None: range(n)
    rng = np.random.default_rng(2)
    v = rng.random((21, 30)) ** 3
    w, h = rng.random((21, 3, 8)), rng.random((3, 30))
    out = {"v": v, "w": w, "h": h}
    for name, options in {"both": {}, "fix_w": {"fix_W": True}}.items():
        *_, w_end = result = nmfconv.nmfd(
            v, num_comp=3, num_iter=30, init_W=[w[:, r] for r in range(3)], init_H=h, **options
        )
        out |= {f"nmfd_w_{name}": w_end, f"nmfd_h_{name}": result[1]}

    templates, activations = rng.random((21, 12)), rng.random((12, 30))
    out |= {"templates": templates, "activations": activations}
    for name, options in MOSAIC.items():
        for cost in ("KLDiv", "EucDist"):
            _, h_end = nmfdiag.nmf_diag(
                v, cost, init_W=templates, init_H=activations, fix_W=True, num_iter=20, **options
            )
            out[f"mosaic_{name}_{cost}"] = h_end
    out["diagonality"] = core_utils.diagonality_soft_constraints_nmf(activations, 5)
    _, out["percussive"] = core_utils.drum_specific_soft_constraints_nmf(
        w, h, 0.75, np.ones((1, 7), dtype=bool)
    )
    out["nema"] = filters.nema(h, 0.6)

    harmonic_percussive = {
        "mean": {},
        "median": {"use_median": True},
        "rounds": {"num_iter": 5, "kern_dim": 9},
    }
    for name, options in harmonic_percussive.items():
        (percussive, harmonic), _, _ = algorithms.hpss_kam_fitzgerald(v + 0.01, alpha_param=1.3, **options)
        out |= {f"kam_harmonic_{name}": harmonic, f"kam_percussive_{name}": percussive}
    sources = [v, np.roll(v, 5, axis=1) + 0.01]
    out["wiener"] = np.stack(filters.alpha_wiener_filter(np.ones_like(v), sources)[0])

    pitches, onsets = np.array([60, 64, 60]), np.array([0.1, 0.3, 0.6])
    combs = nmfconv.init_templates(num_bins=1025, strategy="pitched", pitches=pitches, num_harmonics=12)
    out["combs"] = np.stack(combs, axis=1)[..., 0].astype(np.float32)
    score = SimpleNamespace(num_frames=90, time_res=512 / 44100, onsets=onsets)
    out["notes"] = nmfconv.init_activations(
        strategy="pitched", pitches=pitches, durations=np.array([0.2, 0.3, 0.2]), **vars(score)
    )
    setattr(np, "int", int)  # noqa: B010  libnmfd 1.0.0 still uses the name that numpy 1.24 dropped
    out["strokes"] = nmfconv.init_activations(
        strategy="drums", drums=np.array([1, 2, 1]), decay=0.75, **vars(score)
    )
    np.savez_compressed(DATA / "nmf_libnmfd.npz", **out)


# libnmfd takes the row of its cross from the wrong place unless the cross is square or one high: others are
# left out.
MOSAIC = {
    "plain": {},
    "sparse": {"cont_polyphony": 3, "cont_length": 7, "cont_sparsen": (1, 7)},
    "cross": {"cont_polyphony": 4, "cont_length": 4, "cont_grid": 3, "cont_sparsen": (3, 3)},
}

if __name__ == "__main__":
    DATA.mkdir(exist_ok=True)
    {"sklearn": make_sklearn, "libnmfd": make_libnmfd}[sys.argv[1]]()
