"""Messages in the message bar of QGIS."""

from __future__ import annotations

import pytest
from qgis.core import Qgis

from geosam_es.errors import RasterError
from geosam_es.qgis_support import messages
from geosam_es.qgis_support.messages import Messages
from tests.qgis.support import Interface, wait_until


def test_a_message_expires_below_another_one_too(iface: Interface, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "_SHOWN_SECONDS", 1)
    own = Messages(iface.bar, lambda _error: None)
    own.error(RasterError("lost"))
    own.report("done", "Undo", lambda: None)
    iface.bar.pushMessage("QGIS", "stays", Qgis.MessageLevel.Info, 0)
    assert len(iface.messages()) == 3
    wait_until(lambda: iface.messages() == ["stays"], 5)


def test_a_repeated_error_is_shown_once_but_again_after_it_was_closed(iface: Interface) -> None:
    own = Messages(iface.bar, lambda _error: None)
    own.error(RasterError("lost"))
    own.error(RasterError("lost"))
    assert iface.messages() == ["lost"]
    iface.bar.clearWidgets()
    own.error(RasterError("lost"))
    assert iface.messages() == ["lost"]
