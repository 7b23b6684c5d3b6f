"""Requests to online services by QGIS's network, with its proxies, authentication and cache, and politely."""

from __future__ import annotations

import base64
import re
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from qgis.core import QgsBlockingNetworkRequest, QgsFeedback, QgsNetworkAccessManager, QgsNetworkReplyContent
from qgis.PyQt.QtCore import QUrl
from qgis.PyQt.QtNetwork import QNetworkReply, QNetworkRequest

from ..errors import RasterError
from .service import FILES, Service

__all__ = ["MOST_PIXELS_PER_MINUTE", "fetch", "interrupt", "interruptible"]

MOST_PIXELS_PER_MINUTE = 64 * 2**20
"""Pixels that one server is asked for within a minute: 64 tiles of 1024 x 1024 pixels, or a thousand of a map's own.

Somebody who draws needs a few tiles a minute, and 30 to prepare a large screen. More would be a bulk download, which
public services forbid."""

_MINUTE = 60.0
_NOT_THERE = (204, 404, 410)
"""HTTP statuses by which a service says that a tile does not exist. Any other failure is an error."""

_NOT_ALLOWED = (401, 403, 407)
_TOO_MANY = 429
_FIRST_ERROR = 400
_MOST_REDIRECTS = 10
_PORTS = {"http": 80, "https": 443}
_NOT_IN_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1f]")
"""Every image has such bytes near its beginning. The content type tells little: some servers send images as text."""

_LOOKED_AT = 512
_MOST_TEXT = 160
_WAIT = 0.05
"""Seconds between looks at whether the user has cancelled, while another request to the server is under way."""

_TAG = re.compile(r"<!--.*?-->|<[^>]*>", re.DOTALL)

# One request at a time for each host, whatever layer and thread it is for, and what was asked of it lately.
_hosts: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
_asked: defaultdict[str, deque[tuple[float, int]]] = defaultdict(deque)
_reading: dict[int, QgsFeedback] = {}
_lock = threading.Lock()


@contextmanager
def interruptible() -> Iterator[None]:
    """Let `interrupt` end the requests that this thread makes until the outermost block ends."""
    thread = threading.get_ident()
    if thread in _reading:
        yield
        return
    with _lock:
        _reading[thread] = QgsFeedback()
    try:
        yield
    finally:
        with _lock:
            del _reading[thread]


def interrupt(thread: int | None = None) -> None:
    """End the reading that is under way in a thread, or in all threads; their `fetch` raises an error at once."""
    with _lock:
        for ident, feedback in _reading.items():
            if thread in (None, ident):
                feedback.cancel()


def fetch(service: Service, url: str, pixels: int = 0) -> bytes | None:
    """Get what is at an address. Call it in a QThread, within `interruptible`.

    Parameters
    ----------
    service : Service
        Its authentication is used, and its title is named in messages.
    url : str
    pixels : int
        Number of pixels of the image; 0 for anything else.

    Returns
    -------
    bytes or None
        None if the service says that there is no such image.

    Raises
    ------
    RasterError
        If it cannot be got, something else than an image came in place of one, too much was asked for, or the user
        does not want it any more.
    """
    feedback = _reading[threading.get_ident()]
    asked = QUrl(url)
    target = asked
    for _ in range(_MOST_REDIRECTS):
        host = target.authority().rpartition("@")[2]
        names = {"name": service.title, "host": host}
        with _turn(host, feedback, names):
            _check_rate(host, pixels, names)
            answer = _get(service, target, feedback, has_login=_is_same_server(asked, target))
            if pixels and not answer.is_cached:
                _asked[host].append((time.monotonic(), pixels))
        if feedback.isCanceled():
            raise _stopped(names)
        if answer.redirect is None:
            break
        former, target = target, target.resolved(answer.redirect)
        if target.scheme() not in ("https", former.scheme()):
            raise _failed(None, f"redirect to {target.scheme()}", names)
    else:
        raise _failed(None, "too many redirects", names)
    status = answer.status
    if status in _NOT_THERE or answer.error == QNetworkReply.NetworkError.ContentNotFoundError:
        return None
    if answer.error != QNetworkReply.NetworkError.NoError or (status or 0) >= _FIRST_ERROR:
        raise _failed(status, answer.reason, names)
    content = answer.content
    if pixels and content and not _NOT_IN_TEXT.search(content[:_LOOKED_AT]):
        text = " ".join(_TAG.sub(" ", content.decode("utf-8-sig", "replace")).split())[:_MOST_TEXT]
        raise RasterError(
            "{host} sent a message in place of an image of {name}: {text}",
            "try again in a moment, or check the layer in QGIS's Data Source Manager",
            text=text or "…",
            **names,
        )
    return content


class _Answer(NamedTuple):
    """What a server answered."""

    status: int | None = None
    error: Any = QNetworkReply.NetworkError.UnknownNetworkError
    reason: str = ""
    content: bytes = b""
    is_cached: bool = False
    redirect: QUrl | None = None


