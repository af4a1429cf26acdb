"""A client that is not there is named, and fails where every client was promised."""

import pytest

from clients import REQUIRE, need

SKIPPED = pytest.skip.Exception


def test_missing_client_is_skipped_by_name(monkeypatch):
    monkeypatch.delenv(REQUIRE, raising=False)
    with pytest.raises(SKIPPED, match="client nosuchclient is not installed"):
        need("nosuchclient")


def test_missing_client_fails_where_clients_are_required(monkeypatch):
    monkeypatch.setenv(REQUIRE, "1")
    with pytest.raises(ImportError, match="nosuchclient"):
        need("nosuchclient")
