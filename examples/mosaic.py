"""Audio mosaicing: one recording played with the sounds of another, by diagonal NMF.

    python examples/mosaic.py                                  # a tune played by a swarm, both synthesised
    python examples/mosaic.py --output mosaic                  # also writes mosaic/mosaic.wav, ...
    python examples/mosaic.py --target tune.wav --source bees.wav --output mosaic

Every frame of the source is a template, so the activations say which moment of the source sounds when. Plain NMF
hops from moment to moment; the constraint favours runs of moments in their own order, so that the source's timbre
survives. After Driedger, Prätzlich, Müller: Let it Bee (ISMIR 2015).
"""

import argparse
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxsep import nmf, stft
from jaxsep.griffin_lim import griffin_lim
from jaxsep.io import audio
from jaxsep.nmf_constraints import Mosaic

RATE, N_FFT, HOP = 22050, 2048, 1024
MOSAIC = Mosaic(polyphony=10, length=7, every=5, neighbourhood=(1, 7))
TUNE = (60, 64, 67, 72, 67, 64, 62, 65, 69, 74, 69, 65)  # MIDI pitches


def make_tune(seconds: float) -> np.ndarray:
    """Plucked notes, float32 ``(time,)``."""
    note = np.arange(round(0.4 * RATE)) / RATE
    notes = [
        sum(
            np.exp(-4 * k**0.5 * note) * np.sin(2 * np.pi * k * 440 * 2 ** ((p - 69) / 12) * note) / k
            for k in range(1, 9)
        )
        for p in TUNE
    ]
    return np.resize(np.concatenate(notes), round(seconds * RATE)).astype(np.float32) * 0.3


def make_swarm(seconds: float, seed: int = 0) -> np.ndarray:
    """Buzzes that glide up and down two octaves, float32 ``(time,)``."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    swarm = np.zeros(len(time))
    for _ in range(4):
        octave = 1 + np.sin(2 * np.pi * (rng.uniform(0.05, 0.15) * time + rng.random()))
        flutter = 0.02 * np.sin(2 * np.pi * rng.uniform(4, 7) * time)
        phase = 2 * np.pi * np.cumsum(220 * 2 ** (octave + flutter)) / RATE
        swarm += sum(np.sin(k * phase) / k for k in range(1, 8))
    return (0.1 * swarm).astype(np.float32)


def mosaic(
    target: np.ndarray, source: np.ndarray, *, n_steps: int = 30, n_iters: int = 50, diagonal: bool = True
) -> tuple[np.ndarray, nmf.NMFState]:
    """The target ``(time,)`` played with the source, and which frame of the source sounds when (``state.h``)."""
    v = jnp.abs(stft.stft(jnp.asarray(target), n_fft=N_FFT, hop_length=HOP))
    moments = stft.stft(jnp.asarray(source), n_fft=N_FFT, hop_length=HOP)
    moments = moments / jnp.maximum(jnp.abs(moments).sum(axis=0, keepdims=True), 1e-6)
    h = nmf.init(v, moments.shape[1], key=jax.random.key(0)).h
    state, _ = nmf.fit(
        v,
        nmf.NMFState(jnp.abs(moments), h),
        n_steps=n_steps,
        update_w=False,
        constraint=MOSAIC if diagonal else None,
        divergence_every=n_steps,
    )
    played = moments @ state.h  # the source's phases are a better start than none
    sound = griffin_lim(played, n_fft=N_FFT, hop_length=HOP, length=len(target), n_iters=n_iters)
    return np.asarray(sound), state


def order(h: jax.Array) -> float:
    """How often the source goes on by a frame from one frame to the next: 0 at random, 1 always."""
    onward = (h[:-1, :-1] * h[1:, 1:]).sum()
    return float(onward / jnp.sqrt((h[:-1, :-1] ** 2).sum() * (h[1:, 1:] ** 2).sum()))


def read(path: Path) -> np.ndarray:
    """A sound file's channels averaged, at RATE."""
    samples, _ = audio.load(path, sample_rate=RATE)
    return samples.mean(axis=0)


def main(argv: list[str] | None = None) -> int:
    """Play one sound with another, with and without the constraint."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", type=Path, help="what to play (default: a synthesised tune)")
    parser.add_argument("--source", type=Path, help="what to play it with (default: a synthesised swarm)")
    parser.add_argument("--output", type=Path, help="folder for target, source and the two mosaics")
    parser.add_argument("--seconds", type=float, default=6.0, help="of the synthesised sounds")
    parser.add_argument("--steps", type=int, default=30, help="iterations (default: %(default)s)")
    args = parser.parse_args(argv)
    target = read(args.target) if args.target else make_tune(args.seconds)
    source = read(args.source) if args.source else make_swarm(2 * args.seconds)
    sounds = {"target": target, "source": source}
    for name, diagonal in (("plain", False), ("mosaic", True)):
        sounds[name], state = mosaic(target, source, n_steps=args.steps, diagonal=diagonal)
        print(f"{name:6} the source goes on by itself: {order(state.h):.2f}")
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        for name, sound in sounds.items():
            audio.save(args.output / f"{name}.wav", sound[None], RATE, subtype="FLOAT")
    return 0


if __name__ == "__main__":
    sys.exit(main())