def _get(service: Service, url: QUrl, feedback: QgsFeedback, *, has_login: bool) -> _Answer:
    """Wait for an answer, or for the user to cancel. Redirects are not followed: QGIS takes logins to any server."""
    blocking, ending = QgsBlockingNetworkRequest(), QgsFeedback()
    authcfg = service.parameter("authcfg")
    if authcfg and has_login:
        blocking.setAuthCfg(authcfg)
    # It deletes its reply when it is cancelled, and then waits for it in some versions.
    ending.canceled.connect(blocking.finished)
    feedback.canceled.connect(ending.cancel)
    redirects: list[QUrl] = []

    def on_finished(reply: QgsNetworkReplyContent) -> None:
        target = reply.attribute(QNetworkRequest.Attribute.RedirectionTargetAttribute)
        if target is not None:
            redirects.append(target)
            ending.cancel()

    QgsNetworkAccessManager.instance().finished[QgsNetworkReplyContent].connect(on_finished)
    code = blocking.get(_request(service, url, has_login=has_login), False, ending)
    QgsNetworkAccessManager.instance().finished[QgsNetworkReplyContent].disconnect(on_finished)
    if redirects:
        return _Answer(redirect=redirects[0])
    if code == QgsBlockingNetworkRequest.ErrorCode.TimeoutError:
        return _Answer(reason="time-out")
    reply = blocking.reply()
    error: Any = reply.error()
    if code == QgsBlockingNetworkRequest.ErrorCode.NetworkError and error == QNetworkReply.NetworkError.NoError:
        # Nothing was sent, because the login is not there.
        error = QNetworkReply.NetworkError.UnknownNetworkError
    return _Answer(
        reply.attribute(QNetworkRequest.Attribute.HttpStatusCodeAttribute),
        error,
        reply.errorString() or blocking.errorMessage(),
        bytes(reply.content()),
        bool(reply.attribute(QNetworkRequest.Attribute.SourceIsFromCacheAttribute)),
    )


def _is_same_server(asked: QUrl, target: QUrl) -> bool:
    """Whether a login for one address may be sent to another one: it may go from HTTP to HTTPS, but not back."""
    ends = [(url.scheme(), url.port(_PORTS.get(url.scheme(), -1))) for url in (asked, target)]
    is_safe = ends[0] == ends[1] or ends == [("http", 80), ("https", 443)]
    return is_safe and asked.host() == target.host()


@contextmanager
def _turn(host: str, feedback: QgsFeedback, names: dict[str, str]) -> Iterator[None]:
    """Wait until no other request to the host is under way."""
    with _lock:
        lock = _hosts[host]
    while not lock.acquire(timeout=_WAIT):
        if feedback.isCanceled():
            raise _stopped(names)
    try:
        if feedback.isCanceled():
            raise _stopped(names)
        yield
    finally:
        lock.release()


def _check_rate(host: str, pixels: int, names: dict[str, str]) -> None:
    asked, now = _asked[host], time.monotonic()
    while asked and now - asked[0][0] > _MINUTE:
        asked.popleft()
    if pixels and sum(count for _, count in asked) + pixels > MOST_PIXELS_PER_MINUTE:
        raise RasterError(
            "The limit of requests per minute to {host} for {name} has been reached",
            "go on in a minute",
            **names,
        )


def _request(service: Service, url: QUrl, *, has_login: bool) -> QNetworkRequest:
    request = QNetworkRequest(url)
    policy = QNetworkRequest.RedirectPolicy.ManualRedirectPolicy
    request.setAttribute(QNetworkRequest.Attribute.RedirectPolicyAttribute, policy)
    if service.kind == FILES:
        # An old answer would not fit a store that was replaced.
        control = QNetworkRequest.CacheLoadControl.AlwaysNetwork
        request.setAttribute(QNetworkRequest.Attribute.CacheLoadControlAttribute, control)
    if not has_login:
        return request
    referer = service.parameter("http-header:referer") or service.parameter("referer")
    headers = {
        name.partition(":")[2]: values[0]
        for name, values in service.parameters.items()
        if name.startswith("http-header:") and values[0]
    }
    if referer:
        headers["referer"] = referer
    for name, value in headers.items():
        request.setRawHeader(name.capitalize().encode(), value.encode())
    user = service.parameter("username")
    if user:
        login = base64.b64encode(f"{user}:{service.parameter('password')}".encode())
        request.setRawHeader(b"Authorization", b"Basic " + login)
    return request


def _stopped(names: dict[str, str]) -> RasterError:
    return RasterError("The reading of {name} was stopped", "click again to go on", **names)


def _failed(status: int | None, reason: str, names: dict[str, str]) -> RasterError:
    if status in _NOT_ALLOWED:
        return RasterError(
            "{host} refuses to show {name} (HTTP {status})",
            "check the authentication of the layer in QGIS's Data Source Manager",
            status=status,
            **names,
        )
    if status == _TOO_MANY:
        return RasterError(
            "{host} was asked for too many images of {name} (HTTP {status})",
            "go on in a few minutes",
            status=status,
            **names,
        )
    if (status or 0) >= _FIRST_ERROR:
        return RasterError(
            "{name} cannot be read: {host} answered with an error (HTTP {status})",
            "try again in a moment",
            status=status,
            **names,
        )
    # Qt's reason may repeat the address with the keys of the user.
    reason = re.sub(r"\S+://\S+", "…", reason)
    return RasterError(
        "{name} cannot be read: {host} does not answer ({reason})",
        "try again in a moment, or check the connection, and the proxy in QGIS's options",
        reason=reason,
        **names,
    )
