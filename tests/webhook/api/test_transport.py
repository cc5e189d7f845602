# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import json
import ssl
import time
from email.utils import formatdate

import pytest
from aiohttp import web

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.testing import DevelopmentCA
from tests.webhook.api.rude_server import RudeServer, break_off, hang, refusal
from webhook.api import Api, ApiError, ConflictError, InvalidError, UnreachableError
from webhook.api.api_server import ApiServer
from webhook.api.credentials import Credentials
from webhook.api.requests import Request
from webhook.api.resources import CONFIG_MAPS, PODS

pytestmark = pytest.mark.anyio

WEB = {"metadata": {"name": "web", "namespace": "shop", "resourceVersion": "3"}}


async def text(_request):
    return web.Response(text="<html>not JSON</html>")


async def redirect(_request):
    raise web.HTTPFound("/elsewhere")


def dated(header):
    async def answer(_request):
        return web.json_response(WEB, headers={"Date": header})

    return answer


class TestRepetition:
    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    async def test_a_read_is_repeated_after_trouble(self, api, server, status):
        """A read changes nothing, so it is sent again."""
        server.answer(refusal(status), WEB)
        assert await api.get(PODS, "web", namespace="shop") == WEB
        assert len(server.requests) == 2

    async def test_a_read_is_repeated_after_a_broken_connection(self, api, server):
        """No answer is trouble too."""
        server.answer(break_off, break_off, WEB)
        assert await api.get(PODS, "web", namespace="shop") == WEB

    async def test_a_write_that_was_refused_unread_is_repeated(self, api, server):
        """429 says that nothing was done, and asks to come again."""
        server.answer(refusal(429, "TooManyRequests", retry_after=0), WEB)
        assert await api.create(PODS, WEB) == WEB
        assert [request.method for request in server.requests] == ["POST", "POST"]

    async def test_a_write_without_an_answer_is_not_repeated(self, api, server):
        """It may have been carried out."""
        server.answer(break_off, WEB)
        with pytest.raises(UnreachableError) as caught:
            await api.create(PODS, WEB)
        assert (caught.value.is_retryable, len(server.requests)) == (True, 1)

    async def test_a_write_that_failed_inside_is_not_repeated(self, api, server):
        """A 500 without Retry-After may have come after the write."""
        server.answer(refusal(500, "InternalError"), WEB)
        with pytest.raises(ApiError):
            await api.patch(PODS, WEB)
        assert len(server.requests) == 1

    async def test_the_server_s_pause_is_kept(self, api, server):
        """`Retry-After: 1` is at least a second."""
        server.answer(refusal(429, retry_after=1), WEB)
        started = time.monotonic()
        await api.get(PODS, "web", namespace="shop")
        assert time.monotonic() - started >= 1

    async def test_a_pause_beyond_the_deadline_is_not_waited_for(self, api, server):
        """An error now is worth more than one later."""
        server.answer(refusal(429, retry_after=3600))
        with pytest.raises(ApiError) as caught:
            await api.get(PODS, "web", namespace="shop")
        assert caught.value.retry_after == 60

    @pytest.mark.parametrize("header", ["-1", "soon", "Wed, 21 Oct 2026 07:28:00 GMT", "1e9"])
    async def test_a_pause_that_is_no_number_is_ignored(self, api, server, header):
        """Our own back-off is used."""
        server.answer(refusal(503, retry_after=header), WEB)
        assert await api.get(PODS, "web", namespace="shop") == WEB

    async def test_a_refusal_is_not_repeated(self, api, server):
        """A conflict stays one."""
        server.answer(refusal(409, "Conflict"), WEB)
        with pytest.raises(ConflictError):
            await api.replace(PODS, WEB)
        assert len(server.requests) == 1


class TestDeadline:
    async def test_a_server_that_says_nothing_is_given_up(self, api, server):
        """Each request has a deadline."""
        server.answer(hang)
        with pytest.raises(UnreachableError):
            await api._transport.send(Request("GET", "/version", "get version"), seconds=0.2)

    async def test_repetitions_share_it(self, api, server):
        """A server in trouble does not hold a caller longer than a silent one."""
        server.answer(refusal(503))
        started = time.monotonic()
        with pytest.raises(ApiError):
            await api._transport.send(Request("GET", "/version", "get version"), seconds=0.5)
        assert time.monotonic() - started < 2

    async def test_a_cancelled_request_ends_at_once(self, api, server):
        """A replica that ends waits for nobody."""
        server.answer(hang)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await api.get(PODS, "web", namespace="shop")


