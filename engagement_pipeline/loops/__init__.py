"""What happened teaches the next run: the learners and consumers of the six loops.

Pure: frames and numbers in, the same out. A module per loop, each with what it learns and with how
that changes what the pipeline does; signals are kept, and calibrations are stored, elsewhere.
"""
