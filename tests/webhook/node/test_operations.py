# SPDX-License-Identifier: Apache-2.0
"""One thing at a time for each volume, to its end, whoever still waits for it."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.webhook.node.requests import publication, target
from tests.webhook.node.volumes_double import VolumesDouble
from webhook.exceptions import IssuanceError
from webhook.node.folder_placement import FolderPlacement
from webhook.node.operations import ConflictingPublication, InterruptedOperation, Operations
from webhook.node.volume_store import VolumeStore

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

DEADLINE = 10


@pytest.fixture
def kubelet(tmp_path: Path) -> Path:
    folder = tmp_path / "kubelet"
    folder.mkdir()
    return folder


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE):
            await scenario()

    asyncio.run(bounded())


def volumes(kubelet: Path) -> VolumesDouble:
    store = VolumeStore(kubelet.parent / "state", FolderPlacement(kubelet))
    store.open()
    return VolumesDouble(store)


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - turns of the loop, not a time
        await asyncio.sleep(0)


def assert_nothing_left(kubelet: Path) -> None:
    assert [*(kubelet.parent / "state").iterdir()] == []
    assert [*kubelet.rglob("mount")] == []


class TestPublish:
    def test_again_is_no_error(self, kubelet: Path) -> None:
        """The same publication again passes on the fresh token, and changes nothing else."""

        async def scenario() -> None:
            keeper = volumes(kubelet)
            operations = Operations(keeper)
            for token in ("first", "second"):
                await operations.publish(publication(kubelet), token)
            assert keeper.tokens == ["first", "second"]
            assert keeper.store.is_exposed("csi-1")
            assert len(operations) == 0

        run(scenario)

    def test_repetition_never_fails(self, kubelet: Path, caplog: pytest.LogCaptureFixture) -> None:
        """What cannot be renewed is logged: the pod keeps the volume that it has."""

        async def scenario() -> None:
            keeper = volumes(kubelet)
            operations = Operations(keeper)
            await operations.publish(publication(kubelet), "first")
            for failure in (RuntimeError("a mistake"), OSError(5, "Input/output error")):
                keeper.failure = failure
                await operations.publish(publication(kubelet), "second")
            assert keeper.store.is_exposed("csi-1")

        run(scenario)
        assert "a mistake" in caplog.text
        assert "Input/output error" in caplog.text

    @pytest.mark.parametrize("is_done", [True, False], ids=["published", "under-way"])
    def test_otherwise_is_a_conflict(self, kubelet: Path, is_done: bool) -> None:
        """With another group, pod or target, it is refused, and the volume stays as it is."""

        async def scenario() -> None:
            keeper = volumes(kubelet)
            operations = Operations(keeper)
            asked = publication(kubelet)
            if not is_done:
                keeper.gate.clear()
            first = asyncio.create_task(operations.publish(asked, "token"))
            await until(lambda: first.done() if is_done else keeper.calls)
            for other, is_elsewhere in (
                (replace(asked, group=7), False),
                (replace(asked, pod=replace(asked.pod, name="web-1")), False),
                (replace(asked, target=target(kubelet, "other")), True),
            ):
                with pytest.raises(ConflictingPublication) as refused:
                    await operations.publish(other, "token")
                assert refused.value.is_elsewhere == is_elsewhere
            keeper.gate.set()
            await first
            assert keeper.published("csi-1") == asked

        run(scenario)

    def test_calls_at_once_share_the_work(self, kubelet: Path) -> None:
        """Whoever asks while the volume is being made waits for the same end."""

        async def scenario() -> None:
            keeper = volumes(kubelet)
            keeper.gate.clear()
            operations = Operations(keeper)
            tasks = [
                asyncio.create_task(operations.publish(publication(kubelet), "token"))
                for _ in range(5)
            ]
            await until(lambda: keeper.calls)
            keeper.gate.set()
            await asyncio.gather(*tasks)
            assert keeper.calls == ["publish csi-1"]

        run(scenario)

    def test_cancelled_call_is_finished_for_the_next(self, kubelet: Path) -> None:
        """A caller that goes away loses nothing: the next one finds the volume."""

        async def scenario() -> None:
            keeper = volumes(kubelet)
            keeper.gate.clear()
            operations = Operations(keeper)
            caller = asyncio.create_task(operations.publish(publication(kubelet), "token"))
            await until(lambda: keeper.calls)
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
            keeper.gate.set()
            await operations.publish(publication(kubelet), "token")
            assert keeper.store.is_exposed("csi-1")
            assert keeper.calls.count("unpublish csi-1") == 0

        run(scenario)

    @pytest.mark.parametrize(
        "failure",
        [
            IssuanceError("no signer", reason="NoSigner", is_retryable=True),
            OSError(28, "No space left on device"),
            RuntimeError("a mistake"),
        ],
        ids=["issuance", "disk", "mistake"],
    )
    def test_failure_leaves_nothing(self, kubelet: Path, failure: Exception) -> None:
        """A publication that fails is told of and cleaned up, and the next one may succeed."""

        async def scenario() -> None:
            keeper = volumes(kubelet)
            operations = Operations(keeper)
            keeper.failure = failure
            with pytest.raises(type(failure)):
                await operations.publish(publication(kubelet), "token")
            assert_nothing_left(kubelet)
            await operations.publish(publication(kubelet), "token")
            assert keeper.store.is_exposed("csi-1")

        run(scenario)

    def test_failed_cleaning_hides_no_cause(
        self, kubelet: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """When even the cleaning fails, the caller reads why the publication did."""

        async def scenario() -> None:
            keeper = volumes(kubelet)
            keeper.failure = IssuanceError("no signer", reason="NoSigner")
            keeper.unpublish_failure = OSError(16, "Device or resource busy")
            with pytest.raises(IssuanceError, match="no signer"):
                await Operations(keeper).publish(publication(kubelet), "token")

        run(scenario)
        assert "Device or resource busy" in caplog.text

    def test_late_is_an_end(self, kubelet: Path) -> None:
        """A publication that takes too long ends before the kubelet gives up, and is cleaned up."""

        async def scenario() -> None:
            keeper = volumes(kubelet)
            keeper.gate.clear()
            with pytest.raises(TimeoutError):
                await Operations(keeper, publish_seconds=0.05).publish(
                    publication(kubelet), "token"
                )
            assert_nothing_left(kubelet)

        run(scenario)

    def test_without_a_turn_says_so(self, kubelet: Path) -> None:
        """One that had no turn in time names that as the cause, and leaves nothing."""

        async def scenario() -> None:
            keeper = volumes(kubelet)
            keeper.gate.clear()
            operations = Operations(keeper, most_at_once=1)
            first = asyncio.create_task(operations.publish(publication(kubelet, "first"), "token"))
            await until(lambda: keeper.calls)
            operations._publish_seconds = 0.05
            with pytest.raises(TimeoutError, match=r"no turn within 0\.05 s: 2 volumes are being"):
                await operations.publish(publication(kubelet), "token")
            assert "publish csi-1" not in keeper.calls
            keeper.gate.set()
            await first
            assert [each.volume_id for each in keeper.store] == ["first"]

        run(scenario)

    def test_only_so_many_at_once(self, kubelet: Path) -> None:
        """However many pods start, only some are worked on; all get their volume."""

        async def scenario() -> None:
            keeper = volumes(kubelet)
            operations = Operations(keeper, most_at_once=3)
            names = [f"csi-{number}" for number in range(20)]
            await asyncio.gather(
                *(operations.publish(publication(kubelet, name), "token") for name in names)
            )
            assert keeper.most_at_once <= 3
            assert all(keeper.store.is_exposed(name) for name in names)

        run(scenario)

    def test_namespaces_do_not_wait_for_each_other(self, kubelet: Path) -> None:
        """Where the pods of one namespace wait for certificates, another's get theirs."""

        async def scenario() -> None:
            keeper = volumes(kubelet)
            operations = Operations(keeper, most_at_once=2)
            keeper.gate.clear()
            stuck = [
                asyncio.create_task(operations.publish(publication(kubelet, f"csi-{n}"), "token"))
                for n in range(5)
            ]
            await until(lambda: len(keeper.calls) == 2)
            asked = publication(kubelet, "other")
            asked = replace(asked, pod=replace(asked.pod, namespace="elsewhere"))
            other = asyncio.create_task(operations.publish(asked, "token"))
            await until(lambda: "publish other" in keeper.calls)
            keeper.gate.set()
            await asyncio.gather(other, *stuck)
            del other, stuck
            gc.collect()
            assert len(operations._slots) == 0

        run(scenario)

    def test_one_volume_does_not_hold_up_another(self, kubelet: Path) -> None:
        """While one waits for its certificate, another is published and removed."""

        async def scenario() -> None:
            keeper = volumes(kubelet)
            operations = Operations(keeper)
            keeper.gate.clear()
            slow = asyncio.create_task(operations.publish(publication(kubelet), "token"))
            await until(lambda: keeper.calls)
            await operations.unpublish("other", target(kubelet, "other"))
            assert not slow.done()
            keeper.gate.set()
            await slow

        run(scenario)


