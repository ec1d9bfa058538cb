"""What Prometheus reads: it parses, agrees with the requests sent, and says nothing a client wrote."""

import asyncio
import hashlib
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from lab import END, OK, SSE, Lab, Message, Wire, answer, chunk, post, until
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from router.console.metrics import COUNTERS, HISTOGRAMS, Metrics
from router.fleet.rows import Row
from router.measures import DURATION, Histogram, Sums
from router.proxy.keys import Keys

pytestmark = pytest.mark.anyio
BODY = b'{"model":"m"}'
CHAT = "/v1/chat/completions"
TEXT = "text/plain; version=0.0.4"
OPEN = "application/openmetrics-text; version=1.0.0"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass
class Key:
    name: str
    digest: bytes
    admin: bool = False


async def scraped(lab: Lab, accept: str = TEXT) -> Message:
    return await lab.ask(b"GET /metrics HTTP/1.1\r\nhost: r\r\naccept: %b\r\n\r\n" % accept.encode())


def samples(reply: Message, parse: Any = parse_text) -> Samples:
    assert reply.status == 200
    found: Samples = {}
    for family in parse(reply.body.decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} stands twice"
            found[key] = sample.value
    return found


async def read(lab: Lab) -> Samples:
    return samples(await scraped(lab))


def of(found: Samples, name: str, **labels: str) -> dict[frozenset[tuple[str, str]], float]:
    """All samples of this name with at least these labels."""
    return {key: value for (each, key), value in found.items() if each == name and labels.items() <= dict(key).items()}


