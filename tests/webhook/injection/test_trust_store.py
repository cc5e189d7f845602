# SPDX-License-Identifier: Apache-2.0
"""What a pod gets whose programs are to believe its zone and not the web; what is refused."""

import pytest

from tests.webhook.injection.world import (
    ENVIRONMENT,
    MOUNT,
    PREFIX,
    STORE,
    STORE_ENVIRONMENT,
    STORE_FILES,
    STORE_MOUNTS,
    UID,
    annotated,
    csi_volume,
    injected,
    outcome,
    pod,
    refusal,
    secret_volume,
    store_volume,
    volume,
)
from webhook.capabilities import Capabilities
from webhook.injection.volume import secret_name

SECRET_MODE = Capabilities(pod_certificates=None)
INTERNAL = annotated(trust_store="internal")


def asking(*containers, **about):
    """A pod that asks for the zone's trust store."""
    return pod(*containers, annotations=INTERNAL, **about)


def app(**about):
    return {"name": "app", **about}


class TestThePod:
    def test_every_container(self):
        """Init containers, sidecars and main ones have mounts and variables; the pod one volume."""
        made = asking(
            app(),
            app(name="second"),
            initContainers=[app(name="init"), app(name="proxy", restartPolicy="Always")],
        )
        changed = injected(made)["spec"]
        assert changed["volumes"] == [volume(), store_volume()]
        for container in changed["initContainers"] + changed["containers"]:
            assert container["volumeMounts"] == [MOUNT, *STORE_MOUNTS]
            assert container["env"] == ENVIRONMENT + STORE_ENVIRONMENT

    @pytest.mark.parametrize("annotations", [None, annotated(trust_store="image")])
    def test_without(self, annotations):
        """A pod that does not ask, or asks for its image's, gets none of it."""
        changed = injected(pod(app(), annotations=annotations))["spec"]
        assert changed["volumes"] == [volume()]
        assert changed["containers"][0]["volumeMounts"] == [MOUNT]
        assert changed["containers"][0]["env"] == ENVIRONMENT

    def test_the_zone(self):
        """The bundle is that of the pod's own zone, chosen as the identity's is."""
        made = pod(annotations=INTERNAL | annotated(zone="pci"))
        identity, store = injected(made)["spec"]["volumes"]
        own = dict(identity["projected"]["sources"][1]["clusterTrustBundle"])
        del own["path"]
        expected = [{"clusterTrustBundle": {**own, "path": file}} for file in STORE_FILES]
        assert store["projected"]["sources"] == expected
        assert own["signerName"] == f"{PREFIX}/pci"

    def test_no_partner(self):
        """A partner's authorities vouch for identities, and for no DNS name."""
        made = pod(annotations=INTERNAL | annotated(partners="acme"))
        identity, store = injected(made)["spec"]["volumes"]
        assert len(identity["projected"]["sources"]) == 3
        assert store == store_volume()

    def test_secret_mode(self):
        """The bundle of the pod's own Secret, and neither its key nor its certificate."""
        identity, store = injected(asking(), capabilities=SECRET_MODE)["spec"]["volumes"]
        name = secret_name(UID)
        assert identity == secret_volume(name)
        assert store == {
            "name": "kubetls-trust-store",
            "secret": {
                "secretName": name,
                "defaultMode": 0o644,
                "items": [{"key": "ca.crt", "path": file} for file in STORE_FILES],
            },
        }

    def test_csi_mode(self):
        """The kubelet projects the bundle: the driver's own volume has the key in it."""
        identity, store = injected(asking(), namespace="edge")["spec"]["volumes"]
        assert identity == csi_volume()
        assert store == store_volume()

    @pytest.mark.parametrize("capabilities", [Capabilities(), SECRET_MODE], ids=["pcr", "secret"])
    def test_once(self, capabilities):
        """A second pass with another UID finds everything there."""
        first = injected(asking(app(), app(name="b")), capabilities=capabilities)
        decided, answer = outcome(first, capabilities=capabilities, uid="another")
        assert (decided.value, list(answer.patch)) == ("complete", [])

    def test_a_container_more(self):
        """A container that another webhook added meanwhile gets the same."""
        first = injected(asking(app()))
        first["spec"]["containers"].append(app(name="proxy"))
        second = injected(first, uid="another")["spec"]
        assert second["containers"][1]["volumeMounts"] == [MOUNT, *STORE_MOUNTS]
        assert second["containers"][1]["env"] == ENVIRONMENT + STORE_ENVIRONMENT
        assert second["volumes"] == [volume(), store_volume()]

    def test_a_place_by_hand(self):
        """A mount that the author wrote is taken and made read only, and the other is added."""
        mount = {"name": "kubetls-trust-store", "mountPath": "/etc/ssl/certs"}
        changed = injected(asking(app(volumeMounts=[mount])))["spec"]["containers"][0]
        assert changed["volumeMounts"] == [STORE_MOUNTS[0], MOUNT, STORE_MOUNTS[1]]


