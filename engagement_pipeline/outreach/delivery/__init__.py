"""Delivery: what was planned is reserved, sent and confirmed, each member's message once.

Nothing else of the project sends anything to members. What is said and when it is due is decided
before; how the ledger is stored belongs to the warehouse.
"""
