# SPDX-License-Identifier: Apache-2.0
"""The bodies that the signer sends with its statuses."""

from __future__ import annotations

from webhook.signing.statuses import with_status


class TestWithStatus:
    def test_what_whoever_asked_wrote_stays(self):
        """The API server takes a request's labels from us: without them nobody finds it again."""
        metadata = {
            "name": "kubetls-1",
            "uid": "u",
            "resourceVersion": "7",
            "labels": {"kubetls.gauntletwizard.net/node": "node-1"},
            "annotations": {"example.org/asked": "now"},
        }
        request = {"metadata": {**metadata, "managedFields": [{}]}, "spec": {"request": "r"}}
        body = with_status(request, {"certificate": "c"})
        assert body == {
            "metadata": metadata,
            "spec": {"request": "r"},
            "status": {"certificate": "c"},
        }
