"""Milestones: what members reach over time, from what they did day by day. Pure computation.

Here belong the catalogue, the counting of days, and how far a member is. What is read and written
belongs to `warehouse.milestones`; who is congratulated, and how, to `outreach`.
"""
