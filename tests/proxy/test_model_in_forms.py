"""`model` in a multipart form on its way in: the field's text is replaced, and no other byte of the form."""
# ruff: noqa: E501 - what goes over a wire is told best in one line

import os
import sys

import pytest
from lab import OK, Lab, post

from router.errors import InvalidRequest
from router.proxy.multipart import Form

pytestmark = pytest.mark.anyio

PATH = b"/v1/audio/transcriptions"
MODEL = b'Content-Disposition: form-data; name="model"\r\n\r\nm'
FILE = b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
LOOK_ALIKES = b'\r\n--B\nmodel\r\n-B\r\nname="model"\r\n\r\nm\r\n\x00\xff--B--' + bytes(range(256))


def form(*parts: bytes, boundary: bytes = b"B") -> bytes:
    return b"".join(b"--%b\r\n%b\r\n" % (boundary, part) for part in parts) + b"--%b--\r\n" % boundary


def request(body: bytes, boundary: bytes = b"B", path: bytes = PATH) -> bytes:
    return post(body, path, kind=b"multipart/form-data; boundary=" + boundary)


@pytest.mark.parametrize(
    "parts",
    [
        (MODEL,),
        (MODEL, FILE + b"sound"),
        (FILE + b"sound", MODEL),
        (FILE + os.urandom(300_000), MODEL, b'Content-Disposition: form-data; name="language"\r\n\r\nm'),
        (FILE + LOOK_ALIKES.replace(b"\r\n--B", b"\r\n--C"), MODEL),
        (MODEL, FILE + b'{"model":"m"}\r\n\r\nContent-Disposition: form-data; name="model"\r\n\r\nm'),
        (b'Content-Disposition: form-data; name="file"; filename="model"\r\n\r\nm', MODEL),
        (b'Content-Disposition: form-data; name="model"; filename="x"\r\n\r\nfile', MODEL),
        (b'Content-Disposition: form-data; name="model_"\r\n\r\nm', MODEL),
        (b"content-disposition:form-data;name=model\r\n\r\nm",),
        (b"X-A: name=\"model\"\r\nContent-Type: text/plain; charset=utf-8\r\nCONTENT-DISPOSITION: Form-Data; NAME=model\r\n\r\nm",),
        (b'Content-Disposition: form-data; filename="C:\\a;name=model"; name="file"\r\n\r\n', MODEL),
        (b'Content-Disposition: form-data; name="empty"\r\n\r\n', MODEL),
    ],
)  # fmt: skip
async def test_only_the_field_is_replaced(lab: Lab, parts: tuple[bytes, ...]) -> None:
    engine = await lab.answering(OK, served="inner/é")
    body = form(*parts)
    assert (await lab.ask(request(body))).status == 200
    start, end = body.index(MODEL_PART(parts)), body.index(MODEL_PART(parts)) + len(MODEL_PART(parts))
    assert engine.requests[0].body == body[: end - 1] + "inner/é".encode() + body[end:]
    assert engine.requests[0][b"content-type"] == b"multipart/form-data; boundary=B"
    assert start >= 0


def MODEL_PART(parts: tuple[bytes, ...]) -> bytes:  # noqa: N802
    return MODEL if MODEL in parts else parts[-1]


@pytest.mark.parametrize("boundary", [b'"B"', b"B", b"B; charset=utf-8", b"B ; a=b", b'"B";a=b'])
async def test_the_boundary_may_be_quoted_and_followed(lab: Lab, boundary: bytes) -> None:
    engine = await lab.answering(OK, served="inner")
    assert (await lab.ask(request(form(MODEL), boundary))).status == 200
    assert engine.requests[0].body == form(MODEL[:-1] + b"inner")


async def test_a_preamble_and_an_epilogue_are_passed_on(lab: Lab) -> None:
    engine = await lab.answering(OK, served="inner")
    await lab.ask(request(b"before\r\n" + form(MODEL) + b"after"))
    assert engine.requests[0].body == b"before\r\n" + form(MODEL[:-1] + b"inner") + b"after"


async def test_equal_names_leave_the_form_as_it_is(lab: Lab) -> None:
    engine = await lab.answering(OK)
    body = form(FILE + os.urandom(100_000), MODEL)
    await lab.ask(request(body))
    assert engine.requests[0].body == body


