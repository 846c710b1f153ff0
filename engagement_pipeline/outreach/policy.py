"""How often, and after what silence, a member may be written to: the numbers of the rules.

The rules themselves belong to `decision` and `caps`; where the numbers come from, to the settings.
"""

from dataclasses import dataclass, fields
from datetime import timedelta
from functools import cached_property

_BOUNDS = {
    "inactivity_threshold_seconds": (1, 31_536_000),
    "new_user_delay_seconds": (1, 86_400),
    "message_frequency_hours": (0, 8_760),
    "min_gap_hours": (0, 8_760),
    "daily_cap": (0, 100),
}
"""The lowest and the highest value of each. Longer spans than a year would only ever say no."""


class PolicyError(ValueError):
    """A number that no rule can be held by; the text says which, and what was expected."""


@dataclass(frozen=True)
class Policy:
    """The numbers that a member may be written to by.

    Attributes:
        inactivity_threshold_seconds: silence, in seconds, up to which a member counts as active.
        new_user_delay_seconds: the same for whoever has been here for less than a day.
        message_frequency_hours: hours around a message in which there is no other.
        min_gap_hours: hours between two messages at least.
        daily_cap: messages in any 24 hours at most; 0: none.

    Raises:
        PolicyError: a number is not whole, or out of its bounds.
    """

    inactivity_threshold_seconds: int = 86_400
    new_user_delay_seconds: int = 3_600
    message_frequency_hours: int = 24
    min_gap_hours: int = 12
    daily_cap: int = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            value, (lowest, highest) = getattr(self, field.name), _BOUNDS[field.name]
            is_whole = isinstance(value, int) and not isinstance(value, bool)
            if not is_whole or not lowest <= value <= highest:
                raise PolicyError(
                    f"{field.name}: expected a whole number from {lowest} to {highest}, "
                    f"found {value!r}"
                )

    # Made once: they are asked for with every member.
    @cached_property
    def inactivity_threshold(self) -> timedelta:
        """Silence up to which a member counts as active."""
        return timedelta(seconds=self.inactivity_threshold_seconds)

    @cached_property
    def new_user_delay(self) -> timedelta:
        """The same for whoever has been here for less than a day."""
        return timedelta(seconds=self.new_user_delay_seconds)

    @cached_property
    def message_frequency(self) -> timedelta:
        """The time around a message in which there is no other."""
        return timedelta(hours=self.message_frequency_hours)

    @cached_property
    def min_gap(self) -> timedelta:
        """The time between two messages at least."""
        return timedelta(hours=self.min_gap_hours)
