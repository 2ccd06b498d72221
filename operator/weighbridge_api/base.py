"""What all objects share: metadata, strictness, and the two ways in.

From a file an unknown key is an error, because a typing error must not pass for a default. From the cluster unknown
keys are dropped, because an older operator has to survive a newer CRD. Attributes are snake_case here and camelCase in
YAML. Only `spec` and what identifies an object is kept: `status` and bookkeeping are tolerated on input and left out,
so that two objects that ask for the same are equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from weighbridge_api.values import LabelKey, LabelValue, Namespace, ObjectName

GROUP = "weighbridge.dev"
VERSION = "v1alpha1"
API_VERSION: Literal["weighbridge.dev/v1alpha1"] = "weighbridge.dev/v1alpha1"

ModelType = Literal["text", "embedding", "image", "audio", "rerank"]

#: What the API server or kubectl adds to metadata; it says nothing about what the user wants.
_BOOKKEEPING = frozenset(
    {
        "annotations",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
    }
)


class Shape(BaseModel):
    """A part of an object: frozen, camelCase in YAML, no value of another type silently converted."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )


def sort_mapping(value: Mapping[Any, Any]) -> Mapping[Any, Any]:
    return dict(sorted(value.items()))


Labels = Annotated[Mapping[LabelKey, LabelValue], Field(max_length=64), AfterValidator(sort_mapping)]


class Metadata(Shape):
    name: ObjectName
    namespace: Namespace = "default"
    labels: Labels = Field(default_factory=dict)
    generation: int = 0
    uid: str = Field(default="", max_length=64)
    creation_timestamp: str = Field(default="", max_length=64)

    @model_validator(mode="before")
    @classmethod
    def _drop_bookkeeping(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        # `creationTimestamp: null` and empty labels are what kubectl prints.
        return {key: value for key, value in data.items() if key not in _BOOKKEEPING and value is not None}


class Resource(Shape):
    """A whole object. Subclasses add apiVersion, kind and spec."""

    #: False for objects whose values must not be repeated in a message.
    quotable: ClassVar[bool] = True

    metadata: Metadata

    @model_validator(mode="before")
    @classmethod
    def _drop_status(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if key != "status"} if isinstance(data, dict) else data

    @classmethod
    def from_file(cls, data: object) -> Self:
        """Strict: an unknown key is an error. Raises pydantic.ValidationError (see `faults.read_faults`)."""
        return cls.model_validate(data, by_alias=True, by_name=False)

    @classmethod
    def from_cluster(cls, data: object) -> Self:
        """Lenient: unknown keys are dropped. Raises pydantic.ValidationError."""
        return cls.model_validate(data, by_alias=True, by_name=False, extra="ignore")


class SecretRef(Shape):
    """A whole secret of the same namespace."""

    name: ObjectName
    """Name of the secret."""
