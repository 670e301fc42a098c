"""The key in a Secret: read as the API server gives it, refused without repeating it."""

from __future__ import annotations

import base64

import pytest

from sipfleet.dns import Tsig, TsigError

SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="


def data(**texts: str) -> dict[str, str]:
    return {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}


def test_a_secret_is_read_as_the_api_server_gives_it() -> None:
    key = Tsig.of_secret(data(name="sipfleet", algorithm="HMAC-SHA512.", secret=f"{SECRET}\n"))
    assert (key.name, key.algorithm, key.secret) == ("sipfleet", "hmac-sha512", b"secret-secret-secret")
    assert str(key.key.algorithm) == "hmac-sha512."
    assert Tsig.of_secret(data(name="a", secret=SECRET)).algorithm == "hmac-sha256"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (data(name="a"), "the Secret has no secret; it needs name, secret and algorithm"),
        ({}, "the Secret has no name and no secret; it needs name, secret and algorithm"),
        (data(name="a", algorithm="sha256", secret=SECRET), "algorithm 'sha256' given, allowed: hmac-sha224, "),
        (data(name="a", secret="hush-hush!"), "the key secret is no base64 text"),
        (data(name="a", secret=""), "the key secret is no base64 text"),
        (data(name="a..b", secret=SECRET), "key name 'a..b' given, allowed: a domain name"),
        ({"name": "hush-hush!", "secret": "x"}, "name of the Secret is not base64 of plain text"),
        (data(name="ä", secret=SECRET), "name of the Secret is not base64 of plain text"),
    ],
    ids=["no secret", "empty", "algorithm", "no base64", "empty secret", "name", "not encoded", "not ASCII"],
)
def test_what_is_wrong_with_a_secret_is_told_and_the_secret_is_not(given: dict[str, str], told: str) -> None:
    with pytest.raises(TsigError) as caught:
        Tsig.of_secret(given)
    assert told in str(caught.value)
    assert caught.value.reason == "BadTsigSecret"
    assert not any(word in f"{caught.value!r} {caught.value.__cause__}" for word in ("hush", SECRET))


def test_a_key_is_printed_without_its_secret() -> None:
    assert repr(Tsig.of_text("sipfleet", "hmac-sha256", SECRET)) == "Tsig(name='sipfleet', algorithm='hmac-sha256')"
