"""The invented organisations: who they are, where they live, what they put on.

Data only, and the small types that hold it. Names of people are in `names`, what people write is
in `phrases`; how many come to an evening is decided in `turnout`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class EventSeries:
    """A recurring event: local weekday (Monday 0) and time, length in minutes, cadence in weeks."""

    title: str
    weekday: int
    hour: int
    minute: int
    length_minutes: int
    every_weeks: int
    venue: str
    topics: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gala:
    """The annual evening, on the second Saturday of a month at 19:00 local."""

    title: str
    month: int
    venue: str


@dataclass(frozen=True, slots=True)
class Organisation:
    """A community: its size in memberships, its habits, and its settings.

    `pace` scales how often its people come (1 = about once every three weeks for a regular
    member); `lull_months` are the months of its own hemisphere's holidays.
    """

    org_id: str
    name: str
    description: str
    timezone: str
    age_days: int
    size: int
    admins: int
    pace: float
    lull_months: tuple[int, ...]
    cultures: tuple[str, ...]
    series: tuple[EventSeries, ...]
    gala: Gala
    override_count: int
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def events_per_30d(self) -> float:
        """How many events a usual month of 30 days holds."""
        return sum(30 / (7 * series.every_weeks) for series in self.series)


ORGANISATIONS: tuple[Organisation, ...] = (
    Organisation(
        org_id="harbour-lights-runners",
        name="Harbour Lights Running Club",
        description="Runs for every pace along the waterfront, three evenings a week, rain or not.",
        timezone="Pacific/Auckland",
        age_days=2900,
        size=265,
        admins=4,
        pace=1.5,
        lull_months=(1, 2),
        cultures=("maori", "english", "samoan", "korean"),
        series=(
            EventSeries("Tuesday intervals", 1, 18, 15, 75, 1, "Harbour track"),
            EventSeries("Thursday social run", 3, 18, 30, 60, 1, "Old ferry building"),
            EventSeries("Saturday long run", 5, 7, 0, 120, 1, "Lighthouse car park"),
            EventSeries("Beginners' evening", 2, 18, 0, 60, 2, "Harbour track"),
        ),
        gala=Gala("Club prize-giving and dinner", 10, "Rowing pavilion"),
        override_count=8,
        settings={"highly_engaged_min": "5", "moderate_min": "2"},
    ),
    Organisation(
        org_id="prairie-surveyors",
        name="Prairie Association of Land Surveyors",
        description="Continuing education, standards and company for people who measure the land.",
        timezone="America/Chicago",
        age_days=3600,
        size=330,
        admins=5,
        pace=0.8,
        lull_months=(7, 8),
        cultures=("english", "spanish", "polish", "german"),
        series=(
            EventSeries(
                "Evening seminar",
                2,
                18,
                30,
                90,
                1,
                "Guild Hall, room 2",
                ("boundary law", "drone mapping", "control networks", "field safety", "old deeds"),
            ),
            EventSeries("Mentoring table", 0, 17, 30, 60, 2, "Guild Hall, library"),
            EventSeries("Chapter meeting", 3, 19, 0, 120, 4, "Guild Hall, main room"),
        ),
        gala=Gala("Annual conference dinner", 11, "Riverside Hotel"),
        override_count=24,
        settings={"new_member_days": "90"},
    ),
    Organisation(
        org_id="code-and-chai",
        name="Code & Chai",
        description="A coding meetup: talks, pairing and far too much tea.",
        timezone="Asia/Kolkata",
        age_days=1900,
        size=245,
        admins=4,
        pace=1.0,
        lull_months=(5, 6),
        cultures=("hindi", "tamil", "bengali", "english"),
        series=(
            EventSeries(
                "Talk night",
                3,
                19,
                0,
                120,
                1,
                "Terrace studio",
                (
                    "Rust for the curious",
                    "reading query plans",
                    "tests you can trust",
                    "fonts and scripts",
                    "small computers",
                    "what broke this month",
                ),
            ),
            EventSeries("Pairing evening", 1, 19, 30, 90, 1, "Terrace studio"),
            EventSeries("Hack Saturday", 5, 16, 0, 300, 4, "Polytechnic annexe"),
        ),
        gala=Gala("Demo night of the year", 12, "Old print works"),
        override_count=8,
    ),
    Organisation(
        org_id="st-alban-choir",
        name="St Alban's Parish Choir",
        description="Four-part singing on Sundays and feast days. No auditions, some homework.",
        timezone="Europe/London",
        age_days=4200,
        size=135,
        admins=3,
        pace=1.9,
        lull_months=(7, 8),
        cultures=("english", "irish", "yoruba", "polish"),
        series=(
            EventSeries("Rehearsal", 4, 19, 30, 120, 1, "Church hall"),
            EventSeries("Sunday service", 6, 17, 45, 90, 1, "St Alban's"),
            EventSeries("Sectional: altos and basses", 1, 19, 30, 75, 2, "Vestry"),
        ),
        gala=Gala("Carols by candlelight", 12, "St Alban's"),
        override_count=6,
        settings={"highly_engaged_min": "6"},
    ),
    Organisation(
        org_id="mutirao-food-coop",
        name="Cooperativa Mutirão do Bairro",
        description="Neighbours who buy, cook and share food together; every pair of hands counts.",
        timezone="America/Sao_Paulo",
        age_days=1500,
        size=190,
        admins=3,
        pace=1.2,
        lull_months=(1, 2),
        cultures=("portuguese", "japanese", "spanish", "arabic"),
        series=(
            EventSeries("Packing evening", 2, 18, 30, 120, 1, "Galpão da esquina"),
            EventSeries("Cozinha comunitária", 4, 18, 0, 180, 1, "Community kitchen"),
            EventSeries("Members' assembly", 0, 19, 30, 90, 4, "Galpão da esquina"),
        ),
        gala=Gala("Festa da colheita", 6, "Praça da mangueira"),
        override_count=7,
    ),
    Organisation(
        org_id="unity-college-alumni",
        name="Unity College Alumni Network",
        description="Old students of Unity College, wherever they went, and whoever they became.",
        timezone="Africa/Lagos",
        age_days=2400,
        size=395,
        admins=5,
        pace=0.6,
        lull_months=(7, 8),
        cultures=("yoruba", "igbo", "hausa", "french"),
        series=(
            EventSeries("Career evening", 3, 18, 30, 90, 2, "College library"),
            EventSeries("City chapter drinks", 4, 19, 0, 150, 2, "Terrace café"),
            EventSeries("Mentors' circle", 1, 18, 0, 75, 4, "Online"),
        ),
        gala=Gala("Founders' night gala", 9, "Assembly hall"),
        override_count=26,
        settings={"highly_engaged_min": "2", "inactive_days": "270"},
    ),
)
"""Six organisations of different kinds, each in a time zone of its own."""
