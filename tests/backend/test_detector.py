"""The server's version is detected once, and again after a sign of an upgrade."""

from __future__ import annotations

import threading

from fake_chatui import FakeChatUi
from h2o_client import H2oSession
from h2o_client.dialects import detection
from h2o_client.timeouts import Timeouts
from h2o_client.transport.call import Call
from local_service import PATIENCE
from scripted import Exchange

PATH = detection.first_request().path


def test_a_sign_of_an_upgrade_during_a_detection_makes_the_next_call_detect_again() -> None:
    detections: list[str] = []

    def upgrade(exchange: Exchange) -> bool:
        if exchange.request.path == PATH:
            detections.append(exchange.request.path)
            if len(detections) == 2:
                session._backend.detector.mark_stale()
        return False

    with FakeChatUi("0.10.0", before=upgrade) as server, H2oSession(server.url) as session:
        detector = session._backend.detector
        detector.detect()
        detector.detect()
        assert len(detections) == 1
        detector.mark_stale()
        for _ in range(3):
            detector.detect()
        assert len(detections) == 3


def test_after_a_failed_detection_the_next_call_detects_again() -> None:
    fails = threading.Event()

    def fail(exchange: Exchange) -> bool:
        if not fails.is_set():
            return False
        exchange.reset()
        return True

    with (
        FakeChatUi("0.10.0", before=fail) as server,
        H2oSession(server.url, max_retries=0) as session,
    ):
        detector = session._backend.detector
        detector.detect()
        detector.mark_stale()
        fails.set()
        assert detector.is_upgraded_since(detector.known, Call(Timeouts())) is False
        fails.clear()
        count = len(server.requests)
        detector.detect()
        assert len(server.requests) == count + 1


def test_concurrent_threads_detect_a_server_once() -> None:
    detections: list[str] = []
    held, go_on = threading.Event(), threading.Event()

    def hold(exchange: Exchange) -> bool:
        if exchange.request.path == PATH:
            detections.append(exchange.request.path)
            held.set()
            exchange.until(go_on)
        return False

    with FakeChatUi("0.10.0", before=hold) as server, H2oSession(server.url) as session:
        threads = [threading.Thread(target=session.models) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert held.wait(PATIENCE)
        go_on.set()
        for thread in threads:
            thread.join()
    assert len(detections) == 1
