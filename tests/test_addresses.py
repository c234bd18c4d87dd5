"""Which addresses never leave this machine."""

from __future__ import annotations

import pytest

from latent_inv.addresses import stays_here


@pytest.mark.parametrize(
    "target",
    [
        *("127.0.0.1:50051", "localhost:1", "127.9.9.9", "localhost", "[::1]:50051", "::1", "[::1]"),
        *(
            "unix:/run/x.sock",
            "unix:///run/x.sock",
            "unix-abstract:x",
            "dns:///localhost:1",
            "dns://8.8.8.8/localhost:1",
        ),
        *(
            "ipv4:127.0.0.1:1",
            "ipv4:127.0.0.1:1,127.0.0.2:2",
            "ipv6:[::1]:1",
            "dns:localhost:1",
        ),
    ],
)
def test_here(target: str) -> None:
    assert stays_here(target)


@pytest.mark.parametrize(
    "target",
    [
        *(
            "192.0.2.1:50051",
            "example.org:1",
            "localhost.example.org:1",
            "[2001:db8::1]:1",
            "2001:db8::1",
            "0.0.0.0:1",
            "",
        ),
        *("dns:///example.org:1", "dns://127.0.0.1/example.org:1", "ipv4:192.0.2.1:1", "ipv4:127.0.0.1:1,192.0.2.1:1"),
        *(
            "127.0.0.1.example.org:1",
            "xds:///localhost:1",
            "passthrough:localhost",
            "user@localhost:1",
            "https://localhost:1",
            "//localhost:1x/example.org",
        ),
    ],
)
def test_elsewhere(target: str) -> None:
    assert not stays_here(target)
