"""A Dockerfile, read: its stages, their instructions and what they copy."""

import json
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Instruction:
    """One instruction, its continued lines joined."""

    name: str
    words: str

    @property
    def is_exec_form(self):
        """Whether the words are a JSON list: no shell stands between a signal and the program."""
        try:
            return isinstance(json.loads(self.words), list)
        except ValueError:
            return False


@dataclass
class Stage:
    """What stands between two FROM."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def words(self, name):
        """Return the words of every instruction of that name."""
        return [one.words for one in self.instructions if one.name == name]


def read_stages(text):
    """Return {name: stage} of a Dockerfile, in its order."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    stages = {}
    for line in filter(str.strip, joined.splitlines()):
        name, _, words = line.partition(" ")
        if name == "FROM":
            base, _, alias = words.partition(" AS ")
            stage = stages[alias] = Stage(base, alias)
        else:
            stage.instructions.append(Instruction(name, words.strip()))
    return stages


def chain(stages, target):
    """Return the stages that the image of `target` is made of, from its base image up."""
    stage = stages[target]
    return [*(chain(stages, stage.base) if stage.base in stages else []), stage]


def is_sent(path, rules):
    """Tell whether `path` is in the build context: the last rule that fits it or a folder above."""
    sent = True
    folders = ["/".join(path.split("/")[:n]) for n in range(1, path.count("/") + 2)]
    for rule in rules:
        pattern = rule.removeprefix("!")
        patterns = [pattern, pattern.removeprefix("**/"), pattern.replace("**/", "*/")]
        if any(fnmatchcase(folder, one) for folder in folders for one in patterns):
            sent = rule.startswith("!")
    return sent
