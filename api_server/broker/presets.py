"""Realms of well-known providers: values that a new realm begins with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from api_server.broker.errors import RealmInvalidError
from api_server.broker.records import RealmConfig

__all__ = ["PRESETS", "config_of"]

_WECHAT_ERRORS: Final[Mapping[str, Any]] = {
    "success": {"path": "errcode", "values": [0]},
    "message_path": "errmsg",
    "default_life": 7200,
}

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    # https://developer.work.weixin.qq.com/document/path/91039; the same token is given until shortly before its end.
    "wechat-work": {
        "url": "https://qyapi.weixin.qq.com/cgi-bin/gettoken",
        "method": "GET",
        "arguments": [
            {"name": "corpid", "place": "url", "value": "$key_1"},
            {"name": "corpsecret", "place": "url", "value": "$key_2"},
        ],
        "refusal": {"path": "errcode", "values": [40001, 40013]},
        **_WECHAT_ERRORS,
    },
    # https://developers.weixin.qq.com/doc/offiaccount/Basic_Information/Get_access_token.html; a new token kills the
    # old one within five minutes.
    "wechat-official-account": {
        "url": "https://api.weixin.qq.com/cgi-bin/token",
        "method": "GET",
        "arguments": [
            {"name": "appid", "place": "url", "value": "$key_1"},
            {"name": "secret", "place": "url", "value": "$key_2"},
            {"name": "grant_type", "place": "url", "value": "client_credential"},
        ],
        "refusal": {"path": "errcode", "values": [40001, 40013, 40125]},
        "overlap": 300,
        **_WECHAT_ERRORS,
    },
    # RFC 6749 section 4.4; the URL is the realm's own.
    "oauth2-client-credentials": {
        "method": "POST",
        "content_type": "form",
        "arguments": [{"name": "grant_type", "place": "body", "value": "client_credentials"}],
        "fields": ["client_id", "client_secret"],
        "client_auth": {"username": "$client_id", "password": "$client_secret"},
        "message_path": "error_description",
    },
}


def config_of(given: Mapping[str, Any], before: RealmConfig | None = None) -> RealmConfig:
    """A realm's configuration, of what was given and what it had, or what its preset says.

    Args:
        given: values by name.
        before: of the realm that is changed.

    Raises:
        RealmInvalidError: there is no such preset, or the values do not make a configuration.
    """
    base: Mapping[str, Any] = {} if before is None else msgspec.to_builtins(before)
    name = given.get("preset", "")
    if name:
        if name not in PRESETS:
            raise RealmInvalidError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}")
        base = PRESETS[name]
    try:
        return msgspec.convert({**base, **given}, RealmConfig)
    except msgspec.ValidationError as exc:
        raise RealmInvalidError(f"config: {exc}") from exc
