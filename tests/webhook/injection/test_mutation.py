# SPDX-License-Identifier: Apache-2.0
"""What is added to a pod, and what in it contradicts that."""

import hashlib
import json

import pytest

from kubetls_sdk.testing import DevelopmentCA
from tests.webhook.injection.world import (
    ENVIRONMENT,
    MOUNT,
    MOUNT_PATH,
    PREFIX,
    UID,
    annotated,
    csi_volume,
    injected,
    outcome,
    pod,
    refusal,
    secret_volume,
    volume,
)
from webhook.capabilities import Capabilities

SECRET_MODE = Capabilities(pod_certificates=None)


def partner_labels(name, domain):
    """By name and trust domain: the file is the domain's, whatever has the name later."""
    tag = hashlib.sha256(domain.encode()).hexdigest()[:32]
    return {f"{PREFIX}/partner": name, f"{PREFIX}/partner-domain": tag}


class TestThePod:
    def test_the_least_pod(self):
        """A pod without volumes, mounts, variables and annotations gets all of them."""
        changed = injected(pod({"name": "main", "image": "app"}))
        assert changed["spec"] == {
            "containers": [
                {"name": "main", "image": "app", "volumeMounts": [MOUNT], "env": ENVIRONMENT}
            ],
            "volumes": [volume()],
        }
        assert changed["metadata"]["annotations"] == {f"{PREFIX}/injected": "pod-certificate"}

    def test_what_is_there_stays(self):
        """Volumes, mounts, variables and annotations of the author keep their places."""
        token = {"name": "kube-api-access-x", "projected": {"sources": []}}
        mount = {"name": "kube-api-access-x", "mountPath": "/var/run/secrets/kubernetes.io/sa"}
        variable = {"name": "HOME", "value": "/"}
        before = pod(
            {"name": "main", "volumeMounts": [mount], "env": [variable]},
            annotations={"example.com/a~b": "c"},
            volumes=[token],
        )
        changed = injected(before)
        assert changed["spec"]["volumes"] == [token, volume()]
        container = changed["spec"]["containers"][0]
        assert container["volumeMounts"] == [mount, MOUNT]
        assert container["env"] == [variable, *ENVIRONMENT]
        assert changed["metadata"]["annotations"] == {
            "example.com/a~b": "c",
            f"{PREFIX}/injected": "pod-certificate",
        }

    @pytest.mark.parametrize("nothing", [None, []], ids=["null", "empty"])
    def test_nothing_in_two_forms(self, nothing):
        """A null list and an empty one both get what is added."""
        container = {"name": "main", "volumeMounts": nothing, "env": nothing}
        changed = injected(pod(container, volumes=nothing))
        assert changed["spec"]["volumes"] == [volume()]
        assert changed["spec"]["containers"][0]["volumeMounts"] == [MOUNT]
        assert changed["spec"]["containers"][0]["env"] == ENVIRONMENT

    def test_all_containers(self):
        """Init containers, native sidecars and every main container are mounted alike."""
        names = [f"c{i}" for i in range(40)]
        changed = injected(
            pod(
                *({"name": name} for name in names),
                initContainers=[{"name": "init"}, {"name": "proxy", "restartPolicy": "Always"}],
            )
        )
        found = changed["spec"]["initContainers"] + changed["spec"]["containers"]
        assert [each["name"] for each in found] == ["init", "proxy", *names]
        assert all(each["volumeMounts"] == [MOUNT] for each in found)
        assert all(each["env"] == ENVIRONMENT for each in found)

    def test_annotations_decide(self):
        """Zone, partners, key type, lifetime and place are as the pod asks."""
        changed = injected(
            pod(
                annotations=annotated(
                    zone="pci",
                    partners="acme",
                    key_type="ECDSAP384",
                    lifetime="2h",
                    mount_path="/etc/identity",
                )
            )
        )
        own = {
            "signerName": f"{PREFIX}/pci",
            "labelSelector": {"matchLabels": {f"{PREFIX}/trust-domain": "pci.example"}},
            "path": "pci.example.trust-bundle.pem",
        }
        certificate = {
            "signerName": f"{PREFIX}/pci",
            "keyType": "ECDSAP384",
            "maxExpirationSeconds": 7200,
            "credentialBundlePath": "credential-bundle.pem",
        }
        partner = {
            "signerName": f"{PREFIX}/partner",
            "labelSelector": {"matchLabels": partner_labels("acme", "partner.example")},
            "optional": True,
            "path": "partner.example.trust-bundle.pem",
        }
        assert changed["spec"]["volumes"][0]["projected"]["sources"] == [
            {"podCertificate": certificate},
            {"clusterTrustBundle": own},
            {"clusterTrustBundle": partner},
        ]
        container = changed["spec"]["containers"][0]
        assert container["volumeMounts"] == [{**MOUNT, "mountPath": "/etc/identity"}]
        assert container["env"] == [
            {"name": "SPIFFE_CREDENTIAL_FOLDER", "value": "/etc/identity"},
            {"name": "KUBETLS_TRUST_DOMAIN", "value": "pci.example"},
        ]

    def test_a_zone_as_partner(self):
        """Another zone's own bundle is selected while it is a partner, and may be gone."""
        changed = injected(pod(annotations=annotated(partners="card")))
        bundle = {
            "signerName": f"{PREFIX}/pci",
            "labelSelector": {"matchLabels": partner_labels("card", "pci.example")},
            "optional": True,
            "path": "pci.example.trust-bundle.pem",
        }
        assert changed["spec"]["volumes"] == [volume(bundle)]

    def test_nothing_secret(self):
        """No key, and not even a partner's certificates, are in what anybody can ask for."""
        _, answer = outcome(pod(annotations=annotated(partners="acme")))
        text = json.dumps(list(answer.patch))
        assert "BEGIN" not in text
        assert DevelopmentCA("partner.example").bundle.to_pem().decode()[40:80] not in text


