"""What the Open-Unmix family scores, as published.

BSSEval v4 on the 50 test tracks of MUSDB18, in dB: the median over tracks of the median over frames.
"""

__all__ = ["PUBLISHED"]

PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    "UMX": {
        "vocals": {"SDR": 6.32, "ISR": 11.93, "SIR": 13.33, "SAR": 6.52},
        "drums": {"SDR": 5.73, "ISR": 10.51, "SIR": 11.12, "SAR": 6.02},
        "bass": {"SDR": 5.23, "ISR": 9.23, "SIR": 10.93, "SAR": 6.34},
        "other": {"SDR": 4.02, "ISR": 9.31, "SIR": 6.59, "SAR": 4.74},
    },
    "UMXHQ": {
        "vocals": {"SDR": 6.25, "ISR": 12.70, "SIR": 12.95, "SAR": 6.50},
        "drums": {"SDR": 6.04, "ISR": 11.17, "SIR": 11.65, "SAR": 5.93},
        "bass": {"SDR": 5.07, "ISR": 9.71, "SIR": 10.35, "SAR": 6.02},
        "other": {"SDR": 4.28, "ISR": 8.78, "SIR": 7.10, "SAR": 4.62},
    },
    "UMXL": {
        "vocals": {"SDR": 7.21},
        "drums": {"SDR": 7.15},
        "bass": {"SDR": 6.02},
        "other": {"SDR": 4.89},
    },
    "X-UMX": {
        "vocals": {"SDR": 6.612, "ISR": 11.774, "SIR": 14.167, "SAR": 6.750},
        "drums": {"SDR": 6.471, "ISR": 11.276, "SIR": 12.677, "SAR": 5.968},
        "bass": {"SDR": 5.426, "ISR": 9.989, "SIR": 11.555, "SAR": 6.350},
        "other": {"SDR": 4.639, "ISR": 9.651, "SIR": 7.055, "SAR": 4.833},
    },
}
"""By model, target and metric. UMX, UMXHQ and UMXL from Open-Unmix's pages, X-UMX from asteroid's."""
