"""What a text for members may not say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.scoring import check_user_text
from engagement_pipeline.scoring.user_text import as_it_reads, check_plain_text, joined_words

AT_RISK_SPELLINGS = [
    "You are at risk",
    "AT RISK!",
    "at-risk",
    "at_risk",
    "atrisk",
    "at\u00a0risk",
    "at\u200brisk",
    "a\u200dt r\u00adisk",
    "at\n  risk",
    "at\u2010risk",
    "a.t. r.i.s.k.",
    "a t r i s k",
    "ａｔ　ｒｉｓｋ",  # noqa: RUF001 - full width
    "\u0430t ri\u0455k",  # Cyrillic a and dze
    "\u03b1t r\u03b9sk",  # Greek alpha and iota
    "át rísk",
    "at risky",
    "at a high risk of leaving",
    "𝐚𝐭 𝐫𝐢𝐬𝐤",  # noqa: RUF001 - mathematical bold
    "At. Risk!",
    "@ risk",
    "@t risk",
    "@risk",
    "at r1sk",
    "at r!sk",
    "at ri$k",
    "at r*sk",
    "at\u2011risk",
    "at\u2014risk",
    "at\u2026risk",
    "at\u2060risk",
    "at\u2800risk",
    "at\u3164risk",
    "at\u4e28risk",
    "at/risk",
    "at%20risk",
    "at\\u0020risk",
    "at&nbsp;risk",
    "at&#32;risk",
    "a&#116; risk",
    "\uff06#97;t risk",
    "a-t r-i-s-k",
    "at_ri_sk",
    "at (risk)",
    "**at** risk",
    "a\u0301t ri\u0308s\u034fk",
    "𝓪𝓽 𝓻𝓲𝓼𝓴",  # noqa: RUF001 - mathematical script
    "\u1d00\u1d1b \u0280\u026a\ua731\u1d0b",  # small capitals
    "\U0001f1e6\U0001f1f9 \U0001f1f7\U0001f1ee\U0001f1f8\U0001f1f0",  # flags
    "\U0001f170\U0001f183 \U0001f181\U0001f178\U0001f182\U0001f17a",  # tiles
    "\u24d0\u24e3 \u24e1\u24d8\u24e2\u24da",  # circled
    "\u249c\u24af \u24ad\u24a4\u24ae\u24a6",  # in brackets
    "\ua4ee\ua4d4 \ua4e3\ua4f2\ua4e2\ua4d7",  # Lisu
    "\u13aa\u13a2 \u13a1\u13a5\u13da\u13e6",  # Cherokee
    "\u0391\u03a4 R\u0399SK",  # Greek capitals
    "at a very high risk",
    "at serious, real risk",
    "at a very real risk",
    "a high-risk person",
    "in the risk group",
    "close to the risk of leaving us",
    "about to risk drifting away",
    "in danger of losing touch",
]

INNOCENT = [
    "An asterisk marks the songs that we know by heart.",
    "We met at a great risk-free evening.",
    "You took great risks on stage, and they paid off.",
    "A risk-free evening of board games, and what a great risk-free way to meet people!",
    "Thank you for taking the risk of singing a solo.",
    "Look at that! Risky moves won the chess night.",
    "Your brisk walks with us are a joy, and frisky dogs are welcome too.",
    "The tea was served at Briskham Hall.",
    "News from the garden: renewed thanks for your help.",
    "Anew each spring, the newest seedlings come from you.",
    "The newsletter has all that is coming up.",
    "Moderation in all things, said our moderator with a smile.",
    "You have been active in activities of all kinds.",
    "Come in, actively or just to listen.",
    "Take part in action groups or in activism as you like.",
    "It is an engaging evening, and a highly engaging talk.",
    "You are engaged in so much; do take care of yourself.",
    "A high standard, highly praised.",
    "Underscored by none, you discovered so much with us.",
    "Scouts and scholars met by the scorching fire.",
    "It's good to see you, isn't it?",
    "We're glad you're here - truly!",
    "Come along, e.g. to the choir, i.e. the loud one.",
    "P.S. The door is open from 7 p.m. on.",
    "The U.S.A. and the U.K. teams came too.",
    "You came on 3 May 2026 (to 4 events).",
    "You came to 3 events in the last 90 days. What a lovely start!",
    "5 events! That is wonderful.",
    "It was 10.30 when we left; time flies.",
    "See you at 19:30 or whenever you like.",
    "Bread & butter, tea & biscuits, R&B and Q&A.",
    "We <3 having you with us.",
    "Either/or, and/or, his/her: all are welcome.",
    "Hello... and welcome back…",
    "Well…see you soon!",
    "A warm-hearted, well-known, much-loved face.",
    "Dance, sing, laugh; then rest.",
    "Café, naïve, façade, Zoë and Chloë: all welcome at the soirée.",
    "Smørrebrød and żurek were on the table.",
    "🎉 Thank you for coming! 🎉",
    "Lovely to see you ❤️ and your friends 👋🏽.",
    "Mind the gap: it's a (very) small stage.",
    "Bring a friend; bring two if you like.",
    "What a team! Rarely have we laughed so much.",
    "That risotto was delicious.",
    "At last, you are back among us.",
    "We are at ease and at home with you.",
    "Reconnecting is a pleasure, and taking a break is fine.",
    "The dot on the map is where we meet.",
    "A comma, a dot and a dash walk into a bar.",
    "Our organisation grows with you; information is at the desk.",
    "Meet me at the net, said the goalkeeper.",
    "Commit to nothing: just come.",
    "The data: warm smiles all round.",
    "Hash browns & pancakes at the breakfast.",
    "1st, 2nd or last, everybody wins.",
    "A * marks the spot, and that is all.",
    "Prices start at $5 and stay there.",
    "100 % fun and 0 % pressure.",
    "Say \"hello\" to 'the regulars' for us.",
    "It has been a while, and it would be lovely to see you again.",
    "Disco nights, distant friends, discerning tastes.",
    "Whenever you're ready, we're here.",
    "Nobody minds a wrong note; risk it, sing out!",
    "What risk there was, you took it.",
    "Our knitting circle knew no pattern too hard.",
    "The interactive map was a hit; so was the radioactive-green punch.",
    "We never keep count: you are always welcome.",
]


@pytest.mark.parametrize("text", AT_RISK_SPELLINGS)
def test_at_risk_is_found_in_any_spelling(text: str) -> None:
    assert "at_risk" in check_user_text(text)
    assert "at_risk" in check_user_text(f"You look {text} these days.")


@pytest.mark.parametrize("level", vocabulary.LEVELS)
def test_no_level_is_named(level: str) -> None:
    for text in (level, level.replace("_", " "), level.replace("_", "-").upper()):
        assert "level_name" in check_user_text(f"Now you are {text}, we think")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("You seem inactive", "inactive"),
        ("a time of INACTIVITY", "inactive"),
        ("in-active of late", "inactive"),
        ("in_active", "inactive"),
        ("disengaged", "disengaged"),
        ("your dis-engagement", "disengaged"),
        ("Your score is high", "score"),
        ("scoring well", "score"),
        ("scored", "score"),
        ("sc0re", "score"),
        ("s-core", "score"),
        ("s c o r e", "score"),
        ("1nactive", "inactive"),
        ("i n a c t i v e", "inactive"),
        ("(in)active", "inactive"),
        ("dis engaged", "disengaged"),
        ("d1s-en-gaged", "disengaged"),
        ("n e w", "level_name"),
        ("N.E.W", "level_name"),
        ("n3w", "level_name"),
        ("\u039dEW", "level_name"),
        ("\U0001f195", "level_name"),
        ("m0derate", "level_name"),
        ("mode-rate", "level_name"),
        ("mode+rate", "level_name"),
        ("brand-n3w", "level_name"),
        ("moderately keen", "level_name"),
        ("high-ly en-gaged", "level_name"),
        ("see https://a.b", "url"),
        ("see WWW.example", "url"),
        ("go to example.org now", "url"),
        ("t.me/us", "url"),
        ("example\uff0ecom", "url"),
        ("example\u3002com", "url"),
        ("mailto:me", "url"),
        ("write to me@home.net", "url"),
        ("at 10.0.0.1", "url"),
        ("hxxp://a", "url"),
        ("hxxps example", "url"),
        ("//a/b", "url"),
        ("www example", "url"),
        ("on localhost", "url"),
        ("[::1]", "url"),
        ("example dot com", "url"),
        ("example(dot)zone", "url"),
        ("example[.]zone", "url"),
        ("example . com", "url"),
        ("me at home dot net", "url"),
        ("\u043f\u0440\u0438\u043c\u0435\u0440.\u0440\u0444", "url"),
        ("data:text", "url"),
        ("tg:join", "url"),
        ("<b>you</b>", "markup"),
        ("a <br/> b", "markup"),
        ("\uff1cscript>", "markup"),
        ("<@U123>", "markup"),
        ("hi @everyone", "markup"),
        ("hi [name]", "markup"),
        ("fish &amp chips", "markup"),
        ("so *a* to", "markup"),
        ("*Great!*", "markup"),
        ("so ~gone~ to", "markup"),
        ("||well||", "markup"),
        ("$$x$$", "markup"),
        ("a\\nb", "markup"),
        ("1) Hello", "markup"),
        ("Hi\n---", "markup"),
        ("fish &amp; chips", "markup"),
        ("&#64;", "markup"),
        ("so **good**", "markup"),
        ("so *good* to", "markup"),
        ("so _good_ to", "markup"),
        ("`code`", "markup"),
        ("[come](there)", "markup"),
        ("# Hello", "markup"),
        ("Hi\n- there", "markup"),
    ],
)
def test_a_banned_word_or_form_is_named_by_its_rule(text: str, rule: str) -> None:
    assert rule in check_user_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "You have taken part in activities, and it was a great risk-free evening.",
        "What risk there was, you took it. Renewed thanks for the good news!",
        "We are glad you are active. Reconnecting is a pleasure; taking a break is fine.",
        "You came on 3 May 2026 (to 4 events) - thank you!",
        "Underscored by none. It's good, e.g. as we said: at last.",
        "You came to {events_attended_90d} {events_attended_90d:event|events}, {no_show_count_90d}",
        "Moderation is kind; in action, engaging and discovered.",
        "",
    ],
)
def test_innocent_words_are_left_alone(text: str) -> None:
    assert check_user_text(text) == []


@pytest.mark.parametrize("text", INNOCENT)
def test_friendly_words_with_a_banned_one_inside_may_be_said(text: str) -> None:
    assert check_user_text(text) == []


@pytest.mark.parametrize("label", [v for k, v in vocabulary.USER_LABELS.items() if k != "new"])
def test_labels_that_members_may_read_are_no_level_names(label: str) -> None:
    if label != "Highly engaged":
        assert check_user_text(f"{label}!") == []


def test_every_broken_rule_is_given() -> None:
    assert check_user_text("Inactive, disengaged, at risk: score <b>moderate</b> http://x.y") == [
        "at_risk",
        "level_name",
        "score",
        "inactive",
        "disengaged",
        "url",
        "markup",
    ]
    # However it was told, the worst comes first.
    assert check_user_text("Inactive; a risk of leaving") == ["at_risk", "level_name", "inactive"]


@pytest.mark.parametrize(
    "spelling",
    ["mod\u200berate", "mod\u00aderate", "mo\u0301derate", "m\u00f3derate", "\u041codera\u0442e"],
)
def test_a_disguised_word_is_read_as_it_looks(spelling: str) -> None:
    assert check_user_text(spelling) == ["level_name"]


def test_capitals_of_another_alphabet_are_capitals_all_the_same() -> None:
    mathematical_bold = "".join(chr(ord(letter) - ord("A") + 0x1D400) for letter in "MODERATE")
    assert check_user_text(mathematical_bold) == ["level_name"]


@given(st.text())
def test_any_text_can_be_judged(text: str) -> None:
    assert "at_risk" in check_user_text(f"{text} at risk {text}")


def test_a_text_for_admins_may_name_levels_and_stays_plain() -> None:
    assert check_plain_text("At risk, inactive, moderate: a low score.") == []
    assert check_plain_text("*Call* them, see x.org") == ["url", "markup"]


def test_a_text_reads_the_same_in_any_letters() -> None:
    for disguise in (
        "FIVE",
        "\uff26\uff29\uff36\uff25",
        "fi\u200bve",
        "fi\u0301ve",
        "f\u20ddive",
        "f&#105;ve",
        "f\u0456ve",
    ):
        assert as_it_reads(disguise) == "five"


def test_letters_apart_make_a_word_and_words_apart_do_not() -> None:
    assert joined_words("a r-i-s-k of t w o, to be sure") == "a risk of two to be sure"
