"""The compose file follows the configuration files and the pinned build; tests/containers start it."""

import re
from pathlib import Path

import pytest

from deploy.spire.build import VERSION

HERE = Path(__file__).resolve().parents[2] / "deploy" / "spire"
TEXT = (HERE / "compose.yaml").read_text()
SERVICES = dict(re.findall(r"^  (server|agent):\n((?:    .*\n|\n)+)", TEXT, re.MULTILINE))


def test_the_images_are_of_the_version_that_is_built() -> None:
    assert re.findall(r"^\tgithub.com/spiffe/spire v(\S+)", (HERE / "go.mod").read_text(), re.MULTILINE) == [VERSION]
    images = re.findall(r"image: (\S+)", TEXT)
    assert images == [f"${{SPIRE_IMAGES:-ghcr.io/spiffe}}/spire-{each}:{VERSION}" for each in ("server", "agent")]


@pytest.mark.parametrize("role", ["server", "agent"])
def test_a_container_has_the_configuration_file_and_every_value_that_it_leaves_open(role: str) -> None:
    mounted, place = re.findall(r"- \./(\S+?):(\S+?):ro", SERVICES[role])[0]
    assert mounted == f"{role}.conf"
    assert f"command: [-config, {place}, -expandEnv]" in SERVICES[role]
    left_open = set(re.findall(r"\$\{(\w+)\}", (HERE / mounted).read_text()))
    given = re.findall(r"^      ([A-Z_]+):", SERVICES[role], re.MULTILINE)
    assert sorted(given) == sorted(left_open)


def test_nothing_else_of_this_folder_is_mounted() -> None:
    assert len(re.findall(r"- \./", TEXT)) == len(SERVICES) == 2
