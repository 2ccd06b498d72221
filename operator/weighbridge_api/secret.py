"""Secret (v1) as standalone reads it from a file: the same document that kubectl would apply."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from weighbridge_api.base import Resource
from weighbridge_api.faults import fault
from weighbridge_api.values import SecretEntry

#: Characters; the API server's own limit for a whole secret is 1 MiB.
_LONGEST = 1_048_576
Many = Field(max_length=20_000)  # entries: callers' keys are one each


def _check_base64(text: str) -> str:
    try:
        base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise fault("is not base64", "encode it, or move it to stringData as plain text", instead="PT09") from None
    return text


Encoded = Annotated[str, Field(max_length=_LONGEST), AfterValidator(_check_base64)]
Plain = Annotated[str, Field(max_length=_LONGEST)]


class Secret(Resource):
    """Values by entry. Never printed."""

    quotable: ClassVar[bool] = False

    api_version: Literal["v1"] = "v1"
    kind: Literal["Secret"] = "Secret"
    type: str = Field(default="Opaque", max_length=253)
    immutable: bool = False
    data: Annotated[Mapping[SecretEntry, Encoded], Many] = Field(default_factory=dict, repr=False)
    string_data: Annotated[Mapping[SecretEntry, Plain], Many] = Field(default_factory=dict, repr=False)

    def entries(self) -> Mapping[str, bytes]:
        """Values by entry name, decoded; stringData wins over data, as in Kubernetes."""
        decoded = {name: base64.b64decode("".join(text.split())) for name, text in self.data.items()}
        plain = {name: text.encode() for name, text in self.string_data.items()}
        return dict(sorted((decoded | plain).items()))
