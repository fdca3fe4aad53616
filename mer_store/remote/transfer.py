"""Moving parts between two stores: several at once, each whole or not at all, stoppable, resumable."""

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from mer_store.clips.hashed_ids import IdKey
from mer_store.errors import MerStoreError, StoreFullError, UsageError
from mer_store.remote.address import Address
from mer_store.remote.bucket import Bucket
from mer_store.remote.fetch import Fetcher
from mer_store.remote.hub import HubSender
from mer_store.remote.layout import Listing
from mer_store.remote.meter import Listener, Meter, Silent, StoppedError
from mer_store.remote.part import RemotePart
from mer_store.remote.pick import pick
from mer_store.remote.plan import Plan, Step, make_plan
from mer_store.remote.receive import Receiver
from mer_store.remote.renamed import renamed
from mer_store.remote.room import require_room
from mer_store.remote.selection import Selection
from mer_store.remote.send import Sender
from mer_store.remote.side import LocalSide, RemoteSide, Side, open_side
from mer_store.remote.span_reader import Batch
from mer_store.remote.subset import Subset, layer_subset
from mer_store.store.layout import Folders
from mer_store.store.store import Store

#: Parts, files of parts, and requests for pieces of files that are on their way at once.
N_PARTS, N_FILES, N_REQUESTS = 8, 8, 24


@dataclass(frozen=True)
class Moved:
    """What a transfer did."""

    n_parts: int
    n_clips: int
    n_bytes: int
    """Over the wire, checksums and records not counted."""
    n_bytes_kept: int
    """That an interrupted transfer had moved before."""
    problems: tuple[str, ...]
    """Parts that could not be moved, and why. All others were."""


class Transfer:
    """The threads of one transfer, and what they count. A context manager."""

    def __init__(self, listener: Listener | None = None) -> None:
        self.meter = Meter(listener or Silent())
        self._stack = ExitStack()
        pools = [
            self._stack.enter_context(ThreadPoolExecutor(n, thread_name_prefix=name))
            for n, name in ((N_REQUESTS, "request"), (N_FILES, "file"), (N_PARTS, "part"))
        ]
        self.requests, self.files, self.parts = pools
        self._scratch = Path(self._stack.enter_context(TemporaryDirectory(prefix="mer-store-")))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.meter.stop()
        for pool in (self.parts, self.files, self.requests):
            pool.shutdown(wait=False, cancel_futures=True)
        self._stack.close()

    # ---- the two directions ------------------------------------------------------------------------

    def pull(self, store: Store, address: Address, selection: Selection) -> tuple[Plan, Moved]:
        """Bring into `store` what is at `address` and not here.

        Raises
        ------
        UsageError
            There is no store at `address`, nothing there fits, or the disk has no room.
        """
        side = open_side(address)
        own = {(one.spec.modality, one.name): one for one in store.feature_sets()}
        here = LocalSide(store).listing()
        plan = make_plan(side, here, selection, self.requests, own)
        require_room(store.path, plan.n_bytes)
        return plan, self._receive(store, side, plan)

    def push(
        self,
        store: Store,
        address: Address,
        selection: Selection,
        key: IdKey | None = None,
        *,
        again: bool = False,
    ) -> tuple[Plan, Moved]:
        """Bring to `address` what is in `store` and not there; makes a store where none is.

        With a `key`, clips have hashed names there. With `again`, parts that are there are sent, too, over
        what may be damaged.

        Raises
        ------
        UsageError
            The remote can only be read.
        """
        if address.is_read_only:
            raise UsageError(
                f"{address}: {address.protocol} can only be read; push to the bucket behind it"
            )
        source = LocalSide(store)
        if address.is_folder and again:
            raise UsageError(
                f"{address}: a folder is not pushed to again: run `mer-store repair --store {address}`, then "
                f"push what is missing then"
            )
        if address.is_folder:
            there = Store.create(address.folder)
            here = LocalSide(there).listing()
            plan = make_plan(source, here, selection, self.requests, id_key=key)
            require_room(there.path, plan.n_bytes)
            return plan, self._receive(there, source, plan, key)
        bucket = Bucket(address)
        remote = RemoteSide(bucket)
        listing = remote.listing() if remote.is_there() else {}
        kind = HubSender if address.protocol == "hf" else Sender
        sender = kind(bucket, self.files, self.meter, again)
        plan = make_plan(source, {} if again else listing, selection, self.requests, id_key=key)
        return plan, self._send(sender, source, plan, listing, key)

    # ---- how ---------------------------------------------------------------------------------------

    def _receive(self, store: Store, side: Side, plan: Plan, id_key: IdKey | None = None) -> Moved:
        sets = {key: store.ensure(plan.specs[key]) for key in {step.key for step in plan.steps}}

        def move(step: Step) -> None:
            fetcher = Fetcher(side, step.key, self.requests, self.meter)
            feature_set = sets[step.key]
            if step.clip_ids is not None:
                folder, batch = self._scratch / step.record.part_id, Batch(self.requests)
                part = RemotePart(fetcher, step.record, batch, folder, may_fetch_whole=False)
                pick(part, feature_set, step.layers or step.record.layers, step.clip_ids)
                self.meter.clips(step.n_clips)
                return
            subset = self._subset(fetcher, step, id_key)
            receiver = Receiver(Folders(feature_set.path), fetcher, self.files, self.meter)
            receiver.receive(subset.record, subset.source, subset.made)

        return self._run(plan, move)

    def _subset(self, fetcher: Fetcher, step: Step, id_key: IdKey | None) -> Subset:
        """Return the part that is to be made of a step's."""
        subset = Subset(step.record, step.record, {})
        if step.layers is not None:
            folder = self._scratch / step.record.part_id
            part = RemotePart(fetcher, step.record, Batch(self.requests), folder)
            subset = layer_subset(step.record, step.layers, part.checks())
        return renamed(subset, id_key) if id_key else subset

    def _send(
        self, sender: Sender, source: Side, plan: Plan, there: Listing, id_key: IdKey | None
    ) -> Moved:
        for key in sorted({step.key for step in plan.steps} | (plan.specs.keys() - there.keys())):
            sender.prepare(key, plan.specs[key])

        def move(step: Step) -> None:
            fetcher = Fetcher(source, step.key, self.requests, self.meter)
            subset = self._subset(fetcher, step, id_key)
            sender.send(step.key, subset, source)

        moved = self._run(plan, move)
        sender.finish()  # with nothing to move, too: a push that was killed may have left it undone
        return moved

    def _run(self, plan: Plan, move: Callable[[Step], None]) -> Moved:
        """Move all steps, several at once; one that fails does not keep the others."""
        self.meter.listener.expect(plan.n_bytes, plan.n_clips)
        problems = list(plan.problems)
        waiting: dict[Future[None], Step] = {
            self.parts.submit(move, step): step for step in plan.steps
        }
        n_parts = n_clips = 0
        while waiting:
            done, _ = wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in done:
                step = waiting.pop(future)
                try:
                    future.result()
                except StoppedError:
                    raise
                except (MerStoreError, OSError) as error:
                    if isinstance(error, UsageError) or _is_fatal(error):
                        raise
                    problems.append(str(error))
                    self.meter.listener.say(f"error: {error}")
                else:
                    n_parts, n_clips = n_parts + 1, n_clips + step.n_clips
        return Moved(
            n_parts, n_clips, self.meter.n_bytes_moved, self.meter.n_bytes_kept, tuple(problems)
        )


def _is_fatal(error: BaseException) -> bool:
    """Tell whether all other parts would fail for the same reason."""
    return isinstance(error, StoreFullError)
