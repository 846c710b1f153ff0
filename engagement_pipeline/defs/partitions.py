"""One partition per organisation."""

from collections.abc import Iterable, Sequence
from urllib.parse import quote, unquote

import dagster as dg

ORGS = dg.DynamicPartitionsDefinition(name="org")

_SPELLED_OUT = "%"


def partition_key(org_id: str) -> str:
    """The organisation's id as Dagster takes it for a key.

    Dagster refuses control characters and `...` in keys; those ids, and such as hold a `%`, are
    percent-encoded. All others stay as they are.
    """
    if org_id.isprintable() and "..." not in org_id and _SPELLED_OUT not in org_id:
        return org_id
    return quote(org_id, safe=" ").replace(".", "%2E")


def org_id_of(key: str) -> str:
    """The organisation that a partition key stands for."""
    return unquote(key) if _SPELLED_OUT in key else key


def sync_partitions(instance: dg.DagsterInstance, org_ids: Iterable[str]) -> tuple[int, int]:
    """Make the partitions those of `org_ids`; gives how many were added and removed."""
    wanted = {partition_key(org_id) for org_id in org_ids}
    present = set(instance.get_dynamic_partitions(_name()))
    for gone in sorted(present - wanted):
        instance.delete_dynamic_partition(_name(), gone)
    added = sorted(wanted - present)
    if added:
        instance.add_dynamic_partitions(_name(), added)
    return len(added), len(present - wanted)


def range_tags(
    keys: Iterable[str], all_keys: Sequence[str], *, may_span_others: bool = False
) -> dict[str, str]:
    """Run tags that make a run work on `keys`: on the range from the first to the last of them.

    Dagster knows ranges only. Where others lie between, there are no tags unless
    `may_span_others`: a run without them still classifies, but Dagster cannot show which
    organisations it left failed.
    """
    wanted = set(keys)
    places = [place for place, key in enumerate(all_keys) if key in wanted]
    if not places:
        return {}
    has_others = places[-1] - places[0] + 1 != len(places)
    if has_others and not may_span_others:
        return {}
    return {
        "dagster/asset_partition_range_start": all_keys[places[0]],
        "dagster/asset_partition_range_end": all_keys[places[-1]],
    }


def _name() -> str:
    assert ORGS.name is not None
    return ORGS.name
