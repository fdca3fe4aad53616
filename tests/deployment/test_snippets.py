"""Every command of docs/deployment.md is one that exists, with options that exist."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest
import yaml
from distributed.cli.dask_scheduler import main as dask_scheduler
from distributed.cli.dask_worker import main as dask_worker

from mer_store.cli.main import cli

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "deployment.md").read_text()
SNIPPETS = re.findall(r"^```bash\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
INLINE = [" ".join(words.split()) for words in re.findall(r"`((?:mer-store|dask) [^`]+)`", TEXT)]
OURS = ("mer-store", "mer-store:cuda", "mer-store:cpu", "dask")
PROGRAMS = {"scheduler": dask_scheduler, "worker": dask_worker}


@pytest.fixture(autouse=True)
def folders_need_not_exist(monkeypatch):
    monkeypatch.setattr(click.Path, "convert", lambda self, value, param, ctx: value)


def commands(snippet):
    """Yield the words of each command of ours in a snippet, without what the shell does."""
    joined = re.sub(r"\\\n\s*", " ", snippet)
    for line in joined.splitlines():
        words = shlex.split(line, comments=True)
        for start, word in enumerate(words):
            if word in OURS and words[start - 1] != "-t":
                end = next((i for i in range(start, len(words)) if words[i] in "&|;"), len(words))
                yield [word, *words[start + 1 : end]]


def parse(words):
    """Parse a command as far as click does before it calls it; return its name.

    One that is named without any option (`mer-store extract`) is looked up only.
    """
    if words[0] == "dask":
        command, rest = PROGRAMS[words[1]], words[2:]
    else:
        command, rest = cli, words[1:]
    context = click.Context(command, info_name=words[0])
    while isinstance(command, click.Group):
        name, *rest = rest
        found = command.get_command(context, name)
        assert found is not None, f"{' '.join(words)}: no command {name}"
        command, context = found, click.Context(found, info_name=name, parent=context)
    if rest not in ([], ["--help"]):
        command.make_context(command.name, list(rest), parent=context.parent)
    return command.name


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_it_is_a_shell_script(snippet):
    result = subprocess.run(
        [shutil.which("bash"), "-n"], input=snippet, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_commands_and_options_exist():
    found = [words for snippet in SNIPPETS for words in commands(snippet)]
    assert ["mer-store:cuda", "extract"] in [words[:2] for words in found]
    parsed = [parse(words) for words in found]
    assert {"init", "mer2024", "extract", "status", "add", "doctor", "push", "pull", "clone", "serve",
            "verify", "train"} <= set(parsed)  # fmt: skip
    assert parsed.count("extract") >= 6


@pytest.mark.parametrize("line", INLINE)
def test_commands_in_the_text_exist(line):
    parse([word.replace("ADDRESS", "tcp://head:8786") for word in shlex.split(line)])


def test_a_command_that_does_not_exist_is_noticed():
    with pytest.raises(click.NoSuchOption):
        parse("mer-store extract --modality audio --no-such-option".split())
    with pytest.raises(AssertionError, match="no command extrct"):
        parse(["mer-store", "extrct"])


def test_files_and_targets_that_are_named_exist():
    for path in re.findall(r"docker/[\w.]+\w", TEXT):
        assert (ROOT / path).exists(), path
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    for target in re.findall(r"--target (\w+)", TEXT):
        assert f" AS {target}\n" in dockerfile


def test_profiles_and_services_that_are_named_exist():
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    profiles = {profile for service in services.values() for profile in service.get("profiles", [])}
    named = set(re.findall(r"--profile (\w+)", TEXT))
    assert named
    assert named <= profiles
    for profile in profiles - {"tools"}:
        assert f"| `{profile}` |" in TEXT
    for service in set(services) - {"mer-store"}:
        assert f"`{service}`" in TEXT, service


def test_links_lead_somewhere():
    headings = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^##+ (.+)$", TEXT, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= headings