class TestSecretMode:
    def test_the_name(self):
        """The Secret's name comes from the review, as the pod has neither name nor UID yet."""
        changed = injected(pod(), capabilities=SECRET_MODE)
        name = f"kubetls-{hashlib.sha256(UID.encode()).hexdigest()[:20]}"
        assert changed["spec"]["volumes"] == [secret_volume(name)]
        assert changed["metadata"]["annotations"] == {
            f"{PREFIX}/injected": "secret",
            f"{PREFIX}/secret": name,
        }

    def test_asked_for(self):
        """A pod may ask for it where the rule of its namespace lists it."""
        changed = injected(pod(annotations=annotated(mode="secret")))
        assert changed["metadata"]["annotations"][f"{PREFIX}/injected"] == "secret"

    def test_another_review_of_the_same_pod(self):
        """A second pass comes with another UID, and keeps the name of the first."""
        first = injected(pod(), capabilities=SECRET_MODE)
        decided, answer = outcome(first, capabilities=SECRET_MODE, uid="another")
        assert decided.value == "complete"
        assert not answer.patch

    def test_annotations_without_a_volume(self):
        """Annotations that were copied from another pod give way to a name of this pod's own."""
        copied = annotated(secret=f"kubetls-{'0' * 20}", injected="pod-certificate")
        changed = injected(pod(annotations=copied), capabilities=SECRET_MODE)
        name = changed["spec"]["volumes"][0]["secret"]["secretName"]
        assert name != copied[f"{PREFIX}/secret"]
        assert changed["metadata"]["annotations"] == annotated(secret=name, injected="secret")

    @pytest.mark.parametrize(
        ("secret", "named"),
        [
            pytest.param("database", "database", id="a Secret of somebody"),
            pytest.param(f"kubetls-{'0' * 20}", None, id="no annotation"),
            pytest.param(f"kubetls-{'0' * 20}", f"kubetls-{'1' * 20}", id="another annotation"),
            pytest.param(f"kubetls-{'0' * 20}\n", f"kubetls-{'0' * 20}\n", id="a line more"),
        ],
    )
    def test_other_secrets(self, secret, named):
        """A volume of our name is ours only with the name and the annotation that we write."""
        annotations = annotated(injected="secret", **({"secret": named} if named else {}))
        refused = refusal(
            pod(annotations=annotations, volumes=[secret_volume(secret)]), capabilities=SECRET_MODE
        )
        assert "volume 'kubetls': expected no volume of this name" in refused


