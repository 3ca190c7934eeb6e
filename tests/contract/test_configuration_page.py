"""docs/configuration.md names every section and key of broker/settings.py, its default and its bounds, and no other."""

import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import get_args, get_origin

import pytest
from annotated_types import Ge, Le
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from broker.settings import ENVIRONMENT_PREFIX, Settings, load

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
SECTION = re.compile(r"^## `\[+(\w+)\]+`\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| `(\w+)` \| `(\w+)` \| (.*?) \| (.*?) \| (.*?) \|$", re.MULTILINE)
AT_LEAST = re.compile(r"at least `(.+?)`")
AT_MOST = re.compile(r"at most `(.+?)`")
SECTIONS = dict(SECTION.findall(PAGE.read_text()))


def model(section: str) -> type[BaseModel]:
    found = Settings.model_fields[section].annotation
    if several(section):
        (found, _) = get_args(found)
    assert isinstance(found, type)
    assert issubclass(found, BaseModel)
    return found


def several(section: str) -> bool:
    """Whether a section is [[one]] of several; the environment can set none of these."""
    return get_origin(Settings.model_fields[section].annotation) is tuple


def value(text: str) -> object:
    """Read a value as it would stand in the file."""
    return tomllib.loads(f"value = {text}")["value"]


def test_every_section_is_there_in_order() -> None:
    assert list(SECTIONS) == list(Settings.model_fields)


KEYS = [
    (section, key, field) for section in Settings.model_fields for key, field in model(section).model_fields.items()
]


@pytest.mark.parametrize("section", Settings.model_fields)
def test_every_key_is_there_and_no_other(section: str) -> None:
    assert [row[0] for row in ROW.findall(SECTIONS[section])] == list(model(section).model_fields)
    rows = [line for line in SECTIONS[section].splitlines() if line.startswith("| `")]
    assert len(rows) == len(model(section).model_fields), "a row that cannot be read"


@pytest.mark.parametrize(("section", "key", "field"), KEYS, ids=[f"{section}.{key}" for section, key, _ in KEYS])
def test_a_key_is_described_as_it_is(section: str, key: str, field: FieldInfo) -> None:
    (row,) = [row for row in ROW.findall(SECTIONS[section]) if row[0] == key]
    _, environment, default, allowed, meaning = row
    assert environment == ("none" if several(section) else f"{ENVIRONMENT_PREFIX}{section}__{key}".upper())
    if field.default is PydanticUndefined:
        assert default == "required"
    elif field.default is None:
        assert default == "none"
    else:
        adapter = TypeAdapter(field.rebuild_annotation())
        assert adapter.validate_python(value(default.strip("`"))) == field.default
    bounds = [bound.ge for bound in field.metadata if isinstance(bound, Ge)]
    most = [bound.le for bound in field.metadata if isinstance(bound, Le)]
    for said, kept in ((AT_LEAST, bounds), (AT_MOST, most)):
        assert [TypeAdapter(timedelta).validate_python(value(text)) for text in said.findall(allowed)] == kept
    assert field.annotation is not timedelta or bounds, "a duration without a bound: a negative one would load"
    assert meaning


def test_rules_over_several_keys_are_told_where_they_are_kept() -> None:
    kept = sum(len(model(name).__pydantic_decorators__.model_validators) for name in Settings.model_fields)
    kept += len(Settings.__pydantic_decorators__.model_validators)
    assert PAGE.read_text().count("**Together:**") == kept > 0


def test_the_least_configuration_loads_and_holds_nothing_but_what_is_required(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    file = tmp_path / "broker.toml"
    file.write_text(example)
    load(file)
    named = {(section, key) for section, keys in tomllib.loads(example).items() for key in keys}
    assert named == {(section, key) for section, key, field in KEYS if field.is_required() and not several(section)}
