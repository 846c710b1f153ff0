"""The two functions that dbt gives to SQL, `ref` and `source`, and `config`; no other Jinja.

What the names that they are called with stand for is the caller's business.
"""

from collections.abc import Callable
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment


class SqlModelError(ValueError):
    """The SQL folder cannot be understood; the text names the file and what is wrong with it."""


def render(
    place: str,
    text: str,
    *,
    ref: Callable[[str], object],
    source: Callable[[str], object],
    config: Callable[[dict[str, Any]], object] = lambda _: None,
) -> str:
    """`text` with its calls of `ref` and `source` (as `schema.table`) replaced by what they give.

    Raises:
        SqlModelError: names `place`, and what is neither of these functions nor plain text.
    """
    environment = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
    environment.globals = {
        "ref": lambda model: ref(model),
        "source": lambda schema, table: source(f"{schema}.{table}"),
        "config": lambda **given: config(given) or "",
    }
    try:
        return environment.from_string(text).render()
    except (TemplateError, TypeError) as error:
        raise SqlModelError(
            f"{place}: only ref('model'), source('schema', 'table') and config(…) are known here: "
            f"{error}"
        ) from None
