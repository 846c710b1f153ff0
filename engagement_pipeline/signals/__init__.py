"""The 90-day signals of every member: what is known of each one at a moment.

Here belong the reading of source rows as signals, and the attribution of a notification to an
organisation. What the signals *mean* (levels, profiles, churn) belongs to the rooms that read them;
reading and writing the warehouse belongs to `warehouse`.
"""

from engagement_pipeline.signals.member_90d import finish, member_signals
from engagement_pipeline.signals.sources import SignalSources

__all__ = ["SignalSources", "finish", "member_signals"]