class TestUnpublish:
    def test_twice_is_no_error(self, kubelet: Path) -> None:
        """What is unpublished, or never was published, is unpublished."""

        async def scenario() -> None:
            keeper = volumes(kubelet)
            operations = Operations(keeper)
            await operations.publish(publication(kubelet), "token")
            for _ in range(2):
                await operations.unpublish("csi-1", target(kubelet))
            assert_nothing_left(kubelet)

        run(scenario)

    def test_ends_a_publication(self, kubelet: Path) -> None:
        """A publication under way is cancelled, its caller told, and nothing is left."""

        async def scenario() -> None:
            keeper = volumes(kubelet)
            keeper.gate.clear()
            operations = Operations(keeper)
            asked = publication(kubelet)
            caller = asyncio.create_task(operations.publish(asked, "token"))
            await until(lambda: keeper.calls)
            await operations.unpublish("csi-1", asked.target)
            with pytest.raises(InterruptedOperation):
                await caller
            assert_nothing_left(kubelet)

        run(scenario)

    def test_ends_a_publication_that_has_not_begun(self, kubelet: Path) -> None:
        """One that still waits for its turn is cancelled as well."""

        async def scenario() -> None:
            keeper = volumes(kubelet)
            operations = Operations(keeper)
            asked = publication(kubelet)
            caller = asyncio.create_task(operations.publish(asked, "token"))
            ending = asyncio.create_task(operations.unpublish("csi-1", asked.target))
            await ending
            with pytest.raises(InterruptedOperation):
                await caller
            assert_nothing_left(kubelet)

        run(scenario)

    def test_calls_at_once_share_the_work(self, kubelet: Path) -> None:
        """Two calls for the same end are one."""

        async def scenario() -> None:
            keeper = volumes(kubelet)
            operations = Operations(keeper)
            await operations.publish(publication(kubelet), "token")
            place = target(kubelet)
            await asyncio.gather(*(operations.unpublish("csi-1", place) for _ in range(5)))
            assert keeper.calls.count("unpublish csi-1") == 1

        run(scenario)

    def test_publication_waits_for_it(self, kubelet: Path) -> None:
        """A publication that comes during the removal is done after it."""

        async def scenario() -> None:
            keeper = volumes(kubelet)
            operations = Operations(keeper)
            asked = publication(kubelet)
            await operations.publish(asked, "token")
            await asyncio.gather(
                operations.unpublish("csi-1", asked.target), operations.publish(asked, "token")
            )
            assert keeper.calls == ["publish csi-1", "unpublish csi-1", "publish csi-1"]
            assert keeper.store.is_exposed("csi-1")

        run(scenario)

    def test_failure_is_told_and_may_be_repeated(self, kubelet: Path) -> None:
        """A removal that fails is an error for its caller, and the next one finishes it."""

        async def scenario() -> None:
            keeper = volumes(kubelet)
            operations = Operations(keeper)
            await operations.publish(publication(kubelet), "token")
            keeper.unpublish_failure = OSError(16, "Device or resource busy")
            with pytest.raises(OSError, match="busy"):
                await operations.unpublish("csi-1", target(kubelet))
            await operations.unpublish("csi-1", target(kubelet))
            assert_nothing_left(kubelet)

        run(scenario)


class TestStop:
    def test_cleans_up(self, kubelet: Path) -> None:
        """What is being published is cancelled and cleaned up; what is published stays."""

        async def scenario() -> None:
            keeper = volumes(kubelet)
            operations = Operations(keeper)
            await operations.publish(publication(kubelet, "kept"), "token")
            keeper.gate.clear()
            caller = asyncio.create_task(operations.publish(publication(kubelet), "token"))
            await until(lambda: "publish csi-1" in keeper.calls)
            await operations.stop()
            with pytest.raises(InterruptedOperation):
                await caller
            assert len(operations) == 0
            assert [each.volume_id for each in keeper.store] == ["kept"]
            assert keeper.store.is_exposed("kept")

        run(scenario)
