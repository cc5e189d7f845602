# SPDX-License-Identifier: Apache-2.0
"""Policy files that change while they are followed."""

from __future__ import annotations

import logging
import os
import sys
import threading

import pytest

from kubetls_sdk.exceptions import ConfigurationError, PolicyError
from kubetls_sdk.policy_file import PolicyFile, read_policies
from kubetls_sdk.testing import KubeletVolume
from tests.fresh_process import run_in_fresh_process
from tests.sdk.authz.policies import OWN, WEB, rules
from tests.waiting import until

ALLOW = rules(allow="- {name: r, from: {namespace: shop}, to: {paths: /**}}")
NARROW = rules(allow="- {name: r, from: {namespace: shop}, to: {paths: /a}}")
DENY = rules(deny="- {name: d, to: {methods: GET}}", name="deny")


def is_allowed(policies: PolicyFile) -> bool:
    return policies.current.decide(WEB, "GET", "/x").allowed


def replace(path, text):
    """Write as people should: a new file, moved into place."""
    new = path.with_name("new.tmp")
    new.write_text(text)
    new.replace(path)


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "policy.yaml"
    found.write_text(ALLOW)
    return found


class TestStart:
    def test_loads_before_it_returns(self, path):
        """Inside the `with` block the policy is in force."""
        with PolicyFile(path, trust_domain=OWN) as policies:
            assert is_allowed(policies)
            assert policies.generation == 1

    def test_before_the_start_everything_is_denied(self, path):
        """A forgotten `with` fails closed."""
        assert not is_allowed(PolicyFile(path, trust_domain=OWN))

    @pytest.mark.parametrize("content", [None, b"", b"version: 2", b"\xff\xfe"])
    def test_unusable_files_are_an_error(self, path, content):
        """Missing, empty, invalid or not UTF-8: the server does not start."""
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(PolicyError) as caught:
            PolicyFile(path, trust_domain=OWN).start()
        assert str(path) in str(caught.value)

    def test_needs_a_path(self):
        """No path at all is a mistake, not "no policy"."""
        with pytest.raises(ConfigurationError, match="at least one"):
            PolicyFile(trust_domain=OWN)

    def test_starts_once(self, path):
        """A second start is a mistake."""
        policies = PolicyFile(path, trust_domain=OWN)
        with policies, pytest.raises(ConfigurationError, match="started before"):
            policies.start()

    def test_ends_its_thread(self, path):
        """Leaving the block leaves nothing running."""
        before = set(threading.enumerate())
        with PolicyFile(path, trust_domain=OWN):
            assert set(threading.enumerate()) > before
        assert set(threading.enumerate()) <= before


