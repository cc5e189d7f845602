# SPDX-License-Identifier: Apache-2.0
"""What a pod may choose, what it gets when it does not, and what it is told when it may not."""

from datetime import timedelta

import pytest

from kubetls_sdk.testing import DevelopmentCA
from webhook.choice import Choice, choose, duration_text, is_selected, refuse_unknown
from webhook.config import KeyType, Mode, PlatformConfig, TrustStore
from webhook.exceptions import AdmissionDenied

PREFIX = "kubetls.gauntletwizard.net"


def partner(name, namespaces):
    pem = DevelopmentCA(f"{name}.example").bundle.to_pem().decode()
    lines = "\n".join(f"      {line}" for line in pem.splitlines())
    return (
        f"  - name: {name}\n    trustDomain: {name}.example\n"
        f"    namespaces: {namespaces}\n    bundle: |\n{lines}\n"
    )


@pytest.fixture(scope="module")
def config():
    return PlatformConfig.parse(
        "version: 1\n"
        "zones:\n"
        "  - {name: default, trustDomain: example.org}\n"
        "  - {name: pci, trustDomain: pci.example}\n"
        f"partners:\n{partner('acme', '[shop]')}{partner('other', '[shop, lab]')}"
        "  - {name: card, zone: pci, namespaces: [shop]}\n"
        "namespaces:\n"
        "  - names: [shop]\n"
        "    zones: [default, pci]\n"
        "    modes: [pod-certificate, secret]\n"
        "    keyTypes: [ECDSAP256, ED25519]\n"
        "    lifetime: {default: 24h, maximum: 7d}\n"
        "    mountPaths: [/run/secrets/workload-spiffe-credentials, /etc/identity]\n"
        "  - {names: [lab], inject: labelled}\n"
    )


def chosen(config, namespace="shop", **annotations):
    names = {f"{PREFIX}/{name.replace('_', '-')}": each for name, each in annotations.items()}
    return choose(config, namespace, names)


class TestChoose:
    def test_without_annotations(self, config):
        """A pod that says nothing gets the first of everything, no partners, and no fixed mode."""
        assert chosen(config) == Choice(
            zone=config.zones["default"],
            partners=(),
            key_type=KeyType.ECDSA_P256,
            lifetime=timedelta(days=1),
            mount_path="/run/secrets/workload-spiffe-credentials",
            mode=None,
            modes=(Mode.POD_CERTIFICATE, Mode.SECRET),
            trust_store=TrustStore.IMAGE,
        )

    def test_with_all_annotations(self, config):
        """Each annotation is taken where the rule of the namespace lists its value."""
        choice = chosen(
            config,
            zone="pci",
            partners="other, acme",
            key_type="ED25519",
            lifetime="90m",
            mount_path="/etc/identity",
            mode="secret",
            trust_store="internal",
        )
        assert choice == Choice(
            zone=config.zones["pci"],
            partners=(config.partners["other"], config.partners["acme"]),
            key_type=KeyType.ED25519,
            lifetime=timedelta(minutes=90),
            mount_path="/etc/identity",
            mode=Mode.SECRET,
            modes=(Mode.SECRET,),
            trust_store=TrustStore.INTERNAL,
        )

    def test_other_peoples_annotations(self, config):
        """Keys without our prefix mean nothing to us."""
        assert choose(config, "shop", {"example.com/zone": "x", "zone": "x"}) == chosen(config)

    @pytest.mark.parametrize(
        ("annotations", "message"),
        [
            pytest.param(
                {"zone": "none"},
                f"annotation {PREFIX}/zone: expected one of 'default', 'pci', got 'none'",
                id="zone",
            ),
            pytest.param(
                {"zone": ""},
                f"annotation {PREFIX}/zone: expected one of 'default', 'pci', got ''",
                id="empty zone",
            ),
            pytest.param(
                {"key_type": "RSA4096"},
                f"annotation {PREFIX}/key-type: expected one of 'ECDSAP256', 'ED25519',"
                " got 'RSA4096'",
                id="key type",
            ),
            pytest.param(
                {"mount_path": "/etc/identity/"},
                f"annotation {PREFIX}/mount-path: expected one of"
                " '/run/secrets/workload-spiffe-credentials', '/etc/identity',"
                " got '/etc/identity/'",
                id="mount path",
            ),
            pytest.param(
                {"mode": "csi"},
                f"annotation {PREFIX}/mode: expected one of 'pod-certificate', 'secret', got 'csi'",
                id="mode",
            ),
            pytest.param(
                {"trust_store": "web"},
                f"annotation {PREFIX}/trust-store: expected one of 'image', 'internal', got 'web'",
                id="trust store",
            ),
            pytest.param(
                {"partners": "acme,evil"},
                f"annotation {PREFIX}/partners: expected one of 'acme', 'other', 'card',"
                " got 'evil'",
                id="partner",
            ),
            pytest.param(
                {"partners": "acme,"},
                f"annotation {PREFIX}/partners: expected one of 'acme', 'other', 'card', got ''",
                id="no partner after the comma",
            ),
        ],
    )
    def test_what_is_not_allowed(self, config, annotations, message):
        """A refusal names the annotation, all that may stand there, and what stands there."""
        with pytest.raises(AdmissionDenied) as refused:
            chosen(config, **annotations)
        assert message == str(refused.value)

    @pytest.mark.parametrize("text", ["59m", "8d", "1", "", "1h ", "-1h", "1.5h", "9999999d", "²h"])
    def test_lifetimes_out_of_bounds(self, config, text):
        """A lifetime below an hour, above the maximum, or without a unit is refused."""
        with pytest.raises(AdmissionDenied) as refused:
            chosen(config, lifetime=text)
        expected = f"annotation {PREFIX}/lifetime: expected a duration from 1h to 7d, got {text!r}"
        assert expected == str(refused.value)

    @pytest.mark.parametrize("text", ["1h", "60m", "3600s", "7d", "168h"])
    def test_lifetimes_at_the_bounds(self, config, text):
        """The shortest and the longest lifetime are allowed."""
        assert chosen(config, lifetime=text).lifetime in (timedelta(hours=1), timedelta(days=7))

    def test_a_zone_as_partner(self, config):
        """A pod of another zone has its bundle; one of that zone has it anyway, and not twice."""
        assert chosen(config, partners="card").partners == (config.partners["card"],)
        assert chosen(config, zone="pci", partners="card, acme").partners == (
            config.partners["acme"],
        )

    def test_partners_of_other_namespaces(self, config):
        """A partner that a namespace may not see is not named to it either."""
        with pytest.raises(AdmissionDenied) as refused:
            chosen(config, "lab", partners="acme")
        assert str(refused.value).endswith("expected one of 'other', got 'acme'")

    def test_a_namespace_without_a_rule(self, config):
        """Where no rule names the namespace, nothing is chosen."""
        with pytest.raises(AdmissionDenied) as refused:
            chosen(config, "elsewhere")
        expected = "namespace 'elsewhere' has no rule in the platform's configuration"
        assert expected == str(refused.value)

    def test_long_values_are_cut(self, config):
        """A quarter of a megabyte in an annotation does not come back in the message."""
        with pytest.raises(AdmissionDenied) as refused:
            chosen(config, zone="x" * 250_000)
        assert len(str(refused.value)) < 300