class TestRefusals:
    @pytest.mark.parametrize(
        ("path", "place"),
        [
            ("/etc/ssl/certs", "/etc/ssl/certs"),
            ("/etc/ssl/certs/", "/etc/ssl/certs"),
            ("/etc/ssl/../ssl/certs", "/etc/ssl/certs"),
            ("/etc/ssl/certs/corporate.pem", "/etc/ssl/certs"),
            ("/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs"),
            ("/etc/pki/ca-trust/extracted/pem", "/etc/pki/ca-trust/extracted/pem"),
        ],
    )
    def test_a_mount_there(self, path, place):
        """An author's own roots at the place contradict what the author asks for."""
        mount = {"name": "roots", "mountPath": path, "subPath": "x"}
        made = asking(app(volumeMounts=[mount]), volumes=[{"name": "roots", "emptyDir": {}}])
        assert refusal(made) == (
            f"container 'app': expected nothing else mounted at {place}, below it or read only"
            f" above it, got volume 'roots' at {path!r}"
        )

    @pytest.mark.parametrize("path", ["/etc/ssl", "/etc", "/etc/pki/ca-trust"])
    def test_read_only_above(self, path):
        """In a ConfigMap the place could not be made, so the container would never start."""
        source = [{"name": "roots", "configMap": {"name": "x"}}]
        mount = {"name": "roots", "mountPath": path}
        assert f"at {path!r}" in refusal(asking(app(volumeMounts=[mount]), volumes=source))

    @pytest.mark.parametrize("path", ["/etc/ssl/private", "/etc/ssl/certs-own", "/etc/roots"])
    def test_elsewhere(self, path):
        """Files beside it are the author's own."""
        mount = {"name": "roots", "mountPath": path}
        source = [{"name": "roots", "configMap": {"name": "x"}}]
        changed = injected(asking(app(volumeMounts=[mount]), volumes=source))
        assert changed["spec"]["containers"][0]["volumeMounts"] == [mount, MOUNT, *STORE_MOUNTS]

    @pytest.mark.parametrize("variable", [each["name"] for each in STORE_ENVIRONMENT])
    def test_a_variable(self, variable):
        """A value of the author would lead some library elsewhere: neither side wins silently."""
        message = refusal(asking(app(env=[{"name": variable, "value": "/etc/roots/own.pem"}])))
        assert message.startswith(f"container 'app': expected variable {variable} to ")
        assert message.endswith(" or absent, got another value")

    def test_a_variable_from_elsewhere(self):
        """What a variable will be cannot be seen where it comes from a ConfigMap."""
        source = {"configMapKeyRef": {"name": "x", "key": "y"}}
        made = asking(app(env=[{"name": "SSL_CERT_FILE", "valueFrom": source}]))
        assert f"expected variable SSL_CERT_FILE to be {STORE!r}" in refusal(made)

    @pytest.mark.parametrize(
        "value", ["--use-openssl-ca", "--max-old-space-size=512 --use-openssl-ca", ""]
    )
    def test_options_of_node(self, value):
        """The author's own options of Node.js stay, where the wanted one is among them."""
        made = asking(app(env=[{"name": "NODE_OPTIONS", "value": value}]))
        if not value:
            assert "NODE_OPTIONS to have '--use-openssl-ca' or absent" in refusal(made)
            return
        found = injected(made)["spec"]["containers"][0]["env"]
        assert [each["value"] for each in found if each["name"] == "NODE_OPTIONS"] == [value]

    @pytest.mark.parametrize(
        "value", ["--max-old-space-size=512", "--use-openssl-cas", "x--use-openssl-ca"]
    )
    def test_options_without_it(self, value):
        """Without the option Node.js believes the roots within its program."""
        made = asking(app(env=[{"name": "NODE_OPTIONS", "value": value}]))
        assert "NODE_OPTIONS to have '--use-openssl-ca' or absent" in refusal(made)

    @pytest.mark.parametrize(
        "other",
        [
            {"name": "kubetls-trust-store", "emptyDir": {}},
            {"name": "kubetls-trust-store", "configMap": {"name": "roots"}},
            store_volume(signerName="example.com/other"),
        ],
        ids=["emptyDir", "configMap", "signer"],
    )
    def test_another_volume(self, other):
        """A volume of that name with anything else in it is refused."""
        assert refusal(asking(volumes=[other])) == (
            "volume 'kubetls-trust-store': expected no volume of this name, as it is the one that"
            " is added; got another one"
        )

    def test_the_secret_of_another_pod(self):
        """The store is of the same Secret as the identity."""
        first = injected(asking(), capabilities=SECRET_MODE)
        first["spec"]["volumes"][1]["secret"]["secretName"] = f"kubetls-{'0' * 20}"
        assert "volume 'kubetls-trust-store'" in refusal(first, capabilities=SECRET_MODE)

    def test_a_rule_without_it(self):
        """Where the rule of a namespace has one value only, it is the pod's, asked for or not."""
        message = refusal(pod(annotations=annotated(trust_store="internal")), namespace="open")
        assert message == (
            f"annotation {PREFIX}/trust-store: expected one of 'image', got 'internal'"
        )
        enforced = injected(pod(), namespace="closed")
        assert enforced["spec"]["volumes"] == [volume(), store_volume()]


