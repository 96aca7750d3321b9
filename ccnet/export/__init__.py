"""Networks for other programs: PyTorch modules rebuilt from weights files, and the formats of `ccnet export`.

A module per format; each has `write`. Jittor is not needed.
"""

from ccnet.export.segmenter import Segmenter, load

__all__ = ["Segmenter", "load"]