class TestReload:
    def test_a_new_policy_is_in_force_within_a_second(self, path):
        """Without a restart; subscribers hear of it."""
        heard: list[object] = []
        with PolicyFile(path, trust_domain=OWN) as policies:
            policies.subscribe(heard.append)
            replace(path, NARROW)
            until(lambda: not is_allowed(policies), timeout=1.0)
            until(lambda: heard == [policies.current])

    def test_a_bad_policy_keeps_the_last_good_one(self, path, caplog):
        """It is logged once, however often it is looked at, and seen in `error`."""
        with (
            caplog.at_level(logging.ERROR, "kubetls_sdk.policy_file"),
            PolicyFile(path, trust_domain=OWN, poll_seconds=0.05) as policies,
        ):
            replace(path, "version: 1\npolicies: [{name: a, moed: shadow}]\n")
            until(lambda: policies.error)
            for _ in range(3):
                policies.reload()
            assert is_allowed(policies)
            assert f"{path}:2: unknown field 'moed'" in policies.error
            assert len([r for r in caplog.records if "moed" in r.getMessage()]) == 1
            replace(path, ALLOW)
            until(lambda: policies.error is None)
            assert policies.generation == 1

    def test_an_empty_file_keeps_the_last_good_one(self, path):
        """An editor that truncates before it writes does not open or close the door."""
        with PolicyFile(path, trust_domain=OWN) as policies:
            path.write_text("")
            policies.reload()
            assert is_allowed(policies)
            assert "empty file" in policies.error

    def test_a_missing_file_denies_until_it_is_back(self, path):
        """Its deny rules are unknown."""
        with PolicyFile(path, trust_domain=OWN) as policies:
            path.unlink()
            until(lambda: not is_allowed(policies))
            assert "got none" in policies.error
            replace(path, ALLOW)
            until(lambda: is_allowed(policies))
            assert policies.error is None

    def test_an_unchanged_file_is_no_new_generation(self, path):
        """Touching it changes nothing."""
        with PolicyFile(path, trust_domain=OWN) as policies:
            replace(path, ALLOW)
            policies.reload()
            assert policies.generation == 1

    def test_replaced_rules_are_freed_at_the_next_look(self, path):
        """Step by step, and not by whichever request happens to hold the old set last."""
        with PolicyFile(path, trust_domain=OWN) as policies:
            (rule,) = policies.current.policies[0].rules
            replace(path, NARROW)
            assert sys.getrefcount(rule) > 2  # ours, and the argument
            policies.reload()
            policies.reload()
            assert sys.getrefcount(rule) == 2

    def test_a_failing_subscriber_stops_nobody(self, path, caplog):
        """The others hear, and the policy is in force."""
        heard: list[object] = []
        with PolicyFile(path, trust_domain=OWN) as policies:
            policies.subscribe(lambda _: 1 / 0)
            end = policies.subscribe(heard.append)
            replace(path, NARROW)
            policies.reload()
            assert len(heard) == 1
            end()
            replace(path, ALLOW)
            policies.reload()
            assert len(heard) == 1
        assert "a subscriber failed" in caplog.text

    def test_a_mounted_config_map_is_followed(self, tmp_path):
        """The kubelet swaps `..data`; files add up; a removed file is a removed policy."""
        volume = KubeletVolume(tmp_path / "mount")
        volume.write({"a.yaml": ALLOW.encode(), "b.yml": DENY.encode(), "notes.txt": b"x"})
        with PolicyFile(tmp_path / "mount", trust_domain=OWN) as policies:
            assert policies.current.decide(WEB, "GET", "/x").rule == "d"
            volume.write({"a.yaml": ALLOW.encode()})
            until(lambda: is_allowed(policies), timeout=2.0)

    def test_a_directory_without_policies_denies(self, tmp_path, caplog):
        """No file, no policy, no access, and one warning however often it is looked at."""
        with PolicyFile(tmp_path, trust_domain=OWN, poll_seconds=0.05) as policies:
            assert not is_allowed(policies)
            for _ in range(3):
                policies.reload()
        assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
            f"no policy files in {tmp_path}: nothing there allows anything"
        ]

    def test_one_directory_of_two(self, tmp_path, path, caplog):
        """The warning names the one that is empty."""
        empty = tmp_path / "empty"
        empty.mkdir()
        with PolicyFile(path, empty, trust_domain=OWN) as policies:
            assert is_allowed(policies)
        (warning,) = [r for r in caplog.records if r.levelname == "WARNING"]
        assert str(empty) in warning.getMessage()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_forked_child_denies(self, path):
        """The watcher is not there, so later deny rules would never arrive."""
        answer = run_in_fresh_process(__name__, "ask_in_a_forked_child", str(path))
        assert answer == "child denied, parent allowed"


def ask_in_a_forked_child(path: str) -> None:
    with PolicyFile(path, trust_domain=OWN) as policies:
        child = os.fork()
        if child == 0:
            os._exit(1 if is_allowed(policies) else 0)
        status = os.waitpid(child, 0)[1]
        answers = ("denied" if status == 0 else status, "allowed" if is_allowed(policies) else "")
    print("child {}, parent {}".format(*answers))  # noqa: T201 - its answer


class TestReadPolicies:
    def test_reads_once(self, path):
        """For tools."""
        assert read_policies(path, trust_domain=OWN).decide(WEB, "GET", "/x").allowed