class TestAnswer:
    async def test_one_that_is_not_json_is_an_error(self, api, server):
        """A proxy's page is no object."""
        server.answer(text)
        with pytest.raises(UnreachableError, match="not JSON"):
            await api.create(PODS, WEB)

    async def test_many_writes_share_the_pool(self, api, server):
        """Hundreds in flight are all answered."""
        server.answer(WEB)
        await asyncio.gather(*(api.replace(PODS, WEB) for _ in range(300)))
        assert len(server.requests) == 300

    async def test_the_observer_sees_each_request(self, server):
        """Method, status and seconds, for metrics."""
        seen = []
        server.answer(refusal(429, retry_after=0), WEB)
        credentials = Credentials(ApiServer(host=server.url))
        async with Api(credentials, observe=lambda *each: seen.append(each[:2])) as api:
            await api.create(PODS, WEB)
        assert seen == [("POST", 429), ("POST", 200)]

    async def test_a_body_arrives_as_it_is(self, api, server):
        """Text of any kind, and no field of another's making."""
        body = {"metadata": {"name": "c", "namespace": "shop"}, "data": {"k": 'é"\n\u2028'}}
        server.answer(body)
        await api.create(CONFIG_MAPS, body)
        assert json.loads(server.requests[0].body) == {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            **body,
        }


class TestClock:
    @pytest.mark.parametrize("ahead", [0, 7200, -7200])
    async def test_it_is_compared_with_the_server_s(self, api, server, ahead):
        """By the Date of each answer."""
        assert api.clock_ahead is None
        server.answer(dated(formatdate(time.time() - ahead, usegmt=True)))
        await api.get(PODS, "web", namespace="shop")
        assert abs(api.clock_ahead - ahead) < 5

    @pytest.mark.parametrize("header", ["yesterday", "", "Mon, 99 Foo 2026 00:00:00 GMT"])
    async def test_what_is_no_date_says_nothing(self, api, server, header):
        """It is no error either."""
        server.answer(dated(header))
        assert await api.get(PODS, "web", namespace="shop") == WEB
        assert api.clock_ahead is None


class TestLife:
    async def test_a_closed_client_says_so(self, server):
        """It does not open a pool of its own accord."""
        api = Api(Credentials(ApiServer(host=server.url)))
        with pytest.raises(UnreachableError, match="not open"):
            await api.create(PODS, WEB)

    async def test_closing_ends_what_runs(self, server):
        """A request in flight ends with an error of ours."""
        server.answer(hang)
        async with Api(Credentials(ApiServer(host=server.url))) as api:
            request = asyncio.ensure_future(api.create(PODS, WEB))
            await server.came.wait()
        with pytest.raises(UnreachableError):
            await request

    async def test_no_server_is_unreachable(self, anyio_backend):
        """A refused connection is an error of ours that may pass."""
        async with RudeServer() as gone:
            pass
        async with Api(Credentials(ApiServer(host=gone.url))) as api:
            with pytest.raises(UnreachableError) as caught:
                await api.create(PODS, WEB)
        assert (caught.value.status, caught.value.is_retryable) == (0, True)


class TestAuthentication:
    async def test_a_new_token_is_read_when_the_old_one_is_refused(self, server, tmp_path):
        """The kubelet has replaced it; the request is sent again, once."""
        token = tmp_path / "token"
        token.write_text("first")
        credentials = Credentials(ApiServer(host=server.url), token_file=token)

        async def refuse_and_replace(request):
            token.write_text("second\n")
            return await refusal(401, "Unauthorized")(request)

        server.answer(refuse_and_replace, WEB)
        async with Api(credentials) as api:
            await api.create(PODS, WEB)
        sent = [request.headers["Authorization"] for request in server.requests]
        assert sent == ["Bearer first", "Bearer second"]

    async def test_a_token_that_stays_refused_is_an_error(self, server, tmp_path):
        """It is not tried for ever, and is not in the message."""
        token = tmp_path / "token"
        token.write_text("s3cr3t")
        server.answer(refusal(401, "Unauthorized", message="who are you"))
        async with Api(Credentials(ApiServer(host=server.url), token_file=token)) as api:
            with pytest.raises(ApiError) as caught:
                await api.create(PODS, WEB)
        assert (caught.value.status, len(server.requests)) == (401, 1)
        assert "s3cr3t" not in f"{caught.value}{caught.value!r}{api!r}"


