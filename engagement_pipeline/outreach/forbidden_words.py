"""What messages to members may not say, beyond what no text for members may (`user_text`).

Only words are judged here. Slots and lengths of templates are looked at in `templates`, what is
filled in by `rendering`.
"""

import re

from engagement_pipeline.scoring.user_text import as_it_reads, check_user_text, joined_words

_GAME_WORD = re.compile(
    r"\b(?:points?|rank(?:s|ed|ing|ings)?|leaderboards?|levels?|scoreboards?|percentiles?"
    r"|top of the table)\b"
)
_UNKIND = {
    "claims to have watched the member": re.compile(
        r"\b(?:noticed|observed|tracked|we saw|we have seen|disappeared|(?:went|gone) quiet"
        r"|been away|been a while|long time no|have(?: not|n\W?t) (?:been|seen|heard))\b"
    ),
    "blames or presses": re.compile(
        r"\b(?:streaks?|hurry|last chance|act now|deadline|ought|owe|have to|where have you been"
        r"|you (?:should|must|need to)|do(?: not|n\W?t) (?:miss|forget|lose|break)"
        r"|los(?:e|es|ing|t)|fall(?:ing|en)? behind|disappoint\w*|let (?:us|them) down)\b"
    ),
    # Harmless alone, but `highly`, `at` or `dis` might come before, in what is filled in.
    "holds part of a word that members may not read": re.compile("risk|engag|danger"),
}
_EMOJI = re.compile("[\u2600-\u27bf\U0001f000-\U0001faff]")
_MAX_EMOJI = 2


def words_problems(text: str) -> list[str]:
    """Why members may not read a text: rules of `check_user_text`, and `game_word`.

    Game words are those of points, ranks and levels. As with the former, it is looked at as it
    reads, also with its letters spaced.
    """
    problems = check_user_text(text)
    folded = as_it_reads(text)
    if any(_GAME_WORD.search(reading) for reading in (folded, joined_words(folded))):
        problems.append("game_word")
    return problems


def tone_problems(text: str) -> list[str]:
    """What is unkind about words of ours: blame, pressure, watching, figures, too many emoji.

    Also parts of words that would only be bad beside what is filled in.
    """
    folded = as_it_reads(text)
    problems = [problem for problem, words in _UNKIND.items() if words.search(folded)]
    if any(map(str.isnumeric, text)):
        problems.append("holds a figure")
    if len(_EMOJI.findall(text)) > _MAX_EMOJI:
        problems.append(f"holds more than {_MAX_EMOJI} emoji")
    return problems
