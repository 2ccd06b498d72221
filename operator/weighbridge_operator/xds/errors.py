"""The error shapes of the APIs that callers use, so that each API's own client raises its own exception.

OpenAI: https://platform.openai.com/docs/guides/error-codes, Anthropic: https://docs.anthropic.com/en/api/errors,
Gemini: https://ai.google.dev/gemini-api/docs/troubleshooting. The entrance's script has the same shapes in refusal.lua.
"""

from __future__ import annotations

from typing import assert_never

from weighbridge_operator.core.ir import Format
from weighbridge_operator.xds.build import Json

_ANTHROPIC = {
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_GEMINI = {
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def error(message: str, code: str, status: int = 400, api: Format = "openai", param: str | None = None) -> Json:
    """The body of an error that is answered with `status`."""
    match api:
        case "openai":
            kind = "api_error" if status >= 500 else "invalid_request_error"
            return {"error": {"message": message, "type": kind, "param": param, "code": code}}
        case "anthropic":
            return {"type": "error", "error": {"type": _name(_ANTHROPIC, status, "api_error"), "message": message}}
        case "gemini":
            return {"error": {"code": status, "message": message, "status": _name(_GEMINI, status, "INTERNAL")}}
        case _:
            assert_never(api)


def _name(names: dict[int, str], status: int, otherwise: str) -> str:
    usual = {"api_error": "invalid_request_error", "INTERNAL": "INVALID_ARGUMENT"}[otherwise]
    return names.get(status, otherwise if status >= 500 else usual)