def one(found: Samples, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


async def test_before_any_request_it_is_empty_and_parses(lab: Lab) -> None:
    found = await read(lab)
    assert of(found, "router_requests_total") == {}
    assert one(found, "router_requests_in_flight", model="m") == 0
    assert one(found, "router_requests_waiting", model="m") == 0
    assert list(of(found, "router_info").values()) == [1.0]


@pytest.mark.parametrize(
    ("accept", "parse", "kind"),
    [(TEXT, parse_text, b"text/plain"), (OPEN, parse_openmetrics, b"application/openmetrics-text")],
)
async def test_both_forms_say_the_same(lab: Lab, accept: str, parse: Any, kind: bytes) -> None:
    await lab.answering(OK, SSE + chunk(b'data: {"n":1}\n\n') + chunk(b'data: {"n":2}\n\n') + END)
    for _ in range(3):
        wire = await lab.client()
        for _ in range(2):
            await wire.send(post(BODY))
            await wire.response()
    reply = await scraped(lab, accept)
    assert (reply[b"content-type"] or b"").startswith(kind)
    found = samples(reply, parse)
    assert one(found, "router_requests_total", model="m", path=CHAT, status="200") == 6


@pytest.mark.parametrize(
    "accept", ["", "*/*", "text/html", "application/openmetrics-text;version=9.9", "\xff", "x" * 5_000]
)
async def test_any_wish_gets_something_that_parses(lab: Lab, accept: str) -> None:
    reply = await lab.ask(b"GET /metrics HTTP/1.1\r\nhost: r\r\naccept: %b\r\n\r\n" % accept.encode("latin-1"))
    parse = parse_openmetrics if b"openmetrics" in (reply[b"content-type"] or b"") else parse_text
    assert samples(reply, parse)


async def test_it_wants_a_key_where_keys_are_declared(lab: Lab) -> None:
    lab.proxy.keys = Keys([Key("prometheus", hashlib.sha256(b"sk-p").digest())])
    ask = b"GET /metrics HTTP/1.1\r\nhost: r\r\n%b\r\n"
    assert (await lab.ask(ask % b"")).code == "missing_api_key"
    assert (await lab.ask(ask % b"authorization: Bearer sk-x\r\n")).code == "invalid_api_key"
    reply = await lab.ask(ask % b"authorization: Bearer sk-p\r\n")
    assert reply.status == 200
    assert b"sk-p" not in reply.body


async def test_the_counts_are_those_of_the_requests(lab: Lab) -> None:
    usage = answer(b'{"model":"m","usage":{"prompt_tokens":7,"completion_tokens":11}}')
    await lab.answering(usage, usage, answer(b"no", b"text/plain", b"429 Too Many Requests"))
    wire = await lab.client()
    for data in (
        post(BODY),
        post(b'{"model":"alias"}'),
        post(BODY),
        post(b'{"model":"nobody"}'),
        post(b"{"),
        post(BODY, kind=b"a/b"),
    ):
        await wire.send(data)
        await wire.response()
    found = await read(lab)
    assert of(found, "router_requests_total") == {
        frozenset({"model": model, "path": CHAT, "status": status}.items()): float(count)
        for model, status, count in (("m", "200", 2), ("m", "429", 1), ("", "404", 1), ("", "400", 1), ("", "415", 1))
    }
    at = {"model": "m", "path": CHAT}
    assert one(found, "router_prompt_tokens_total", **at) == 14
    assert one(found, "router_completion_tokens_total", **at) == 22
    assert one(found, "router_request_bytes_total", **at) == 13 + 17 + 13
    assert one(found, "router_response_bytes_total", **at) == sum(
        record.response_bytes for record in lab.records if record.model
    )
    assert one(found, "router_request_duration_seconds_count", **at) == 3
    assert one(found, "router_own_seconds_count", **at) == 3
    assert one(found, "router_queue_seconds_count", **at) == 3
    assert not of(found, "router_time_to_first_token_seconds_count", **at)


async def test_a_stream_tells_its_first_token_and_those_between(lab: Lab) -> None:
    async def script(wire: Wire) -> None:
        while await wire.request():
            await wire.send(SSE)
            for number in range(5):
                await wire.send(chunk(b'data: {"n":%d}\n\n' % number))
                await asyncio.sleep(0.01)  # so that each is a read of its own
            await wire.send(END)

    await lab.engine(script)
    for _ in range(2):
        await lab.chat()
    found, at = await read(lab), {"model": "m", "path": CHAT}
    assert one(found, "router_time_to_first_token_seconds_count", **at) == 2
    assert one(found, "router_time_between_tokens_seconds_count", **at) == 8
    assert 0.07 < one(found, "router_time_between_tokens_seconds_sum", **at) < 2


async def test_buckets_grow_and_end_with_the_count(lab: Lab) -> None:
    await lab.answering(OK, SSE + chunk(b"data: 1\n\n") + chunk(b"data: 2\n\n") + END)
    for _ in range(5):
        await lab.chat()
    for parse, accept in ((parse_text, TEXT), (parse_openmetrics, OPEN)):
        found = samples(await scraped(lab, accept), parse)
        for name in HISTOGRAMS:
            counts = of(found, f"{name}_count")
            for key, count in counts.items():
                labels = dict(key)
                buckets = sorted(
                    (float(dict(each)["le"]), value) for each, value in of(found, f"{name}_bucket", **labels).items()
                )
                assert buckets[-1] == (float("inf"), count)
                assert all(low[1] <= high[1] for low, high in pairwise(buckets))
                assert one(found, f"{name}_sum", **labels) >= 0


def test_a_bound_belongs_to_its_bucket() -> None:
    histogram = Histogram(DURATION)
    for value in (0.0, 0.005, 0.0051, 600.0, 600.1, 1e9):
        histogram.observe(value)
    assert (histogram.counts[0], histogram.counts[1], histogram.counts[-2], histogram.counts[-1]) == (2, 1, 1, 2)
    assert sum(histogram.counts) == 6


async def test_nothing_a_client_wrote_is_a_label(lab: Lab) -> None:
    await lab.answering(OK, answer(b"", status=b"599 Nonsense"))
    evil = 'evil"} 1\nrouter_evil'
    body = b'{"model":"%b"}' % evil.replace('"', '\\"').replace("\n", "\\n").encode()
    wire = await lab.client()
    extra = b"x-request-id: evil\r\nx-evil: evil\r\n"
    for data in (
        post(body, extra=extra),
        post(BODY, b"/v1/chat/completions?evil", extra=extra),
        post(b'{"model":"alias"}', extra=extra),
        post(BODY, b"/evil"),
    ):
        await wire.send(data)
        await wire.response()
    for verb in (b"EVIL", b"PATCH"):
        await lab.send(post(BODY).replace(b"POST", verb))
    await until(lambda: len(lab.records) >= 4)
    reply = await scraped(lab)
    assert b"evil" not in reply.body
    assert {dict(key)["model"] for key in of(samples(reply), "router_requests_total")} == {"m", ""}
    assert {dict(key)["path"] for key in of(samples(reply), "router_requests_total")} == {CHAT}


async def test_a_thousand_unknown_names_are_one_series(lab: Lab) -> None:
    wire = await lab.client()
    for number in range(300):
        await wire.send(post(b'{"model":"nobody-%d"}' % number))
        await wire.response()
    found = await read(lab)
    assert of(found, "router_requests_total") == {
        frozenset({"model": "", "path": CHAT, "status": "404"}.items()): 300.0
    }


async def test_what_is_in_flight_and_what_waits_is_told(lab: Lab) -> None:
    async def stuck(wire: Wire) -> None:
        await wire.request()
        await wire.gone(5.0)

    await lab.engine(stuck, limit=1)
    wires = [await lab.send(post(BODY)) for _ in range(3)]
    await until(lambda: lab.model.waiting == 2)
    found = await read(lab)
    assert one(found, "router_requests_in_flight", model="m") == 1
    assert one(found, "router_requests_waiting", model="m") == 2
    for wire in wires:
        wire.reset()
    await until(lambda: not lab.in_work)
    found = await read(lab)
    assert one(found, "router_requests_in_flight", model="m") == one(found, "router_requests_waiting", model="m") == 0
    assert one(found, "router_requests_total", model="m", path=CHAT, status="499") == 3


async def test_each_replica_is_in_one_state(lab: Lab) -> None:
    rows = [row("m", 0, "ready", 0), row("m", 1, "failed", 3), row('b"\\\n', 0, "starting", 1)]
    metrics = Metrics(lab.measures, lab.catalog, lambda: rows)
    text, _ = metrics._render(list(lab.measures.sums.items()), [], rows, TEXT)
    found = samples(Message(b"HTTP/1.1 200 OK", [], text))
    assert of(found, "router_engine_state") == {
        frozenset(
            {"model": each.model, "replica": str(each.replica), "engine": "vllm", "state": each.state}.items()
        ): 1.0
        for each in rows
    }
    assert one(found, "router_engine_restarts_total", model="m", replica="1", engine="vllm") == 3


def row(model: str, replica: int, state: str, restarts: int) -> Row:
    values: dict[str, Any] = dict.fromkeys(Row.__struct_fields__)
    return Row(**values | {"model": model, "replica": replica, "engine": "vllm", "state": state, "restarts": restarts})


async def test_every_family_says_what_it_is(lab: Lab) -> None:
    await lab.answering(OK)
    await lab.chat()
    families = {family.name: family for family in parse_text((await scraped(lab)).body.decode())}
    for name in (*HISTOGRAMS, *COUNTERS, "router_requests", "router_requests_in_flight", "router_info"):
        assert families[name].documentation
    assert {families[name].type for name in HISTOGRAMS} == {"histogram"}
    assert {families[name].type for name in COUNTERS} == {"counter"}
    assert "process_resident_memory_bytes" in families


async def test_scrapes_at_once_and_while_requests_go_on_agree(lab: Lab) -> None:
    await lab.answering(OK)

    async def asking() -> None:
        wire = await lab.client()
        for _ in range(30):
            await wire.send(post(BODY))
            await wire.response()

    asked = asyncio.gather(*(asking() for _ in range(3)))
    totals = []
    while not asked.done():
        found = await read(lab)
        totals.append(sum(of(found, "router_requests_total").values()))
    assert totals == sorted(totals)
    assert sum(of(await read(lab), "router_requests_total").values()) == 90


def test_a_sum_of_nothing_is_nothing() -> None:
    sums = Sums()
    assert not any(any(histogram(sums).counts) for _, histogram in HISTOGRAMS.values())


def test_the_library_is_not_loaded_before_somebody_asks() -> None:
    code = (
        "import sys, router.app, router.console.metrics; print([name for name in sys.modules if 'prometheus' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "[]\n"
