"""Settings are read once, and one line names a wrong setting."""

from __future__ import annotations

from datetime import timedelta

import pytest

from workers.runtime.settings import SettingError, Settings

COMPLETE = {
    "Q2O_DATABASE_URL": "postgresql+psycopg://q2o@localhost/q2o",
    "Q2O_KAFKA": "localhost:9092",
    "Q2O_ENGINE_URL": "http://localhost:8080/engine-rest",
    "Q2O_ENGINE_USER": "worker",
    "Q2O_ENGINE_PASSWORD": "secret",
    "Q2O_JWT_SECRET": "x" * 32,
    "Q2O_PROVIDER_URL": "http://localhost:1",
    "Q2O_PROVIDER_TOKEN": "token",
    "Q2O_CALLBACK_SECRET": "whsec_x",
}


def test_a_setting_has_a_default_only_when_the_default_is_safe() -> None:
    settings = Settings.from_environment(COMPLETE)

    assert (settings.http_host, settings.http_port, settings.health_port) == ("127.0.0.1", 8080, None)
    assert settings.lock_duration == timedelta(seconds=20)


@pytest.mark.parametrize("name", sorted(COMPLETE))
def test_a_missing_setting_is_named(name: str) -> None:
    with pytest.raises(SettingError, match=f"{name} is not set"):
        Settings.from_environment({key: value for key, value in COMPLETE.items() if key != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Q2O_HTTP_PORT", "http"),
        ("Q2O_HTTP_PORT", "-1"),
        ("Q2O_HEALTH_PORT", "nan"),
        ("Q2O_LOCK_DURATION_SECONDS", "20s"),
        ("Q2O_START_SAFE_INTERVAL_SECONDS", "inf"),
    ],
)
def test_a_setting_that_is_not_a_number_is_named_with_its_value(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"{name}={value} is not a number"):
        Settings.from_environment(COMPLETE | {name: value})


def test_a_short_token_secret_is_refused() -> None:
    with pytest.raises(SettingError, match="Q2O_JWT_SECRET is too short"):
        Settings.from_environment(COMPLETE | {"Q2O_JWT_SECRET": "guessable"})


def test_topics_are_a_list_and_an_empty_list_means_all() -> None:
    assert Settings.from_environment(COMPLETE).topics == frozenset()
    assert Settings.from_environment(COMPLETE | {"Q2O_TOPICS": "order.decompose,order.evaluate"}).topics == {
        "order.decompose",
        "order.evaluate",
    }
