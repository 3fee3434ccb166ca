"""Connections of HTTP by the settings of git: certificates, client certificates and proxies."""

from __future__ import annotations

import base64
import http.client
import ssl
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from git_theta_ext.errors import ConfigError
from git_theta_ext.interfaces import redacted
from git_theta_ext.protocol.lfs.endpoints import origin

if TYPE_CHECKING:
    from ._git_settings import GitSettings

_BLOCK = 1 << 18


class Connector:
    """Makes connections, and knows what a proxy needs.

    Args:
        settings: The settings of git.
        timeout: Time that a server may be silent, in seconds.
        proxy: A proxy that precedes those of the settings and the environment.
    """

    def __init__(self, settings: GitSettings, timeout: float, proxy: str | None = None) -> None:
        self._settings = settings
        self._timeout = timeout
        self._proxy = proxy

    def connect(self, url: str) -> http.client.HTTPConnection:
        """Return a new connection for a URL; it connects when it is first used.

        Raises:
            ConfigError: A setting is not valid.
        """
        scheme, host, port = origin(url)
        proxy = self._proxy_of(url)
        there = origin(proxy)[1:] if proxy else (host, port)
        if scheme == "http":
            return http.client.HTTPConnection(*there, timeout=self._timeout, blocksize=_BLOCK)
        secure = http.client.HTTPSConnection(*there, timeout=self._timeout, blocksize=_BLOCK, context=self._tls(url))
        if proxy:
            secure.set_tunnel(host, port, _authorization(proxy))
        return secure

    def target(self, url: str) -> tuple[str, dict[str, str]]:
        """Return the target of a request, and headers for the proxy: it is a URL for a proxy that is not a tunnel."""
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        proxy = self._proxy_of(url) if parts.scheme == "http" else None
        if proxy is None:
            return path, {}
        return f"http://{parts.netloc.rpartition('@')[2]}{path}", _authorization(proxy)

    def _tls(self, url: str) -> ssl.SSLContext:
        environment = self._settings.environment

        def file(variable: str, key: str) -> str | None:
            named = environment.get(variable) or _last(self._settings.for_url(key, url))
            return str(Path(named).expanduser()) if named else None

        authorities, folder = file("GIT_SSL_CAINFO", "sslcainfo"), file("GIT_SSL_CAPATH", "sslcapath")
        certificate, key = file("GIT_SSL_CERT", "sslcert"), file("GIT_SSL_KEY", "sslkey")
        try:
            context = ssl.create_default_context(cafile=authorities, capath=folder)
            if certificate:
                context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"a certificate file of git's http settings cannot be used: {error}",
                hint="git config --show-origin --get-regexp '^http\\.'",
            ) from error
        if "GIT_SSL_NO_VERIFY" in environment or not self._settings.flag("sslverify", url, default=True):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _proxy_of(self, url: str) -> str | None:
        """Return the proxy for a URL: of the remote, of git's settings, or of the environment."""
        parts = urlsplit(url)
        named = self._proxy or _last(self._settings.for_url("proxy", url))
        if named is None:
            proxies = urllib.request.getproxies()
            if urllib.request.proxy_bypass(parts.hostname or ""):
                return None
            named = proxies.get(parts.scheme) or proxies.get("all")
        if not named:
            return None
        proxy = named if "://" in named else f"http://{named}"
        if urlsplit(proxy).scheme != "http":
            raise ConfigError(
                f"the proxy {redacted(proxy)} is not an http proxy", hint="git config http.proxy http://HOST:PORT"
            )
        return proxy


def _authorization(proxy: str) -> dict[str, str]:
    parts = urlsplit(proxy)
    if not parts.username:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _last(values: list[str]) -> str | None:
    return values[-1] if values else None
