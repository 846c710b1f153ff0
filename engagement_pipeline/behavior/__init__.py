"""Behaviour: how members sound, what they do habitually, and what is predicted of them.

Pure: frames, models and numbers in, the same out. Which tables they come from and go to belongs to
the warehouse; what came of predictions, to the loops.
"""
