"""The member signals in plain loops over plain rows, one member and one question at a time.

Shares nothing with the package: no Narwhals, no windows, no spells. Rows are dicts, instants are
whole microseconds; a table that is `None` is one that the source does not have.
"""

DAY = 24 * 60 * 60 * 1_000_000


def expected_signals(tables, as_of, significant_sections):
    """Rows of `signals.member_90d` as dicts, sorted by organisation and person."""
    members = {}
    for stay in tables["memberships"]:
        if _holds(stay, as_of):
            pair = (stay["org_id"], stay["user_id"])
            members[pair] = min(members.get(pair, stay["joined_at"]), stay["joined_at"])
    return [
        {"org_id": org, "user_id": user, "as_of": as_of}
        | _of_member(tables, as_of, significant_sections, org, user, joined_at)
        for (org, user), joined_at in sorted(members.items())
    ]


def _of_member(tables, as_of, significant_sections, org, user, joined_at):
    def recent(moment):
        return as_of - 90 * DAY < moment <= as_of

    def of_member(table, time_column):
        return [
            row[time_column]
            for row in tables[table] or []
            if (row["org_id"], row["user_id"]) == (org, user) and row[time_column] <= as_of
        ]

    attended, missed, answered = _attendance(tables, as_of, org, user)
    sent, read = _notifications(tables, as_of, org, user)
    interactions = of_member("interactions", "sent_at")
    updates = [
        row["updated_at"]
        for row in tables["profile_updates"] or []
        if row["user_id"] == user
        and row["section"] in significant_sections
        and row["updated_at"] <= as_of
    ]

    def recent_of(table, moments):
        return None if tables[table] is None else sum(recent(moment) for moment in moments)

    actives = attended + answered + read + interactions + updates
    return {
        "events_attended_90d": sum(recent(moment) for moment in attended),
        "events_attended_prev_90d": sum(
            as_of - 180 * DAY < moment <= as_of - 90 * DAY for moment in attended
        ),
        "events_attended_total": len(attended),
        "last_attended_at": max(attended, default=None),
        "no_show_count_90d": sum(recent(moment) for moment in missed),
        "rsvp_count_90d": sum(recent(moment) for moment in answered),
        "event_view_count_90d": recent_of("event_views", of_member("event_views", "viewed_at")),
        "notifications_sent_90d": recent_of("notifications", sent),
        "notifications_read_90d": recent_of("notifications", read),
        "interaction_count_90d": recent_of("interactions", interactions),
        "profile_updated_at": max(updates, default=None),
        "joined_at": joined_at,
        "days_since_joined": (as_of - joined_at) // DAY,
        "last_active_at": max(actives, default=None),
        "days_since_active": (as_of - max(actives, default=joined_at)) // DAY,
    }


def _attendance(tables, as_of, org, user):
    """Moments of coming, of staying away, and of answering."""
    attended, missed, answered = [], [], []
    for row in tables["attendance"]:
        if (row["org_id"], row["user_id"]) != (org, user) or row["created_at"] > as_of:
            continue
        status, happened = row["status"], row["created_at"]
        if row["responded_at"] is not None:
            happened = row["responded_at"]
            if happened > as_of:
                status = "not known yet"
        if status in ("attended", "partial"):
            attended.append(happened)
        if status == "no_show":
            missed.append(happened)
        if status not in ("cancelled", "waitlisted"):
            answered.append(row["created_at"])
    return attended, missed, answered


def _notifications(tables, as_of, org, user):
    """Moments of sending and of first reading, where they belong to the organisation."""
    sent, read = [], []
    for row in tables["notifications"] or []:
        if row["user_id"] != user or row["sent_at"] > as_of:
            continue
        if _org_at(tables, row, row["sent_at"]) == org:
            sent.append(row["sent_at"])
        reads = [
            visit["read_at"]
            for visit in tables["notification_reads"] or []
            if visit["notification_id"] == row["notification_id"] and visit["read_at"] <= as_of
        ]
        if reads and _org_at(tables, row, min(reads)) == org:
            read.append(min(reads))
    return sent, read


def _holds(stay, moment):
    if stay["joined_at"] > moment:
        return False
    return stay["left_at"] is None or stay["left_at"] > moment


def _org_at(tables, notification, moment):
    if notification["org_id"] is not None:
        return notification["org_id"]
    holding = [
        (stay["joined_at"], stay["org_id"])
        for stay in tables["memberships"]
        if stay["user_id"] == notification["user_id"] and _holds(stay, moment)
    ]
    return min(holding)[1] if holding else None