@pytest.mark.parametrize("size", range(1, 9))
async def test_a_form_may_come_in_pieces_of_any_size(lab: Lab, size: int) -> None:
    engine = await lab.answering(OK, served="inner")
    data = request(form(FILE + LOOK_ALIKES[:30].replace(b"--B", b"--C"), MODEL))
    wire = await lab.client()
    for at in range(0, len(data), size):
        await wire.send(data[at : at + size])
    assert (await wire.response()).status == 200
    assert engine.requests[0].body.endswith(b'name="model"\r\n\r\ninner\r\n--B--\r\n')


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_form"),
        (b"nothing", "invalid_form"),
        (form(MODEL)[:-4], "invalid_form"),
        (b"--B\r\n" + MODEL, "invalid_form"),
        (b"--B\r\nno head at all\r\n--B--\r\n", "invalid_form"),
        (b"--B--\r\n", "missing_model"),
        (form(FILE + b"x"), "missing_model"),
        (form(MODEL[:-1]), "missing_model"),
        (form(b'Content-Disposition: form-data; name="model"; filename="m"\r\n\r\nm'), "missing_model"),
        (form(MODEL[:-1] + b"\xff"), "missing_model"),
        (form(MODEL, MODEL), "duplicate_model"),
        (form(FILE + b"\r\n--Boom\r\n", MODEL), "invalid_form"),
        (form(b"\r\n\r\nm", MODEL), "invalid_form"),
        (form(b'Content-Disposition: form-data; name="model"; name="x"\r\n\r\nm'), "invalid_form"),
        (form(b'Content-Disposition: form-data; name="mod\\el"\r\n\r\nm', MODEL), "invalid_form"),
        (form(b"Content-Disposition: form-data; name*=utf-8''model\r\n\r\nm", MODEL), "invalid_form"),
        (form(b'Content-Disposition: form-data; name="model\r\n\r\nm', MODEL), "invalid_form"),
        (form(b'Content-Disposition: form-data;\r\n name="model"\r\n\r\nm', MODEL), "invalid_form"),
        (form(b'Content-Disposition: form-data; name="a"\r\nContent-Disposition: form-data; name="model"\r\n\r\nm', MODEL),
         "invalid_form"),
        (form(*([b'Content-Disposition: form-data; name="a"\r\n\r\n'] * 1100), MODEL), "invalid_form"),
    ],
)  # fmt: skip
async def test_a_form_that_readers_could_take_differently_is_refused(lab: Lab, body: bytes, code: str) -> None:
    engine = await lab.answering(OK)
    reply = await lab.ask(request(body))
    assert (reply.status, reply.code) == (400, code)
    assert not engine.wires


@pytest.mark.parametrize(
    "kind", [b"multipart/form-data", b"multipart/form-data; boundary=", b"multipart/form-data; boundary=a b"]
)
async def test_a_form_without_a_boundary_is_refused(lab: Lab, kind: bytes) -> None:
    reply = await lab.ask(post(form(MODEL), PATH, kind=kind))
    assert (reply.status, reply.code) == (400, "invalid_form")


async def test_data_full_of_line_ends_holds_nobody_up(lab: Lab) -> None:
    engine = await lab.answering(OK, served="inner")
    assert (await lab.ask(request(form(FILE + b"\r\n--" * 200_000, MODEL)))).status == 200
    assert engine.requests


def outcome(*pieces: bytes) -> object:
    found = Form("multipart/form-data; boundary=B")
    try:
        for piece in pieces:
            found.feed(piece)
        found.end()
        found.name_in(b"".join(pieces))
    except InvalidRequest as error:
        return error.code
    return found.begin, found.model


@pytest.mark.parametrize(
    "body",
    [
        form(FILE + LOOK_ALIKES.replace(b"\r\n--B", b"\r\n--C"), MODEL),
        b"before\r\n" + form(MODEL, FILE + b"\r\n-\r\n--\r\r\n--") + b"after\r\n--B",
        form(MODEL[:-5], MODEL),
        form(MODEL, b'Content-Disposition: form-data; name="a"\r\n\r\n')[:-3],
        form(MODEL, FILE, MODEL),
        form(MODEL, FILE + b"\r\n--Boom\r\n"),
        b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n--B\r\n' + MODEL + b"\r\n--B--",
        b"--B\r\nno head\r\n--B\r\n" + MODEL + b"\r\n--B--\r\n",
        b"\r\n--B" + form(MODEL),
        b"",
    ],
)
def test_a_form_is_the_same_however_it_is_cut(body: bytes) -> None:
    whole = outcome(body)
    assert outcome(*(body[at : at + 1] for at in range(len(body)))) == whole
    for cut in range(len(body)):
        assert outcome(body[:cut], body[cut:]) == whole


def test_what_was_read_of_a_form_is_not_kept() -> None:
    found = Form("multipart/form-data; boundary=B")
    found.feed(form(MODEL, FILE)[: -len(b"\r\n--B--\r\n")])
    for _ in range(100):
        found.feed(b"\r\n--" * 10_000)
        assert sys.getsizeof(found._held) < 200
    for end in (b"", b"\r\n\r\n"):
        found = Form("multipart/form-data; boundary=B")
        with pytest.raises(InvalidRequest, match="16384 bytes of headers"):
            found.feed(b"--B\r\nX: " + b"y" * 20_000 + end)