class TestEphemeralContainers:
    def debugged(self, old, **debugger):
        new = {**old, "spec": {**old["spec"], "ephemeralContainers": [app(name="d", **debugger)]}}
        about = {"operation": "UPDATE", "subresource": "ephemeralcontainers", "old": old}
        return new, about

    def test_the_same(self):
        """A container for debugging believes whom the pod believes; options stay the author's."""
        options = {"name": "NODE_OPTIONS", "value": "-r /app/x.js --use-openssl-ca"}
        new, about = self.debugged(injected(asking(app(env=[options]))))
        found = injected(new, **about)["spec"]["ephemeralContainers"][0]
        assert found["volumeMounts"] == [MOUNT, *STORE_MOUNTS]
        assert found["env"] == ENVIRONMENT + STORE_ENVIRONMENT

    def test_without(self):
        """In a pod with its image's roots it has its own image's."""
        new, about = self.debugged(injected(pod(app())))
        found = injected(new, **about)["spec"]["ephemeralContainers"][0]
        assert found["volumeMounts"] == [MOUNT]
        assert found["env"] == ENVIRONMENT

    def test_roots_of_its_own(self):
        """One that brings other roots is left alone, with a warning."""
        variable = {"name": "SSL_CERT_FILE", "value": "/x"}
        new, about = self.debugged(injected(asking(app())), env=[variable])
        decided, answer = outcome(new, **about)
        assert decided.value == "complete"
        assert answer.warnings
