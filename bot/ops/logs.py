"""Logging to standard error: events with ids, and nothing that looks like a token."""

import logging
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from types import TracebackType
from typing import Any

import structlog

from bot.core.mrkdwn import redact
from bot.settings import LogFormat, Settings


def configure(settings: Settings) -> None:
    """Configure logging. Libraries log only warnings and worse: below that they print payloads and headers."""
    libraries = logging.StreamHandler()
    libraries.setFormatter(Redacting("%(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[libraries], force=True)
    rendered: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format is LogFormat.JSON
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), sort_keys=False, exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redacted,
            rendered,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.log_level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    sys.excepthook = last_words


class Redacting(logging.Formatter):
    """Redacts tokens in a formatted record, its traceback included."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def redacted(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Return an event with tokens redacted from its values, before a format's quotes hide where a token begins."""
    return {name: without_tokens(value) for name, value in event.items()}


def without_tokens(value: Any) -> Any:
    match value:
        case None | int() | float():
            return value
        case str():
            return redact(value)
        case Mapping():
            return {name: without_tokens(inner) for name, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [without_tokens(inner) for inner in value]
        case _:
            return redact(repr(value))


def last_words(kind: type[BaseException], err: BaseException, trace: TracebackType | None) -> None:
    """Write the exception that ends the process as Python does, with tokens redacted."""
    sys.stderr.write(redact("".join(traceback.format_exception(kind, err, trace))))