class TestOthersTokens:
    """Requests of others, with nothing but their own tokens, over one pool of connections."""

    async def test_each_request_has_its_own(self, server, tmp_path):
        """Neither our token nor the one of another's request before it."""
        file = tmp_path / "token"
        file.write_text("ours")
        server.answer(WEB)
        async with (
            Api(Credentials(ApiServer(host=server.url), token_file=file)) as api,
            api.anonymous() as guests,
        ):
            await asyncio.gather(*(guests.with_token(f"t{n}").create(PODS, WEB) for n in range(9)))
            await api.create(PODS, WEB)
        sent = [request.headers.get("Authorization") for request in server.requests]
        assert sorted(sent) == ["Bearer ours", *(f"Bearer t{n}" for n in range(9))]

    async def test_nobody(self, server, tmp_path):
        """Without a token nobody asks, and ours is not taken instead."""
        file = tmp_path / "token"
        file.write_text("ours")
        server.answer(refusal(401, "Unauthorized"))
        credentials = Credentials(ApiServer(host=server.url), token_file=file)
        async with Api(credentials) as api, api.anonymous() as guests:
            for guest in (guests, guests.with_token("t")):
                with pytest.raises(ApiError) as caught:
                    await guest.create(PODS, WEB)
                assert caught.value.status == 401
        sent = [request.headers.get("Authorization") for request in server.requests]
        assert sent == [None, "Bearer t"]

    def test_a_client_certificate(self):
        """An API server believes the certificate of the connection before any token."""
        credentials = Credentials(ApiServer(host="https://10.0.0.1", cert_file="client.pem"))
        with pytest.raises(ConfigurationError, match="client certificate"):
            credentials.with_token("t")
        assert credentials.anonymous().with_token("t").server.cert_file is None

    @pytest.mark.parametrize("token", ["", "a b", "a\r\nX: y", "ä"], ids=repr)
    async def test_no_token(self, server, token):
        """What could be more than a token is not sent, and not shown."""
        async with Api(Credentials(ApiServer(host=server.url))).anonymous() as guests:
            with pytest.raises(InvalidError) as caught:
                guests.with_token(token)
        assert not server.requests
        assert str(caught.value) == "expected one bearer token"

    async def test_never_shown(self, server):
        """Not in a representation, and not in an error."""
        server.answer(refusal(403, "Forbidden"))
        async with Api(Credentials(ApiServer(host=server.url))).anonymous() as guests:
            guest = guests.with_token("s3cr3t")
            with pytest.raises(ApiError) as caught:
                await guest.create(PODS, WEB)
        assert "s3cr3t" not in f"{caught.value}{caught.value!r}{guest!r}{guest._transport!r}"


@pytest.fixture
def authority():
    return DevelopmentCA("cluster.example")


@pytest.fixture
async def tls_server(anyio_backend, authority, tmp_path):
    """An API server's port: TLS with a certificate for 127.0.0.1 is asked for, ours has none."""
    svid = authority.issue(dns_names=("localhost",))
    (tmp_path / "chain.pem").write_bytes(svid.certificates_pem())
    (tmp_path / "key.pem").write_bytes(svid.private_key_pem())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "chain.pem", tmp_path / "key.pem")
    seen = []

    async def serve(request):
        seen.append(request.path)
        return web.json_response({"major": "1", "minor": "37"})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    yield f"https://localhost:{site._server.sockets[0].getsockname()[1]}", seen
    await runner.cleanup()


def authority_file(authority, path):
    path.write_bytes(authority.bundle.to_pem())
    return str(path)


class TestVerification:
    async def test_the_cluster_s_ca_is_believed(self, tls_server, authority, tmp_path):
        """Its certificate for the right name opens the connection."""
        url, _ = tls_server
        ca = authority_file(authority, tmp_path / "ca.crt")
        async with Api(Credentials(ApiServer(host=url, ssl_ca_cert=ca))) as api:
            assert await api.version() == (1, 37)

    async def test_no_other_ca_is(self, tls_server, tmp_path):
        """Nothing is sent to a server that another CA vouches for."""
        url, seen = tls_server
        ca = authority_file(DevelopmentCA("evil.example"), tmp_path / "ca.crt")
        async with Api(Credentials(ApiServer(host=url, ssl_ca_cert=ca))) as api:
            with pytest.raises(UnreachableError):
                await api.create(PODS, WEB)
        assert seen == []

    async def test_another_name_is_not_believed(self, tls_server, authority, tmp_path):
        """The certificate must be for the address that was asked."""
        url, seen = tls_server
        ca = authority_file(authority, tmp_path / "ca.crt")
        address = url.replace("localhost", "127.0.0.1")
        async with Api(Credentials(ApiServer(host=address, ssl_ca_cert=ca))) as api:
            with pytest.raises(UnreachableError):
                await api.create(PODS, WEB)
        assert seen == []

    async def test_a_replaced_ca_is_taken_in(self, tls_server, authority, tmp_path):
        """The file is read again when verification fails; no restart is needed."""
        url, _ = tls_server
        ca = authority_file(DevelopmentCA("old.example"), tmp_path / "ca.crt")
        async with Api(Credentials(ApiServer(host=url, ssl_ca_cert=ca))) as api:
            authority_file(authority, tmp_path / "ca.crt")
            assert await api.version() == (1, 37)

    async def test_a_missing_ca_is_a_configuration_error(self, tmp_path):
        """It never means the system's CAs."""
        configuration = ApiServer(host="https://h", ssl_ca_cert=str(tmp_path / "none"))
        with pytest.raises(ConfigurationError):
            Api(Credentials(configuration))
