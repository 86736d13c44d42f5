"""Addresses of devices: what is read, what is refused, and that a profile takes no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from edgeq.core.errors import InvalidInput
from edgeq.devices.address import Address, parse_address
from edgeq.devices.catalogue import load_device
from edgeq.places.place import Here
from edgeq.places.transports import place_for
from tests.devices.test_catalogue import TEXT

_PATHS = st.text(st.characters(codec="utf-8").filter(str.isprintable), max_size=20).map(
    lambda text: f"/{text}"
)
_DIRECTORY = {"directory": st.none() | _PATHS}
_OPTIONS = _DIRECTORY | {"python": st.none() | _PATHS}
_WORDS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,9}", fullmatch=True)
_HOSTS = _WORDS | st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str)
_SSH = st.builds(
    Address,
    kind=st.just("ssh"),
    host=_HOSTS,
    user=st.none() | _WORDS,
    port=st.none() | st.integers(1, 65535),
    **_OPTIONS,
)
_ADB = st.builds(
    Address,
    kind=st.just("adb"),
    serial=st.none() | _WORDS,
    library=st.none() | _PATHS,
    **_DIRECTORY,
)
_LOCAL = st.sampled_from([Address("here"), Address("emulate")])


@given(_SSH | _ADB | _LOCAL)
def test_an_address_is_read_as_it_was_written(address: Address) -> None:
    assert parse_address(address.text) == address


def test_what_is_not_said_is_left_to_the_users_settings() -> None:
    assert parse_address("ssh://pi5") == Address("ssh", host="pi5")
    assert parse_address("ssh://pi@[fe80::1%eth0]:22/").host == "fe80::1%eth0"
    assert parse_address("adb:192.168.1.7:5555").serial == "192.168.1.7:5555"


@pytest.mark.parametrize(
    ("text", "said", "remedy"),
    [
        ("hear", "not the address of a device", "here, ssh://"),
        ("ssh:pi5", "not the address of a device", "ssh://user@host[:port]"),
        ("ssh://", "does not name a host", "ssh://user@host"),
        ("ssh://pi@pi5:0", "0 is not a valid port", "1 to 65535"),
        ("ssh://pi@pi5:65536", "65536 is not a valid port", "1 to 65535"),
        ("ssh://pi@-oProxyCommand=x", "does not name a host", "ssh://user@host"),
        ("ssh://pi:secret@pi5", "password", "ssh-copy-id"),
        ("ssh://pi5/home/pi", "does not name a host", "ssh://user@host"),
        ("ssh://pi5?pyton=/usr/bin/python3", "'pyton'", "'python'"),
        ("ssh://pi5?python=python3", "not an absolute path", "/path/there"),
        ("ssh://pi5?python=/a%0Ab", "not an absolute path", "/path/there"),
        ("ssh://pi5?directory=/a%1B[2J", "not an absolute path", "/path/there"),
        ("ssh://pi5?library=lib.so", "not an absolute path", "library=/path/here"),
        ("adb?python=/a&library=/b", "exclude each other", "leave out library"),
        ("ssh://pi5:\u0662\u0662", "does not name a host", "ssh://user@host"),
        ("ssh://\u00fc@pi5", "does not name a host", "ssh://user@host"),
        ("ssh://pi5\n", "does not name a host", "ssh://user@host"),
        ("adb:R58\n", "does not name a device", "adb devices"),
        ("ssh://pi5?", "cannot be read", "?python="),
        ("ssh://pi5?python=/a&python=/b", "cannot be read", "?python="),
        ("adb:", "does not name a device", "adb devices"),
        ("adb:-s x", "does not name a device", "adb devices"),
        ("here?python=/a", "takes no options", "'here'"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused(text: str, said: str, remedy: str) -> None:
    with pytest.raises(PydanticCustomError) as raised:
        parse_address(text)
    assert raised.value.context is not None
    assert said in raised.value.context["what"]
    assert remedy in raised.value.context["remedy"]
    with pytest.raises(InvalidInput, match="reach"):
        place_for(text)


def test_a_profile_says_how_its_device_is_reached(tmp_path: Path) -> None:
    path = tmp_path / "pi5-8gb.yaml"
    path.write_text(f"{TEXT}\nreach: ssh://pi@pi5.local:2222\n", encoding="utf-8")
    assert load_device(str(path)).reach == "ssh://pi@pi5.local:2222"
    path.write_text(f"{TEXT}\nreach: ssh://pi:secret@pi5.local\n", encoding="utf-8")
    with pytest.raises(
        InvalidInput, match=r"pi5-8gb\.yaml:\d+:\d+: reach: an address must not contain a password"
    ):
        load_device(str(path))


def test_here_and_emulate_are_places_of_this_machine() -> None:
    assert isinstance(place_for("here"), Here)
    with pytest.raises(InvalidInput, match="needs a device"):
        place_for("emulate")
    stand_in = Here()
    assert place_for("emulate", lambda: stand_in) is stand_in
