"""Whom the bot trusts to say who a server is: the machine's own store of authorities, for both HTTP libraries."""

import ssl
from functools import cache

import truststore


@cache
def trusted() -> ssl.SSLContext:
    """Return the TLS context for all connections; `SSL_CERT_FILE` adds to the store. Cached: it takes long to make."""
    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
