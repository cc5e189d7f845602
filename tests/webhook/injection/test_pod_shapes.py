# SPDX-License-Identifier: Apache-2.0
"""Promises about every pod, whatever its shape."""

import copy
import json

from hypothesis import given
from hypothesis import strategies as st

from tests.webhook.injection import json_patch
from tests.webhook.injection.world import (
    ENVIRONMENT,
    MOUNT,
    PREFIX,
    STORE_ENVIRONMENT,
    STORE_MOUNTS,
    outcome,
    platform,
    review_body,
)
from webhook.capabilities import Capabilities
from webhook.exceptions import ReviewError
from webhook.injection.admission import Outcome, decide
from webhook.injection.review import parse_review

names = st.sampled_from(["a", "b", "kubetls", "kubetls-trust-store", "data", "ünï"])
paths = st.sampled_from(
    [
        "/",
        "/run",
        "/run/secrets",
        MOUNT["mountPath"],
        f"{MOUNT['mountPath']}/x",
        "/data",
        "",
        "/..",
        "/etc/ssl/certs",
        "/etc/ssl",
        "/etc/pki/ca-trust/extracted/pem/x",
    ]
)
mounts = st.fixed_dictionaries(
    {"name": names, "mountPath": paths},
    optional={"readOnly": st.booleans(), "subPath": st.sampled_from(["", "x"])},
)
variables = st.fixed_dictionaries(
    {
        "name": st.sampled_from(
            ["HOME", "SPIFFE_CREDENTIAL_FOLDER", "KUBETLS_TRUST_DOMAIN", "NODE_OPTIONS"]
        )
    },
    optional={
        "value": st.sampled_from(
            ["", "example.org", MOUNT["mountPath"], "x", "-r x --use-openssl-ca"]
        ),
        "valueFrom": st.just({"fieldRef": {}}),
    },
)
containers = st.fixed_dictionaries(
    {"name": st.text(max_size=5)},
    optional={
        "volumeMounts": st.none() | st.lists(mounts, max_size=3),
        "env": st.none() | st.lists(variables, max_size=3),
        "image": st.just("app"),
    },
)
volumes = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "data", "kubetls", "kubetls-trust-store"])},
    optional={"emptyDir": st.just({}), "configMap": st.just({}), "secret": st.just({})},
)
annotations = st.dictionaries(
    st.sampled_from(
        [
            "example.com/a~/b",
            *(f"{PREFIX}/{n}" for n in ("mode", "zone", "partners", "injected", "secret", "zones")),
            *[f"{PREFIX}/trust-store"] * 3,
        ]
    ),
    st.sampled_from(
        ["", "secret", "pci", "acme", "pod-certificate", "internal", f"kubetls-{'0' * 20}"]
    ),
    max_size=3,
)
pods = st.builds(
    lambda metadata, spec: {"metadata": metadata, "spec": spec},
    st.none()
    | st.fixed_dictionaries(
        {"generateName": st.just("web-")}, optional={"annotations": st.none() | annotations}
    ),
    st.fixed_dictionaries(
        {"containers": st.lists(containers, min_size=1, max_size=3)},
        optional={
            "initContainers": st.none() | st.lists(containers, max_size=2),
            "volumes": st.none() | st.lists(volumes, max_size=2),
            "hostNetwork": st.booleans(),
        },
    ),
)
capabilities = st.sampled_from([Capabilities(), Capabilities(None), Capabilities(old_nodes=("n",))])


def all_containers(pod):
    spec = pod["spec"]
    return (spec.get("initContainers") or []) + spec["containers"]


def without_ours(pod):
    """The pod without what we add, and without the difference between null and absent."""
    pod = copy.deepcopy(pod)
    metadata, spec = pod["metadata"] or {}, pod["spec"]
    pod["metadata"] = metadata
    metadata["annotations"] = {
        name: value
        for name, value in (metadata.get("annotations") or {}).items()
        if name not in (f"{PREFIX}/injected", f"{PREFIX}/secret")
    }
    ours = ("kubetls", "kubetls-trust-store") if has_store(pod) else ("kubetls",)
    spec["volumes"] = [each for each in spec.get("volumes") or [] if each["name"] not in ours]
    for each in all_containers(pod):
        ours = [MOUNT, *(STORE_MOUNTS if has_store(pod) else [])]
        places = {(mount["name"], mount["mountPath"]) for mount in ours}
        names = {each["name"] for each in ENVIRONMENT}
        names |= {each["name"] for each in STORE_ENVIRONMENT} if has_store(pod) else set()
        each["volumeMounts"] = [
            m for m in each.get("volumeMounts") or [] if (m["name"], m["mountPath"]) not in places
        ]
        each["env"] = [v for v in each.get("env") or [] if v["name"] not in names]
    return pod


def without_empty(mount):
    """A mount without an empty sub path, which is none."""
    return {name: value for name, value in mount.items() if (name, value) != ("subPath", "")}


def has_store(pod):
    annotations = (pod["metadata"] or {}).get("annotations") or {}
    return annotations.get(f"{PREFIX}/trust-store") == "internal"


@given(pods, capabilities)
def test_every_pod(pod, capabilities):
    """Refused; or mounted in each container, with nothing else changed, and complete after that."""
    decided, answer = outcome(pod, capabilities=capabilities)
    if decided is Outcome.DENIED:
        assert answer.message
        assert not answer.patch
        return
    changed = json_patch.apply(pod, answer.patch)
    for container in all_containers(changed):
        mounts = [without_empty(mount) for mount in container["volumeMounts"]]
        assert MOUNT in mounts
        values = {each["name"]: each.get("value") for each in container["env"]}
        assert values["SPIFFE_CREDENTIAL_FOLDER"] == MOUNT["mountPath"]
        assert values["KUBETLS_TRUST_DOMAIN"] in ("example.org", "pci.example")
        if has_store(pod):
            assert all(mount in mounts for mount in STORE_MOUNTS)
            wanted = {each["name"]: each["value"] for each in STORE_ENVIRONMENT}
            options = values["NODE_OPTIONS"].split(" ")
            assert wanted.pop("NODE_OPTIONS") in options
            assert wanted.items() <= values.items()
    assert [each["name"] for each in changed["spec"]["volumes"]].count("kubetls") == 1
    assert without_ours(pod) == without_ours(changed)
    again, nothing = outcome(changed, capabilities=capabilities, uid="another")
    assert (again, list(nothing.patch)) == (Outcome.COMPLETE, [])


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "kubetls", "a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "metadata", "spec", "containers", "initContainers", "volumes", "name", "env",
                    "volumeMounts", "annotations", "labels", "mountPath", "secret", "value", "os",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)  # fmt: skip


@given(anything, st.sampled_from(["CREATE", "UPDATE"]))
def test_every_object(thing, operation):
    """An object that is no pod is refused as such; nothing else goes wrong."""
    sub = "ephemeralcontainers" if operation == "UPDATE" else ""
    body = review_body(thing, operation=operation, subResource=sub, oldObject=thing)
    try:
        review = parse_review(body)
        decided, answer = decide(review, platform())
    except ReviewError:
        return
    json.loads(answer.to_json(review.uid))
    assert decided in tuple(Outcome)
