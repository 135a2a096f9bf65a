"""Causes: what the log says about a connection that failed."""

import ssl
from socket import gaierror

import pytest

from bot.causes import NOT_TRUSTED, cause


def wrapped(inner: BaseException, *, explicitly: bool) -> BaseException:
    """Return a failure wrapped as libraries do it, with `from` or without."""
    outer = OSError("All attempts failed")
    if explicitly:
        outer.__cause__ = inner
    else:
        outer.__context__ = inner
    return outer


def refused_with(code: int) -> ssl.SSLCertVerificationError:
    refused = ssl.SSLCertVerificationError("it names a server")
    refused.verify_code = code
    return refused


@pytest.mark.parametrize("explicitly", [True, False])
@pytest.mark.parametrize(
    ("inner", "said"),
    [
        (gaierror(-2, "Name or service not known"), "DNS: no such name"),
        (ConnectionRefusedError(111, "refused"), "refused: nothing listens there"),
        (refused_with(10), "certificate: it has expired, or this machine's clock is wrong"),
        (refused_with(62), "certificate: it is for a server of another name"),
        (refused_with(19), NOT_TRUSTED),
        (ssl.SSLError("wrong version number"), "TLS: its version, or no TLS at all"),
        (TimeoutError(), "time-out"),
        (ExceptionGroup("two addresses", [ValueError(), ConnectionRefusedError()]), "refused: nothing listens there"),
        (ValueError("key=secret"), "OSError"),
        (ExceptionGroup("two addresses", [ValueError()]), "OSError"),
    ],
)
def test_the_first_cause_there_is_a_word_for_is_said(inner: BaseException, said: str, *, explicitly: bool) -> None:
    """It is found however often it was wrapped. Its own text is not logged, since it may contain an address."""
    assert cause(wrapped(inner, explicitly=explicitly)) == said
