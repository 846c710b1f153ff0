"""Engagement per organisation and member: who is engaged, why, and what to do next."""
