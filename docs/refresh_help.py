"""Keep the README's help blocks in step with the command line.

A block is what stands between ``<!-- help: mer-store extract -->`` and ``<!-- /help -->``. Without
arguments the blocks are written anew; with ``--check`` a block that differs is an error, and so is a
command that has no block.
"""

import os
import re
import sys
from pathlib import Path

from click.testing import CliRunner

from mer_store.cli.main import COMMANDS, cli

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(
    r"(<!-- help: (?P<command>mer-store[^\n]*?) -->\n).*?(<!-- /help -->)", re.DOTALL
)


def help_text(command: str) -> str:
    """Return what ``COMMAND --help`` prints, at a fixed width."""
    words = command.split()[1:]
    result = CliRunner().invoke(cli, [*words, "--help"], prog_name="mer-store", terminal_width=100)
    if result.exit_code != 0:
        sys.exit(f"README.md: `{command} --help` failed: {result.output}")
    return result.output


def refresh(text: str) -> str:
    """Return the README with its blocks written anew."""
    return BLOCK.sub(
        lambda block: f"{block[1]}```\n{help_text(block['command'])}```\n{block[3]}", text
    )


def main() -> None:
    """Write or check."""
    os.environ["COLUMNS"] = "100"
    text = README.read_text(encoding="utf-8")
    undocumented = [name for name in COMMANDS if f"<!-- help: mer-store {name} -->" not in text]
    if undocumented:
        sys.exit(f"README.md: no help block for {', '.join(undocumented)}")
    fresh = refresh(text)
    if "--check" not in sys.argv[1:]:
        README.write_text(fresh, encoding="utf-8")
    elif fresh != text:
        sys.exit("README.md: help blocks differ from the command line; run `make readme`")


if __name__ == "__main__":
    main()
