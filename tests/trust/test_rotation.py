"""The operator's own certificates over years: whoever trusts what a pod has mounted is trusted, whatever is broken."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge_operator.trust.material import AUTHORITIES, CERTIFICATE, KEY, read_certificates, read_material
from weighbridge_operator.trust.minting import CLIENT, LIFE, SERVER, issue, make_authority
from weighbridge_operator.trust.rotation import (
    NEXT,
    OVERLAP,
    SIGNING,
    Entries,
    Step,
    envoy_identity,
    names_of,
    plan_leaf,
    plan_own,
    server_names,
)
from weighbridge_operator.trust.steps import take_leaf, take_own

NOW = datetime(2026, 3, 1, tzinfo=UTC)
NAMES = server_names("operator", "weighbridge")
IDENTITY = envoy_identity("weighbridge")


def settle(own: Entries, client: Entries, now: datetime) -> tuple[Entries, Entries, list[Step]]:
    """Steps until nothing is left to do."""
    taken: list[Step] = []
    while (step := plan_own(own, NAMES, now)) is not Step.KEEP:
        own = take_own(step, own, NAMES, now)
        taken.append(step)
        assert len(taken) < 8, taken
    while (step := plan_leaf(own, client, IDENTITY, now)) is not Step.KEEP:
        client = take_leaf(step, own, client, IDENTITY, CLIENT, now)
        taken.append(step)
        assert len(taken) < 10, taken
    return own, client, taken


def trusts(authorities: bytes, leaf: bytes, now: datetime) -> bool:
    """Whether someone with these authorities accepts this certificate at this time."""
    certificate = read_certificates(leaf, CERTIFICATE)[0]
    for authority in read_certificates(authorities, AUTHORITIES):
        with suppress(ValueError, InvalidSignature):
            certificate.verify_directly_issued_by(authority)
            return all(c.not_valid_before_utc <= now < c.not_valid_after_utc for c in (certificate, authority))
    return False


def test_from_nothing_both_sides_are_made() -> None:
    own, client, taken = settle({}, {}, NOW)
    assert taken == [Step.MAKE, Step.REISSUE]
    assert set(own) == {AUTHORITIES, SIGNING, CERTIFICATE, KEY}
    assert set(client) == {AUTHORITIES, CERTIFICATE, KEY}, "an Envoy holds no key that signs"
    assert client[KEY] != own[KEY]
    server, envoy = (read_material(side, trusts=True, now=NOW) for side in (own, client))
    assert trusts(envoy.authorities, server.certificate, NOW)
    assert trusts(server.authorities, envoy.certificate, NOW)
    assert names_of(read_certificates(own[CERTIFICATE], "")[0]) == (NAMES, frozenset())
    assert names_of(read_certificates(client[CERTIFICATE], "")[0]) == (frozenset(), {IDENTITY})
    assert "operator.weighbridge.svc" in NAMES


def test_an_authority_is_announced_a_day_before_it_signs_and_the_old_one_stays() -> None:
    own, client, _ = settle({}, {}, NOW)
    later = NOW + timedelta(days=500)
    first = own[AUTHORITIES]
    own, client, taken = settle(own, client, later)
    assert taken == [Step.ANNOUNCE, Step.REISSUE, Step.REISSUE]
    assert own[AUTHORITIES].startswith(first)
    assert not trusts(own[AUTHORITIES].removeprefix(first), own[CERTIFICATE], later)
    own, client, taken = settle(own, client, later + OVERLAP - timedelta(minutes=1))
    assert taken == []
    own, client, taken = settle(own, client, later + OVERLAP)
    assert taken == [Step.PROMOTE, Step.REISSUE]
    assert NEXT not in own
    assert trusts(own[AUTHORITIES].removeprefix(first), own[CERTIFICATE], later + OVERLAP)
    assert own[AUTHORITIES].startswith(first)
    own, client, taken = settle(own, client, NOW + timedelta(days=800))
    assert Step.TRIM in taken
    assert first not in own[AUTHORITIES]


@settings(max_examples=40)
@given(
    hours=st.lists(st.integers(min_value=1, max_value=24 * 20), min_size=80, max_size=120),
    lags=st.lists(st.integers(min_value=0, max_value=3), min_size=120, max_size=120),
)
def test_over_years_nobody_is_ever_shut_out_by_an_hours_delay(hours: list[int], lags: list[int]) -> None:
    own, client, _ = settle({}, {}, NOW)
    now, history = NOW, [(NOW, own, client)]
    for pause, lag in zip(hours, lags, strict=False):
        now += timedelta(hours=pause)
        own, client, _ = settle(own, client, now)
        history.append((now, own, client))
        # What one side holds is as old as `lag` quarters of an hour after the change.
        moment = now + timedelta(minutes=15 * lag)
        mounted = [entry for entry in history if entry[0] <= moment - timedelta(minutes=45)] or history[:1]
        for server, envoy in ((own, mounted[-1][2]), (mounted[-1][1], client), (own, client)):
            assert trusts(envoy[AUTHORITIES], server[CERTIFICATE], moment)
            assert trusts(server[AUTHORITIES], envoy[CERTIFICATE], moment)
        assert len(read_certificates(own[AUTHORITIES], "")) <= 3


GOOD_OWN, GOOD_CLIENT, _ = settle({}, {}, NOW)
OTHER_OWN, _, _ = settle({}, {}, NOW - timedelta(days=400))
VALUES = st.sampled_from([*GOOD_OWN.values(), *GOOD_CLIENT.values(), *OTHER_OWN.values(), b"", b"junk", b"\xff" * 9])
ENTRIES = st.dictionaries(st.sampled_from([AUTHORITIES, SIGNING, NEXT, CERTIFICATE, KEY]), VALUES)


@settings(max_examples=150)
@given(own=ENTRIES, client=ENTRIES, days=st.integers(min_value=-30, max_value=1000))
def test_whatever_the_secrets_hold_it_ends_in_something_good(own: Entries, client: Entries, days: int) -> None:
    now = NOW + timedelta(days=days)
    own, client, _ = settle(own, client, now)
    server, envoy = (read_material(side, trusts=True, now=now) for side in (own, client))
    assert trusts(envoy.authorities, server.certificate, now)
    assert trusts(server.authorities, envoy.certificate, now)


def test_what_is_good_is_kept_to_the_byte_and_other_names_are_issued_anew() -> None:
    assert settle(GOOD_OWN, GOOD_CLIENT, NOW + timedelta(days=59))[2] == []
    assert settle(GOOD_OWN, GOOD_CLIENT, NOW + timedelta(days=61))[2] == [Step.REISSUE, Step.REISSUE]
    assert plan_own(GOOD_OWN, server_names("other", "weighbridge"), NOW) is Step.REISSUE
    assert plan_leaf(GOOD_OWN, GOOD_CLIENT, envoy_identity("other"), NOW) is Step.REISSUE


def test_an_authority_that_can_still_be_read_stays_trusted_when_the_key_that_signs_is_lost() -> None:
    broken = {name: value for name, value in GOOD_OWN.items() if name != SIGNING}
    own, _, taken = settle(broken, GOOD_CLIENT, NOW)
    assert taken[0] is Step.MAKE
    assert trusts(own[AUTHORITIES], GOOD_CLIENT[CERTIFICATE], NOW)


@pytest.mark.parametrize("uses", [SERVER, CLIENT, SERVER + CLIENT])
def test_a_leaf_has_the_uses_it_was_given_and_signs_nothing(uses: tuple[x509.ObjectIdentifier, ...]) -> None:
    leaf = issue(make_authority(NOW), NOW, uses, dns=["a"]).certificate
    found = leaf.extensions
    assert list(found.get_extension_for_class(x509.ExtendedKeyUsage).value) == list(uses)
    assert not found.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not found.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    assert leaf.not_valid_after_utc - NOW == LIFE
