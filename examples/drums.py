"""Takes a drum loop apart: kick, snare and hi-hat by convolutive NMF that starts from rough drum templates.

    python examples/drums.py                     # prints the SDR of each drum
    python examples/drums.py --output drums      # also writes drums/kick.wav, ... and, with matplotlib, drums.png

The loop is synthesised, so that the true drums are known.
"""

import argparse
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import soundfile

from jaxsep import metrics, nmfd, stft
from jaxsep.factorised import component_masks
from jaxsep.nmf_informed import drum_templates

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # `datasets` is not installed with the package

from datasets.percussion import draw_kit  # noqa: E402

RATE, N_FFT, HOP, N_LAGS = 44100, 2048, 512, 8
DRUMS = ("kick", "snare", "hihat")
# Sixteenths of one bar; the synthesised kit calls a closed hi-hat "hat".
PATTERN = {"kick": "x.....x.x..x....", "snare": "....x.......x..x", "hihat": "x.x.x.x.x.x.x.xx"}
LEVELS = {"kick": 0.5, "snare": 0.35, "hihat": 0.12}


def make_loop(seed: int, *, n_bars: int = 2, tempo: float = 110.0) -> dict[str, np.ndarray]:
    """The drums of a loop, each float32 ``(time,)``."""
    kit = draw_kit(np.random.default_rng(seed), RATE)
    step = round(60 / tempo / 4 * RATE)
    drums = {}
    for drum, bar in PATTERN.items():
        stroke = LEVELS[drum] * kit[drum.removeprefix("hi")]
        sound = np.zeros(16 * n_bars * step + len(stroke), np.float32)
        for place, mark in enumerate(bar * n_bars):
            if mark == "x":
                sound[place * step : place * step + len(stroke)] += stroke
        drums[drum] = sound[: 16 * n_bars * step]
    return drums


def separate_drums(loop: np.ndarray, *, n_steps: int = 30) -> tuple[np.ndarray, nmfd.NMFDState]:
    """The drums ``(drum, time)`` in the order of DRUMS, which sum to the loop, and the factors."""
    spectrogram = stft.stft(jnp.asarray(loop), n_fft=N_FFT, hop_length=HOP)
    v = jnp.abs(spectrogram)
    # The start decides which component becomes which drum: templates that are about right, equal activations.
    start = nmfd.init(v, len(DRUMS), key=jax.random.key(0), n_lags=N_LAGS)
    start = start._replace(w=drum_templates(DRUMS, n_fft=N_FFT, sample_rate=RATE, n_lags=N_LAGS))
    state, _ = nmfd.fit(v, start, n_steps=n_steps)
    masked = component_masks(state) * spectrogram[None]
    return np.asarray(stft.istft(masked, n_fft=N_FFT, hop_length=HOP, length=len(loop))), state


def draw(state: nmfd.NMFDState, path: Path) -> None:
    """A picture of the templates and when they are struck."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(DRUMS), 2, figsize=(9, 5), width_ratios=(1, 4), layout="constrained")
    seconds = np.arange(state.h.shape[1]) * HOP / RATE
    for index, (drum, (left, right)) in enumerate(zip(DRUMS, axes, strict=True)):
        template = np.log1p(1000 * np.asarray(state.w[:, index]) / float(state.w[:, index].max()))
        extent = (0, 1000 * N_LAGS * HOP / RATE, 0, RATE / 2000)
        left.imshow(template, origin="lower", aspect="auto", extent=extent, cmap="magma")
        left.set(ylabel=f"{drum}\nkHz", xlabel="ms" if index == len(DRUMS) - 1 else "")
        right.plot(seconds, state.h[index], linewidth=0.8)
        right.set(yticks=[], xlim=(0, seconds[-1]), xlabel="s" if index == len(DRUMS) - 1 else "")
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def main(argv: list[str] | None = None) -> int:
    """Make a loop, take it apart, say how well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="folder for the loop, the drums and a picture")
    parser.add_argument("--seed", type=int, default=3, help="another kit")
    parser.add_argument("--steps", type=int, default=30, help="iterations (default: %(default)s)")
    args = parser.parse_args(argv)
    drums = make_loop(args.seed)
    truth = np.stack([drums[drum] for drum in DRUMS])
    loop = truth.sum(axis=0)
    estimates, state = separate_drums(loop, n_steps=args.steps)
    before = metrics.sdr(truth[:, None], np.broadcast_to(loop, truth.shape)[:, None])
    after = metrics.sdr(truth[:, None], estimates[:, None])
    for drum, old, new in zip(DRUMS, before, after, strict=True):
        print(f"{drum:6} SDR {float(new):5.1f} dB (the loop itself: {float(old):.1f} dB)")
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        for name, sound in [("loop", loop), *zip(DRUMS, estimates, strict=True)]:
            soundfile.write(args.output / f"{name}.wav", sound, RATE, subtype="FLOAT")
        try:
            draw(state, args.output / "drums.png")
        except ImportError:
            print("no picture: matplotlib is not installed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
