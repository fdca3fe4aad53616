"""The compose file: by its schema, and what a schema does not know."""

import json
import re
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import yaml

from mer_store.cli.main import COMMANDS, cli

DOCKER = Path(__file__).parents[2] / "docker"
TEXT = (DOCKER / "compose.yaml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
VARIABLE = re.compile(r"\$\{(\w+)(:?[-?][^}]*)?\}")
SCHEMA = "builtin_schemas/vendor/compose-spec.json"


def test_it_is_what_the_compose_specification_says():
    schema = json.loads((files("check_jsonschema") / SCHEMA).read_text())
    jsonschema.validate(COMPOSE, schema)
    broken = {**COMPOSE, "services": {**SERVICES, "s3": {"image": 3}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)


def test_every_variable_has_a_default_or_a_hint_and_is_in_the_example():
    example = set(re.findall(r"^#?(\w+)=", (DOCKER / "env.example").read_text(), re.MULTILINE))
    found = VARIABLE.findall(TEXT)
    assert {name for name, _ in found} == example
    assert all(rest for _, rest in found)
    assert ".env" in (DOCKER / ".gitignore").read_text().split()


def test_keys_come_from_variables():
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if re.search("SECRET|KEY", key):
                assert re.fullmatch(r'"?(\$\{AWS_\w+:-[\w-]+\},?)+"?', str(value)), name


def test_images_are_pinned_or_built_here():
    for name, service in SERVICES.items():
        if "build" in service:
            target = service["build"]["target"]
            assert service["image"] == f"mer-store:{target}", name
            assert f" AS {target}\n" in (DOCKER / "Dockerfile").read_text()
        else:
            assert re.fullmatch(r"[\w/-]+:\d+\.\d+\.\d+", service["image"]), name


def test_media_and_models_are_read_only_and_no_folder_is_made_by_mistake():
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    assert {mount["target"] for mount in mounts} == {
        "/store", "/work", "/media", "/models", "/buckets",
    }  # fmt: skip
    for mount in mounts:
        assert mount["bind"] == {"create_host_path": False}
        if mount["target"] in ("/media", "/models"):
            assert mount["read_only"]
    assert [mount["target"] for mount in SERVICES["serve"]["volumes"]] == ["/store"]
    assert SERVICES["serve"]["volumes"][0]["read_only"]


def test_workers_see_what_the_command_sees():
    for name in ("worker", "worker-gpu"):
        assert SERVICES[name]["volumes"] == SERVICES["mer-store"]["volumes"]


def test_nothing_is_published_beyond_this_machine_and_the_scheduler_not_at_all():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"serve", "s3"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_nobody_is_root_or_may_become_it():
    for name, service in SERVICES.items():
        assert service["user"] == "${USER_ID:-1000}:${GROUP_ID:-1000}", name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_gpus_are_reserved_in_their_profile_alone():
    with_gpus = {
        name for name, service in SERVICES.items() if "resources" in service.get("deploy", {})
    }
    assert with_gpus == {"worker-gpu"}
    assert SERVICES["worker-gpu"]["profiles"] == ["gpu"]
    (device,) = SERVICES["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}


def test_daemons_come_back_and_who_is_waited_for_has_a_health_check():
    for name, service in SERVICES.items():
        one_shot = name in ("mer-store", "bucket")
        assert ("restart" in service) is not one_shot, name
        for awaited, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            assert SERVICES[awaited]["healthcheck"]["test"][0] == "CMD"


def test_variables_of_ours_are_options():
    options = {
        option.envvar
        for name in COMMANDS
        if (command := cli.get_command(None, name))
        for option in command.params
    }
    ours = {
        key
        for service in SERVICES.values()
        for key in service.get("environment", {})
        if key.startswith("MER_STORE_")
    }
    assert ours == {
        "MER_STORE_STORE", "MER_STORE_CLIPS", "MER_STORE_SCHEDULER", "MER_STORE_COMPUTE_DTYPE",
    }  # fmt: skip
    assert ours <= options
