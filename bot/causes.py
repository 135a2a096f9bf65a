"""Why a connection failed, in a word for the log: libraries wrap the cause several times, each in its own way."""

import ssl
from collections.abc import Iterator
from socket import gaierror

WORDS: tuple[tuple[type[BaseException], str], ...] = (
    (gaierror, "DNS: no such name"),
    (ConnectionRefusedError, "refused: nothing listens there"),
    (ssl.SSLError, "TLS: its version, or no TLS at all"),
    (TimeoutError, "time-out"),
)


CERTIFICATE = "certificate"
REFUSED_CERTIFICATES = {
    10: f"{CERTIFICATE}: it has expired, or this machine's clock is wrong",
    62: f"{CERTIFICATE}: it is for a server of another name",
}
"""What OpenSSL's codes mean; every other says that nobody trusted here vouches for it."""
NOT_TRUSTED = f"{CERTIFICATE}: its authority is not trusted here, as one of your own or of a proxy that looks inside"
TRUST_IT = "name the authority's file in SSL_CERT_FILE, or add it to the certificates of this machine"


def trust_help(word: str) -> str:
    """Return what an operator does about a connection that failed for this cause; empty if it is no certificate's."""
    if word == NOT_TRUSTED:
        return TRUST_IT
    return "renew it, or correct the address" if word.startswith(CERTIFICATE) else ""


def cause(failure: BaseException) -> str:
    """Return the word for the first known cause, else the failure's class name; no address, nothing of a request."""
    for found in causes(failure):
        if isinstance(found, ssl.SSLCertVerificationError):
            return REFUSED_CERTIFICATES.get(getattr(found, "verify_code", 0), NOT_TRUSTED)
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
