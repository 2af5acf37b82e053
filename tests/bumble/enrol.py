#!/usr/bin/env python3
"""Enrols a card: makes its key, proves that it holds it, and writes what the phone needs to a file.
Section 14."""

import argparse
import json
import os
import secrets
import socket
import ssl
import sys
import urllib.parse

import h2.config
import h2.connection
import h2.events

import credentials
import wallet
from messages import decode, encode

METHOD = "/florin.institution.v1.Enrolment/EnrolCard"
TIMEOUT_S = 30


def call(url, root_certificate, method, request):
    """One unary gRPC call over TLS 1.3: the answer's octets."""
    address = urllib.parse.urlsplit(url)
    context = ssl.create_default_context(cafile=root_certificate)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((address.hostname, address.port or 443), TIMEOUT_S) as plain:
        with context.wrap_socket(plain, server_hostname=address.hostname) as stream:
            return _exchange(stream, address.netloc, method, request)


def _exchange(stream, authority, method, request):
    http = h2.connection.H2Connection(
        h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
    )
    http.initiate_connection()
    number = http.get_next_available_stream_id()
    http.send_headers(
        number,
        [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", authority),
            (":path", method),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ],
    )
    uncompressed = b"\0"
    http.send_data(
        number, uncompressed + len(request).to_bytes(4, "big") + request, end_stream=True
    )
    stream.sendall(http.data_to_send())
    headers, body, ended = {}, b"", False
    while not ended:
        received = stream.recv(65536)
        if not received:
            raise SystemExit("the institution closed the connection")
        for event in http.receive_data(received):
            if isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived)):
                headers.update(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                body += event.data
                http.acknowledge_received_data(event.flow_controlled_length, number)
            elif isinstance(event, h2.events.StreamReset):
                raise SystemExit(f"the institution reset the request: {event.error_code}")
            elif isinstance(event, h2.events.StreamEnded):
                ended = True
        stream.sendall(http.data_to_send())
    if headers.get("grpc-status") != "0":
        raise SystemExit(
            f"the institution refused: status {headers.get('grpc-status')}, "
            + urllib.parse.unquote(headers.get("grpc-message", ""))
        )
    if (
        len(body) < 5
        or body[:1] != uncompressed
        or int.from_bytes(body[1:5], "big") != len(body) - 5
    ):
        raise SystemExit("the institution's answer is not one message")
    return body[5:]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--institution", required=True, help="https://HOST:PORT")
    parser.add_argument(
        "--root",
        required=True,
        help="the certificate that the institution's TLS is checked against",
    )
    parser.add_argument("--card", required=True, help="the file to write")
    parser.add_argument("code")
    arguments = parser.parse_args()
    if os.path.exists(arguments.card):
        raise SystemExit(f"{arguments.card} is there already")
    private_key = secrets.token_bytes(32)
    answer = decode(
        "EnrolCardResponse",
        call(
            arguments.institution,
            arguments.root,
            METHOD,
            encode(
                "EnrolCardRequest",
                code=arguments.code,
                card_public_key=credentials.card_public_key(private_key),
                proof=credentials.enrolment_proof(private_key, arguments.code),
            ),
        ),
    )
    # Made, so that a keyring which the root key did not sign is refused here.
    card = wallet.Card(
        card_id=answer.card_id,
        private_key=private_key,
        root_public_key=answer.root_public_key,
        keyring=answer.keyring,
        currency=answer.currency,
        payment_limit_minor=answer.payment_limit_minor,
    )
    wallet.save(arguments.card, card)
    json.dump(
        {
            "card": card.card_id.hex()[-4:],
            "currency": card.currency,
            "limit_minor": card.payment_limit_minor,
        },
        sys.stdout,
    )
    print()


if __name__ == "__main__":
    main()
