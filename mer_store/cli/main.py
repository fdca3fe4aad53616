"""The ``mer-store`` command: a table of commands, each loaded when it is called."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Never

import click

from mer_store import __version__
from mer_store.cli.settings import name_variables, read_defaults
from mer_store.errors import MerStoreError, shown

EXIT_INTERRUPTED = 130

COMMANDS = {
    "init": "mer_store.cli.init:init",
    "clips": "mer_store.cli.clips:clips",
    "extract": "mer_store.cli.extract:extract",
    "worker": "mer_store.cli.worker:worker",
    "train": "mer_store.cli.train:train",
    "predict": "mer_store.cli.predict:predict",
    "report": "mer_store.cli.report:report",
    "table2": "mer_store.cli.table2:table2",
    "status": "mer_store.cli.status:status",
    "show": "mer_store.cli.show:show",
    "push": "mer_store.cli.push:push",
    "pull": "mer_store.cli.pull:pull",
    "clone": "mer_store.cli.clone:clone",
    "remote": "mer_store.cli.remote:remote",
    "verify": "mer_store.cli.verify:verify",
    "repair": "mer_store.cli.repair:repair",
    "compact": "mer_store.cli.compact:compact",
    "prune": "mer_store.cli.prune:prune",
    "serve": "mer_store.cli.serve:serve",
    "export": "mer_store.cli.export:export",
    "import": "mer_store.cli.import_:import_",
    "demo": "mer_store.cli.demo:demo",
}


class LazyGroup(click.Group):
    """A group whose commands are imported by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names in the order of the table: the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command's module."""
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        name_variables(command)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mer-store")
@click.pass_context
def cli(context: click.Context) -> None:
    """Extract each clip once, keep the embeddings of every layer, train from the cache.

    Defaults come from mer-store.toml in the working folder, then MER_STORE_* variables
    (MER_STORE_STORE, MER_STORE_CLIPS, MER_STORE_MODEL, ...), then options.
    """
    command = cli.get_command(context, context.invoked_subcommand or "")
    if command is not None:
        context.default_map = {command.name or "": read_defaults(command, list(COMMANDS))}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and exit: 0 done, 1 some clips failed or an error, 2 wrong use, 130 interrupted."""
    try:
        code = cli.main(arguments, prog_name="mer-store", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        code = EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except MerStoreError as error:
        click.echo(f"error: {shown(str(error))}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # `mer-store status | head`
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        click.echo(f"error: {shown(str(error))}", err=True)
        sys.exit(1)
    if code == EXIT_INTERRUPTED and arguments is None:
        _leave()
    sys.exit(code or 0)


def _leave() -> Never:
    """Exit now: who pressed Ctrl-C does not wait for threads that still decode or compute.

    What they do is dropped; what is committed is safe, and what they leave behind is swept by the next run.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_INTERRUPTED)
