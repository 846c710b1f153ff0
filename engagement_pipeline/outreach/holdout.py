"""Who is never written to, so that the effect of outreach can be told.

Only the draw belongs here. What it comes to is `uplift`'s.
"""

import hashlib
import json
from decimal import Decimal
from functools import lru_cache
from math import ceil

BUCKETS = 10_000
"""How finely a share can be told: by ten-thousandths of all members."""

# An encoder of its own: `json.dumps` makes a new one at each call with separators.
_ENCODE = json.JSONEncoder(separators=(",", ":")).encode


def is_held_out(org_id: str, user_id: str, *, salt: str, share: float) -> bool:
    """Whether a member is held out: `sha256([salt, org_id, user_id]) mod 10,000 < share * 10,000`.

    The digest is of the three as compact JSON in ASCII, so that no two members are written alike,
    and is read as one number, its first byte the highest. So a member stays held out while the
    salt is kept, whoever else comes or goes; with a larger share the same ones stay, and more come.

    Args:
        org_id: the organisation.
        user_id: the member.
        salt: what is drawn by; another one draws other members.
        share: the share of members to hold out, in [0, 1].

    Raises:
        ValueError: the share is out of bounds.
    """
    digest = hashlib.sha256(_ENCODE([salt, org_id, user_id]).encode()).digest()
    return int.from_bytes(digest, "big") % BUCKETS < _buckets_held_out(share)


@lru_cache(maxsize=64)
def _buckets_held_out(share: float) -> int:
    if not 0 <= share <= 1:
        raise ValueError(f"share: expected one in [0, 1], found {share!r}")
    # As it is written: in floats 0.0051 * 10,000 is more than 51.
    return ceil(Decimal(repr(float(share))) * BUCKETS)
