"""Why a connection failed, in a word for the log: libraries wrap the cause several times, each in its own way."""

import ssl
from collections.abc import Iterator
from socket import gaierror

WORDS: tuple[tuple[type[BaseException], str], ...] = (
    (gaierror, "DNS: no such name"),
    (ConnectionRefusedError, "refused: nothing listens there"),
    (ssl.SSLError, "TLS: its certificate or its version of TLS"),
    (TimeoutError, "time-out"),
)


def cause(failure: BaseException) -> str:
    """Return the word for the first known cause, else the failure's class name; no address, nothing of a request."""
    for found in causes(failure):
        for kind, word in WORDS:
            if isinstance(found, kind):
                return word
    return type(failure).__name__


def causes(failure: BaseException) -> Iterator[BaseException]:
    """Yield a failure and everything that caused it, members of exception groups included."""
    yield failure
    if isinstance(failure, BaseExceptionGroup):
        for one in failure.exceptions:
            yield from causes(one)
    before = failure.__cause__ or failure.__context__
    if before is not None:
        yield from causes(before)
