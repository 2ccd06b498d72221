"""A port that is taken is said to be, whoever has it and however they share it."""

from __future__ import annotations

import socket

import pytest

from support.envoy import free_port
from weighbridge_api.console import main
from weighbridge_operator.envoy_process import PortTakenError, check_port_free
from weighbridge_operator.ports import take_free_port


@pytest.mark.parametrize("shared", [False, True], ids=["exclusive", "reuse-port"])
@pytest.mark.parametrize(("taken", "asked"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")])
def test_a_taken_port_is_refused_with_a_remedy(taken: str, asked: str, shared: bool) -> None:
    with socket.socket() as other:
        if shared:  # as Envoy does: a second one would get half of the connections
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind((taken, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError) as refused:
            check_port_free(asked, port)
    assert str(refused.value) == f"port {port} of {asked} is taken; choose another with --port"


@pytest.mark.parametrize(("flag", "variable"), [("--port", "PORT=9000"), ("--admin", "ADMIN=127.0.0.1:9001")])
def test_the_demo_names_the_flag_and_the_variable_of_make(
    flag: str, variable: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        places = {"--port": "0", "--admin": f"127.0.0.1:{free_port()}"}
        places[flag] = f"127.0.0.1:{port}" if flag == "--admin" else str(port)
        assert main(["demo", *(part for place in places.items() for part in place)]) == 2
    told = f"weighbridge demo: port {port} of 127.0.0.1 is taken; choose another with {flag} (make demo {variable})\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize("command", ["up", "demo", "operator"])
@pytest.mark.parametrize("port", ["65536", "99999", "-1", "8o80", "٨٠"])
def test_a_number_that_is_no_port_is_refused_before_anything_starts(
    command: str, port: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, f"--port={port}"])
    assert ended.value.code == 2
    assert f"argument --port: {port!r}: give a number of 0 to 65535" in capsys.readouterr().err


def test_a_port_is_free_as_soon_as_its_listener_is_gone() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        caller = socket.create_connection(("127.0.0.1", port))
        served, _ = other.accept()
        served.close()  # first, so that it is the listener's side that waits for late packets
        caller.close()
    check_port_free("127.0.0.1", port)
    check_port_free("127.0.0.1", 0)


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(PortTakenError, match=r"192\.0\.2\.1 is not an address of this machine"):
        check_port_free("192.0.2.1", free_port())


def test_a_free_port_can_be_listened_on() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", take_free_port("127.0.0.1")))
