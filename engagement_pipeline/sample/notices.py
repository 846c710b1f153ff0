"""What the platform sent and what was read: `notifications` and `notification_reads`.

Reads, and reading again, live here. Which events there were comes from `programme`, who signed up
from `turnout`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import NamedTuple

from engagement_pipeline.sample.dice import Dice, Mint
from engagement_pipeline.sample.layout import Row
from engagement_pipeline.sample.members import Member
from engagement_pipeline.sample.phrases import CHANNELS, FEATURE_READ_RATES
from engagement_pipeline.sample.programme import Event, local_instant
from engagement_pipeline.sample.turnout import SignUp

KEPT_DAYS = 300
"""How far back the platform keeps its notifications."""

DIGEST_WEEKS = 13
_NEWS_MONTHS = 10
_GALA_NOTICE_WEEKS = 6
_REMINDED_SHARE = 0.45
_DIGEST_SHARE = 0.7
_READ_AGAIN_SHARE = 0.15
_UNDELIVERED_SHARE = 0.03
_KEEPS_READING_WARMTH = 0.6


class Notice(NamedTuple):
    """One notification to a member; `org_id` is None where the platform did not say for whom."""

    notification_id: str
    member: Member
    org_id: str | None
    feature: str
    sent_at: datetime


@dataclass(frozen=True)
class Outbox:
    """Where the notices to the members of one organisation are written, until `as_of`."""

    members: Sequence[Member]
    as_of: datetime
    dice: Dice
    mint: Mint

    def notices(self, events: Sequence[Event], signed_up: Sequence[SignUp]) -> list[Notice]:
        """Everything sent in the last months, oldest first."""
        found = [
            *self._reminders(events, signed_up),
            *self._digests(),
            *self._announcements(events),
            *self._direct_messages(),
            *self._news(),
        ]
        return sorted(found, key=lambda notice: (notice.sent_at, notice.notification_id))

    def _notice(self, member: Member, org_id: str | None, feature: str, at: datetime) -> Notice:
        return Notice(self.mint.issue(), member, org_id, feature, at)

    def _is_kept(self, at: datetime) -> bool:
        return self.as_of - timedelta(days=KEPT_DAYS) <= at <= self.as_of

    def _reminders(self, events: Sequence[Event], signed_up: Sequence[SignUp]) -> Iterator[Notice]:
        """A day before the evening, to those who had signed up by then."""
        by_user = {member.user_id: member for member in self.members}
        reminded_at = {event.event_id: event.starts_at - timedelta(hours=24) for event in events}
        for sign_up in signed_up:
            member, at = by_user.get(sign_up.user_id), reminded_at[sign_up.event_id]
            is_due = self._is_kept(at) and sign_up.created_at < at
            if member is not None and is_due and self.dice.chance(_REMINDED_SHARE):
                yield self._notice(member, member.org.org_id, "event_reminder", at)

    def _digests(self) -> Iterator[Notice]:
        """Monday at eight, local, for the last weeks; not everyone has it switched on."""
        this_monday = self.as_of.date() - timedelta(days=self.as_of.weekday())
        for member in self.members:
            if not self.dice.chance(_DIGEST_SHARE):
                continue
            for week in range(DIGEST_WEEKS):
                day = this_monday - timedelta(weeks=week)
                at = local_instant(day, time(8, 0), member.org.timezone)
                if at <= self.as_of and member.belongs(at):
                    yield self._notice(member, member.org.org_id, "weekly_digest", at)

    def _announcements(self, events: Sequence[Event]) -> Iterator[Notice]:
        """Weeks ahead of the gala, to everyone who belonged then."""
        galas = [event for event in events if event.series is None]
        for at in (gala.starts_at - timedelta(weeks=_GALA_NOTICE_WEEKS) for gala in galas):
            for member in self.members:
                if self._is_kept(at) and member.belongs(at) and self.dice.chance(0.9):
                    yield self._notice(member, member.org.org_id, "new_event", at)

    def _direct_messages(self) -> Iterator[Notice]:
        """From member to member: the platform does not say in which organisation."""
        for member in self.members:
            for _ in range(self.dice.whole(0, 5)):
                at = self.dice.moment(self.as_of - timedelta(days=KEPT_DAYS), self.as_of)
                if member.warmth(at) > 0.0 and member.writes > 0.0:
                    yield self._notice(member, None, "direct_message", at)

    def _news(self) -> Iterator[Notice]:
        """News of the platform itself, now and then with the organisation it was sent through."""
        today = self.as_of.replace(minute=0, second=0, microsecond=0)
        for member in self.members:
            for month in range(_NEWS_MONTHS):
                at = today - timedelta(days=30 * month + 1)
                if member.belongs(at) and self.dice.chance(0.2):
                    org_id = member.org.org_id if self.dice.chance(0.2) else None
                    yield self._notice(member, org_id, "platform_news", at)


def notification_rows(sent: Sequence[Notice], as_of: datetime, dice: Dice) -> list[Row]:
    """Rows of `notifications`."""
    rows: list[Row] = []
    for notice in sent:
        delivered_at = notice.sent_at + timedelta(seconds=dice.whole(1, 240))
        is_lost = dice.chance(_UNDELIVERED_SHARE) or delivered_at > as_of
        rows.append(
            {
                "notification_id": notice.notification_id,
                "user_id": notice.member.user_id,
                "org_id": notice.org_id,
                "feature": notice.feature,
                "channel": dice.weighted(CHANNELS),
                "sent_at": notice.sent_at,
                "delivered_at": None if is_lost else delivered_at,
            }
        )
    return rows


def read_rows(sent: Sequence[Notice], as_of: datetime, dice: Dice) -> list[Row]:
    """Rows of `notification_reads`, revisits included: each (notification, instant) once."""
    reads: dict[tuple[str, datetime], None] = {}
    for notice in sent:
        if not dice.chance(_read_probability(notice)):
            continue
        read_at = notice.sent_at + timedelta(minutes=5) + dice.minutes(0, dice.waiting(400.0))
        reads[(notice.notification_id, read_at)] = None
        while dice.chance(_READ_AGAIN_SHARE):
            read_at += dice.minutes(1, 2_000)
            reads[(notice.notification_id, read_at)] = None
    return [
        {"notification_id": notification_id, "read_at": read_at}
        for notification_id, read_at in sorted(reads, key=lambda read: (read[1], read[0]))
        if read_at <= as_of
    ]


def _read_probability(notice: Notice) -> float:
    member = notice.member
    warmth = member.warmth(notice.sent_at)
    if member.keeps_reading:
        warmth = max(warmth, _KEEPS_READING_WARMTH)
    return min(0.97, FEATURE_READ_RATES[notice.feature] * member.reads * warmth)