class TestCsiMode:
    def test_the_least_pod(self):
        """The driver's volume, without attributes, where and as the others are mounted."""
        changed = injected(pod({"name": "main"}), namespace="edge")
        assert changed["spec"]["volumes"] == [csi_volume()]
        assert changed["spec"]["containers"][0]["volumeMounts"] == [MOUNT]
        assert changed["spec"]["containers"][0]["env"] == ENVIRONMENT
        assert changed["metadata"]["annotations"] == annotated(injected="csi")

    def test_asked_for(self):
        """A pod has it by its annotation, where it is not the first; others cannot."""
        vault = refusal(pod(annotations=annotated(mode="csi")), namespace="vault")
        assert f"annotation {PREFIX}/mode: expected one of 'secret', got 'csi'" in vault
        asked = injected(pod(annotations=annotated(mode="pod-certificate")), namespace="edge")
        assert asked["spec"]["volumes"] == [volume()]

    @pytest.mark.parametrize(
        "fields",
        [
            {"driver": "csi.example.com"},
            {"readOnly": False},
            {"readOnly": None},
            {"volumeAttributes": {"zone": "pci"}},
            {"fsType": "ext4"},
            {"nodePublishSecretRef": {"name": "x"}},
        ],
        ids=lambda fields: next(iter(fields)),
    )
    def test_another_one_by_hand(self, fields):
        """An author's own volume of our name is exactly the one that is added, or refused."""
        assert "volume 'kubetls': expected no volume of this name" in refusal(
            pod(volumes=[csi_volume(**fields)]), namespace="edge"
        )
        by_hand = injected(pod(volumes=[csi_volume()]), namespace="edge")
        assert by_hand["spec"]["volumes"] == [csi_volume()]

    def test_the_mode_stays(self):
        """A second pass that knows of a broken node leaves the pod as it is."""
        first = injected(pod(), namespace="edge")
        broken = Capabilities(nodes_without_driver=("n1",))
        decided, answer = outcome(first, namespace="edge", capabilities=broken, uid="another")
        assert (decided.value, list(answer.patch)) == ("complete", [])
        assert injected(pod(), namespace="edge", capabilities=broken)["spec"]["volumes"] == [
            volume()
        ]


class TestReinvocation:
    @pytest.mark.parametrize("capabilities", [Capabilities(), SECRET_MODE], ids=["pcr", "secret"])
    def test_a_complete_pod(self, capabilities):
        """A pod that has everything is left as it is."""
        first = injected(pod({"name": "a"}, {"name": "b"}), capabilities=capabilities)
        decided, answer = outcome(first, capabilities=capabilities, uid="another")
        assert (decided.value, list(answer.patch)) == ("complete", [])

    def test_a_container_more(self):
        """A container that another webhook added gets what the others have, and no more happens."""
        first = injected(pod())
        first["spec"]["containers"].insert(0, {"name": "proxy"})
        second = injected(first, uid="another")
        assert [each["volumeMounts"] for each in second["spec"]["containers"]] == [[MOUNT], [MOUNT]]
        assert second["spec"]["volumes"] == [volume()]
        assert second["spec"]["containers"][1] == first["spec"]["containers"][1]

    @pytest.mark.parametrize(
        ("before", "after"),
        [(Capabilities(), SECRET_MODE), (SECRET_MODE, Capabilities())],
        ids=["lost", "gained"],
    )
    def test_capabilities_change_between_passes(self, before, after):
        """The mode of the first pass stays, though another replica knows more by now."""
        first = injected(pod(), capabilities=before)
        decided, answer = outcome(first, capabilities=after, uid="another")
        assert (decided.value, list(answer.patch)) == ("complete", [])

    def test_an_annotation_alone(self):
        """What the author writes as our annotation does not choose the mode."""
        changed = injected(pod(annotations=annotated(injected="secret")))
        assert changed["metadata"]["annotations"] == annotated(injected="pod-certificate")


class TestVolumes:
    def test_the_same_by_hand(self):
        """A volume that is exactly what would be added is fine."""
        assert injected(pod(volumes=[volume()]))["spec"]["volumes"] == [volume()]

    @pytest.mark.parametrize(
        "other",
        [
            {"name": "kubetls", "emptyDir": {}},
            volume(signerName="example.com/other"),
            volume(keyType="ED25519"),
            volume({"name": "x", "path": "evil.example.trust-bundle.pem"}),
            {"name": "kubetls", "secret": "no object"},
            {"name": "kubetls"},
        ],
        ids=["emptyDir", "signer", "key", "bundle", "malformed", "nothing"],
    )
    def test_another_one(self, other):
        """A volume of our name with anything else in it is refused."""
        assert refusal(pod(volumes=[other])) == (
            "volume 'kubetls': expected no volume of this name, as it is the one that is added;"
            " got another one"
        )