class TestIsSelected:
    @pytest.mark.parametrize(
        ("namespace", "label", "expected"),
        [
            ("shop", None, True),
            ("shop", "true", True),
            ("shop", "false", False),
            ("lab", None, False),
            ("lab", "true", True),
            ("lab", "false", False),
        ],
    )
    def test_label_and_rule(self, config, namespace, label, expected):
        """The pod's label decides, and where there is none the rule of the namespace."""
        labels = {} if label is None else {f"{PREFIX}/inject": label}
        assert is_selected(config.rule_for(namespace), labels) is expected

    @pytest.mark.parametrize("label", ["yes", "True", ""])
    def test_other_values(self, config, label):
        """A label that is neither true nor false is refused: a slip must not mean `no`."""
        with pytest.raises(AdmissionDenied, match=r"label .*/inject: expected one of 'true', 'fal"):
            is_selected(config.rule_for("shop"), {f"{PREFIX}/inject": label})


class TestRefuseUnknown:
    def test_known_and_foreign(self):
        """Our own annotations and everybody else's pass."""
        names = ("zone", "partners", "key-type", "lifetime", "mount-path", "mode", "trust-store")
        ours = [f"{PREFIX}/{name}" for name in (*names, "injected", "secret")]
        refuse_unknown([*ours, "example.com/zones", f"x.{PREFIX}/zones"])

    def test_a_slip(self):
        """An unknown annotation of our prefix is refused with those that exist."""
        with pytest.raises(AdmissionDenied, match=r"unknown annotation '.*/zones', .*/zone, "):
            refuse_unknown([f"{PREFIX}/zones"])

    def test_a_label_as_an_annotation(self):
        """`inject` is a label: as an annotation it would silently mean nothing."""
        with pytest.raises(AdmissionDenied, match="/inject is a label, got an annotation"):
            refuse_unknown([f"{PREFIX}/inject"])


@pytest.mark.parametrize(
    ("seconds", "expected"), [(3600, "1h"), (5400, "90m"), (604800, "7d"), (61, "61s")]
)
def test_duration_text(seconds, expected):
    """A duration is written in the largest unit that divides it."""
    assert expected == duration_text(timedelta(seconds=seconds))
