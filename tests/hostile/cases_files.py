"""Names that lead out of the store, and things in place of its files that are no files."""

import os
import pickle
import shutil
import socket
from pathlib import Path

from hostile.scene import HARMLESS, IDS, OPEN, READ, VERIFY, add, case

NAMES = {
    "leads_up": "../../x",
    "is_absolute": "/etc/passwd",
    "has_backslashes": "..\\..\\x",
    "has_a_nul": "18/c/0\0",
    "looks_like_dots": "\u2025/x",
    "is_of_wide_dots": "\uff0e\uff0e/x",
    "has_a_dot_for_a_folder": "18/./c",
    "is_hidden": ".ssh/authorized_keys",
    "is_very_long": "x" * 5000,
    "has_very_many_folders": "a/" * 500 + "b",
    "is_empty": "",
    "is_of_two_forms": "e\u0301",
    "has_a_new_line": "18\n",
    "is_a_drive": "C:/x",
}
for _what, _name in NAMES.items():
    add(f"file_name_{_what}", READ, lambda scene, name=_name: scene.say_file(name))
for _what in ("leads_up", "is_absolute", "has_backslashes", "is_very_long"):
    add(
        f"array_name_{_what}",
        READ,
        lambda scene, name=NAMES[_what]: scene.say(
            "arrays", **{name: {"shape": [1], "dtype": "int8", "chunk_rows": 1}}
        ),
    )


def in_place(where, refused_by, **kinds):
    """Register a case for each kind of thing that stands where a file or folder of the store should."""
    for kind, put in kinds.items():

        def tamper(scene, put=put):
            path = where(scene)
            put(path, scene)

        name = f"{where.__name__}_{kind}"
        add(name, refused_by, tamper)


def is_a_link(path, scene):
    path.symlink_to(scene.outside(f"moved-{scene.path.name}", path))


def to(target):
    def put(path, _):
        remove(path)
        path.symlink_to(target)

    return put


def is_a_loop(path, _):
    remove(path)
    path.symlink_to(path.name)


def is_a_pipe(path, _):
    remove(path)
    os.mkfifo(path)


def is_a_socket(path, _):
    remove(path)
    folder = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{folder}/{path.name}")
    os.close(folder)


def is_a_device(path, _):
    remove(path)
    try:
        os.mknod(path, 0o020644, os.makedev(1, 5))
    except PermissionError:
        path.symlink_to("/dev/zero")  # only root makes devices


def is_a_folder(path, _):
    remove(path)
    path.mkdir()


def is_a_file(path, _):
    remove(path)
    path.write_bytes(b"x")


def remove(path: Path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def shard(scene):
    return scene.shard()


def layer(scene):
    return scene.part / "18"


def part(scene):
    return scene.part


def record(scene):
    return scene.commit


def spec(scene):
    return scene.spec


def store_file(scene):
    return scene.path / "store.json"


def array_metadata(scene):
    return scene.part / "18" / "zarr.json"


def part_metadata(scene):
    return scene.part / "zarr.json"


def features(scene):
    return scene.path / "features"


def modality(scene):
    return scene.path / "features" / "audio"


def feature_set(scene):
    return scene.set_path


def parts(scene):
    return scene.set_path / "parts"


def commits(scene):
    return scene.set_path / "commits"


def tmp(scene):
    return scene.set_path / "tmp"


_ZERO, _PASSWORDS = to("/dev/zero"), to("/etc/passwd")
_SPECIAL = {"is_a_link": is_a_link, "is_a_pipe": is_a_pipe, "is_dev_zero": _ZERO}
in_place(
    shard, READ, **_SPECIAL, is_a_loop=is_a_loop, is_a_socket=is_a_socket, is_a_device=is_a_device,
    is_a_folder=is_a_folder, is_the_passwords=_PASSWORDS,
)  # fmt: skip
in_place(layer, READ, is_a_link=is_a_link, is_a_file=is_a_file)
in_place(part, READ, is_a_link=is_a_link, is_the_root=to("/"), is_a_file=is_a_file)
in_place(
    record, READ, **_SPECIAL, is_a_folder=is_a_folder, is_a_device=is_a_device, is_a_loop=is_a_loop
)
in_place(spec, OPEN, **_SPECIAL, is_a_folder=is_a_folder)
in_place(store_file, OPEN, **_SPECIAL, is_a_folder=is_a_folder)
in_place(array_metadata, VERIFY, **_SPECIAL)
in_place(part_metadata, VERIFY, **_SPECIAL)
in_place(features, OPEN, is_a_link=is_a_link, is_a_file=is_a_file)
in_place(modality, OPEN, is_a_link=is_a_link, is_a_loop=is_a_loop)
in_place(feature_set, OPEN, is_a_link=is_a_link)
in_place(parts, OPEN, is_a_link=is_a_link, is_a_file=is_a_file)
in_place(commits, OPEN, is_a_link=is_a_link, is_a_file=is_a_file)
in_place(tmp, OPEN, is_a_link=is_a_link)


for _name in (".cache", "quarantine", "features/audio/*/quarantine", "features/audio/*/withdrawn"):

    def _linked(scene, name=_name):
        top, slash, last = name.rpartition("/")
        (folder,) = scene.path.glob(top) if slash else [scene.path]
        (folder / last).symlink_to(scene.guard)

    add(f"{_name.replace('features/audio/*/', 'sets_')}_is_a_link", OPEN, _linked)


class Payload:
    """Makes a file named ``marker`` where it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.write_text, (self.marker, "code ran")


V2_ARRAY = (
    '{"zarr_format": 2, "shape": [30, 4], "chunks": [30, 4], "dtype": "|O", "compressor": null, '
    '"fill_value": null, "order": "C", "filters": [{"id": "pickle", "protocol": 5}]}'
)


@case(VERIFY)
def part_has_a_v2_group_with_a_pickle(scene):
    (scene.part / ".zgroup").write_text('{"zarr_format": 2}')
    (scene.part / "evil").mkdir()
    (scene.part / "evil" / ".zarray").write_text(V2_ARRAY)
    (scene.part / "evil" / "0.0").write_bytes(pickle.dumps(Payload(scene.guard / "marker")))


@case(READ)
def layer_is_a_v2_array_with_a_pickle(scene):
    scene.foreign({".zarray": V2_ARRAY.encode()})
    (scene.part / "18" / "zarr.json").unlink()
    (scene.part / "18" / "0.0").write_bytes(pickle.dumps(Payload(scene.guard / "marker")))
    scene.settle()


@case(VERIFY)
def stranger_with_a_name_that_acts_on_terminals(scene):
    (scene.part / "\x1b]0;x\x07").write_bytes(b"")
    Path(os.fsdecode(os.fsencode(scene.part) + b"/\xff\xfe")).write_bytes(b"")


@case(HARMLESS)
def orphan_with_a_pipe(scene):
    """A part without a record, as a sweep meets it."""
    orphan = scene.set_path / "parts" / ("0" * 32)
    orphan.mkdir()
    os.mkfifo(orphan / "zarr.json")


@case(HARMLESS)
def orphan_with_a_record_of_deep_nesting(scene):
    orphan = scene.set_path / "parts" / ("1" * 32)
    orphan.mkdir()
    (orphan / "zarr.json").write_bytes(b'{"attributes":' + b"[" * 100_000)


@case(VERIFY)
def strangers_beside_commits(scene):
    (scene.set_path / "commits" / "x.json").write_text("{")
    (scene.set_path / "commits" / f".{IDS[0]}").symlink_to(scene.guard)
    (scene.set_path / "tmp" / "host-1-x").symlink_to(scene.guard)
