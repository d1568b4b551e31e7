"""What models have in common: they refuse fields that they do not know, and take no type for another."""

from typing import Annotated

import pydantic


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True, protected_namespaces=())


Quantity = int | Annotated[str, pydantic.Field(pattern=r"^[0-9.]+([KMGTPE]i?|m)?$")]
Name = Annotated[str, pydantic.Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]


class LabelSelector(Strict):
    matchLabels: dict[str, str] | None = None


class ObjectMeta(Strict):
    name: Name | None = None
    namespace: Name | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
