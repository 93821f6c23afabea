"""Pictures of what the library computes: arrays in, a matplotlib Figure out.

matplotlib is an extra (`pip install 'jaxsep[plot]'`), imported at the first picture. The figures belong to no
window and no global state: save them with `figure.savefig("name.png")`; a notebook shows them as they are.
"""

from jaxsep.plot.components import coloured, components
from jaxsep.plot.curves import curves
from jaxsep.plot.spectra import masks, spectrogram, spectrograms

__all__ = ["coloured", "components", "curves", "masks", "spectrogram", "spectrograms"]
