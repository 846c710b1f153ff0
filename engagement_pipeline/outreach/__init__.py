"""Outreach: whom to write to, what, and when, and what came of it.

Pure but for `delivery`, which alone sends: frames, states and numbers in, the same out. What is
read and kept belongs to the warehouse; which template answers best, to the loop `routing`.
"""
