"""Believable sample data: invented communities, two years of their life, and a little dirt.

Here belongs what makes and writes the sample, and nothing else: no reader, no rule about what a
bad row is worth, no scoring. Time and chance are arguments, so the same `(as_of, seed)` gives the
same bytes.
"""

from engagement_pipeline.sample.folder import ForeignFilesError, write_sample
from engagement_pipeline.sample.generator import generate

__all__ = ["ForeignFilesError", "generate", "write_sample"]
