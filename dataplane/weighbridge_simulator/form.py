"""The fields of a form (multipart/form-data), as a forgiving server reads them. Pure."""

from __future__ import annotations

import re

from weighbridge_simulator.ask import RefusalError

_PARTS_MAXIMUM = 1000
_NAME = re.compile(rb'[; ]name="?([^";\r\n]*)"?', re.IGNORECASE)


def read_form(body: bytes, content_type: bytes) -> dict[str, bytes]:
    """Each field's last value, a file's bytes too. RefusalError if it is no form."""
    found = re.fullmatch(rb'multipart/form-data\s*;.*?boundary="?([^";]+)"?.*', content_type, re.IGNORECASE)
    if found is None:
        raise RefusalError(400, "The content type must be multipart/form-data with a boundary.")
    parts = body.split(b"--" + found[1])
    if len(parts) < 2 or not parts[-1].startswith(b"--") or len(parts) > _PARTS_MAXIMUM:
        raise RefusalError(400, "The form has no end, or too many parts.")
    fields: dict[str, bytes] = {}
    for part in parts[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if name is None:
            raise RefusalError(400, "A part of the form has no name.")
        fields[name[1].decode("latin-1")] = content.removesuffix(b"\r\n")
    return fields
