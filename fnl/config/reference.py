"""The configuration as its reference: tables in Markdown, and the defaults as Flower wants them."""

from __future__ import annotations

import json
from typing import Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator
from pydantic.fields import FieldInfo

from fnl.config.groups import Config
from fnl.config.kinds import Group, Scalar

_RELATIONS = {Gt: ("gt", ">"), Ge: ("ge", "≥"), Lt: ("lt", "<"), Le: ("le", "≤")}
_KINDS = {bool: "`true`, `false`", int: "whole number", float: "number", str: "text"}


def table_of(group: str) -> str:
    """Return the keys of a group as a table in Markdown: default, values, meaning."""
    rows = ["| key | default | values | meaning |", "|---|---|---|---|"]
    for field in _group(group).model_fields.values():
        default = _toml(field.default).strip('"')
        shown = f"`{default}`" if default else "empty"
        cells = (f"`{group}.{field.alias}`", shown, _values(field), _meaning(field))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def defaults_toml() -> str:
    """Return the defaults as the tables of `pyproject.toml`."""
    tables = []
    for group in Config.model_fields:
        fields = _group(group).model_fields.values()
        lines = (f"{field.alias} = {_toml(field.default)}" for field in fields)
        tables.append("\n".join((f"[tool.flwr.app.config.{group}]", *lines)))
    return "\n\n".join(tables)


def _group(name: str) -> type[Group]:
    return type(getattr(Config(), name))


def _toml(value: Scalar) -> str:
    return json.dumps(value, ensure_ascii=False)


def _values(field: FieldInfo) -> str:
    """Return what a key takes, in words."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(field.annotation))
    if any(isinstance(part, AfterValidator) for part in field.metadata):
        return "name, or `module:function`"
    kind = next(words for kind, words in _KINDS.items() if field.annotation is kind)
    limits = [
        f"{sign} {getattr(limit, attribute)}"
        for limit in field.metadata
        for relation, (attribute, sign) in _RELATIONS.items()
        if isinstance(limit, relation)
    ]
    return " ".join((kind, ", ".join(limits))).strip().replace(str(2**63), "2^63")


def _meaning(field: FieldInfo) -> str:
    text = " ".join((field.description or "").split()).removesuffix(".")
    return text.replace("|", r"\|")