def mounted(path, name="data", **more):
    return {"name": "app", "volumeMounts": [{"name": name, "mountPath": path, **more}]}


class TestMounts:
    @pytest.mark.parametrize(
        "path",
        [
            MOUNT_PATH,
            f"{MOUNT_PATH}/",
            f"/{MOUNT_PATH}",
            f"/var{MOUNT_PATH}",
            f"/x/..{MOUNT_PATH}",
            MOUNT_PATH[1:],
            f"{MOUNT_PATH}/credential-bundle.pem",
            f"/var{MOUNT_PATH}/deep/below",
        ],
    )
    def test_at_the_place_or_below(self, path):
        """Something else that would hide the files is refused, however its path is written."""
        assert refusal(pod(mounted(path), volumes=[{"name": "data", "emptyDir": {}}])) == (
            f"container 'app': expected nothing else mounted at {MOUNT_PATH}, below it or read"
            f" only above it, got volume 'data' at {path!r}"
        )

    @pytest.mark.parametrize("path", ["/", "/run", "/var/run", "/run/secrets"])
    def test_read_only_above(self, path):
        """In a folder that nobody can write to, the place could not be made."""
        assert "at " + repr(path) in refusal(pod(mounted(path, readOnly=True)))
        source = [{"name": "data", "configMap": {"name": "x"}}]
        assert "at " + repr(path) in refusal(pod(mounted(path), volumes=source))

    @pytest.mark.parametrize(
        "path", ["/run", "/var/run", "/run/secrets", f"{MOUNT_PATH}-more", "/var/lib", "/run/sec"]
    )
    def test_elsewhere(self, path):
        """A writable folder above is usual (/run), and paths that only begin alike are others."""
        changed = injected(pod(mounted(path), volumes=[{"name": "data", "emptyDir": {}}]))
        assert changed["spec"]["containers"][0]["volumeMounts"][1] == MOUNT

    def test_by_hand(self):
        """A mount that the author wrote is taken, and made read only."""
        changed = injected(pod(mounted(MOUNT_PATH, "kubetls")))
        assert changed["spec"]["containers"][0]["volumeMounts"] == [MOUNT]

    def test_a_second_place(self):
        """The author may mount the volume at a second place."""
        second = {"name": "kubetls", "mountPath": "/etc/second"}
        changed = injected(pod({"name": "app", "volumeMounts": [second]}))
        assert changed["spec"]["containers"][0]["volumeMounts"] == [second, MOUNT]

    @pytest.mark.parametrize("part", ["subPath", "subPathExpr"])
    def test_a_part_of_the_volume(self, part):
        """A sub path is never refreshed, so it may not stand at the place."""
        mount = mounted(MOUNT_PATH, "kubetls", **{part: "credential-bundle.pem"})
        assert "got volume 'kubetls'" in refusal(pod(mount))

    def test_one_of_many(self):
        """One container that contradicts is enough, an init container as well."""
        assert "container 'app'" in refusal(pod(initContainers=[mounted(MOUNT_PATH)]))


class TestEnvironment:
    def test_the_same_value(self):
        """A variable with the value that would be added stays the only one."""
        changed = injected(pod({"name": "app", "env": [ENVIRONMENT[1]]}))
        assert changed["spec"]["containers"][0]["env"] == [ENVIRONMENT[1], ENVIRONMENT[0]]

    @pytest.mark.parametrize(
        "variable",
        [
            {"name": "KUBETLS_TRUST_DOMAIN", "value": "evil.example"},
            {"name": "KUBETLS_TRUST_DOMAIN", "value": ""},
            {"name": "KUBETLS_TRUST_DOMAIN"},
            {"name": "KUBETLS_TRUST_DOMAIN", "valueFrom": {"fieldRef": {"fieldPath": "x"}}},
        ],
        ids=["other", "empty", "absent", "from a field"],
    )
    def test_another_value(self, variable):
        """A value of the author is never overwritten nor told: the pod is refused."""
        assert refusal(pod({"name": "app", "env": [variable]})) == (
            "container 'app': expected variable KUBETLS_TRUST_DOMAIN to be 'example.org' or absent,"
            " got another value"
        )

    def test_twice(self):
        """The last of two variables wins in a container, so each of them is looked at."""
        other = {"name": "SPIFFE_CREDENTIAL_FOLDER", "value": "/x"}
        assert refusal(pod({"name": "app", "env": [ENVIRONMENT[0], other]}))
